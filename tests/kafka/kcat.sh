#!/bin/sh
# Prints the path of a kcat that works: the one on PATH, else one unpacked from Debian's packages into
# target/kafka/kcat, which installs nothing and needs no root.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=$here/../../target/kafka
mkdir -p "$out"
out=$(cd "$out" && pwd)
kcat=$out/kcat/kcat

fail() {
    echo "tests/kafka/kcat.sh: $*" >&2
    exit 1
}

works() {
    "$1" -V >/dev/null 2>&1
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

if works kcat; then
    command -v kcat
    exit 0
fi

for tool in apt-get apt-cache dpkg dpkg-query; do
    command -v "$tool" >/dev/null 2>&1 ||
        fail "no kcat on PATH, and no $tool to fetch Debian's with; install kcat 1.7 or later"
done

# Several test binaries may start at once: the first one fetches, the others wait for it.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$out/kcat.lock"
    flock 9
fi
if works "$kcat"; then
    echo "$kcat"
    exit 0
fi

if ! ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1; then
    apt-get -q update >&2 || fail "there are no package lists, and apt-get update failed; run it as root, or install kcat"
fi
apt-cache show kcat >/dev/null 2>&1 || fail "apt knows no package kcat; run apt-get update as root, or install kcat"

new=$out/kcat.new.$$
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$new/debs"

# Asked for, not listed here: the libraries' names differ between releases.
packages=
for package in $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
    --no-enhances kcat | grep '^[a-z0-9][a-z0-9.+-]*$' | sort -u); do
    installed "$package" || packages="$packages $package"
done
# shellcheck disable=SC2086 # a list of names
(cd "$new/debs" && apt-get -q -o APT::Sandbox::User="$(id -un)" download $packages >&2) ||
    fail "apt-get could not download:$packages; install kcat, or run apt-get update as root"
for deb in "$new"/debs/*.deb; do
    dpkg -x "$deb" "$new"
done
rm -rf "$new/debs"

cat >"$new/kcat" <<'WRAPPER'
#!/bin/sh
# Made by tests/kafka/kcat.sh: kcat with the libraries that were unpacked beside it.
here=$(cd "$(dirname "$0")" && pwd)
for lib in "$here"/usr/lib "$here"/usr/lib/*-linux-* "$here"/lib/*-linux-*; do
    [ ! -d "$lib" ] || LD_LIBRARY_PATH=$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH
exec "$here/usr/bin/kcat" "$@"
WRAPPER
chmod +x "$new/kcat"
works "$new/kcat" || fail "the unpacked kcat does not run: $("$new/kcat" -V 2>&1 | tail -1); install kcat"

rm -rf "$out/kcat"
mv "$new" "$out/kcat"
echo "$kcat"
