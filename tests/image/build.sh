#!/bin/bash
# Builds the image from the Dockerfile, without Docker, a registry or the network: target/image/changelogd.tar, an OCI
# archive that holds localhost/changelogd:VERSION.
#
#   tests/image/build.sh           of HEAD's commit and time, as labels say; the files are those of the checkout
#   tests/image/build.sh --if-needed
#                                  only if target/image has none of this commit, or files have changed since
#   tests/image/build.sh --again   once more, from a copy in another directory and without caches, with the same commit
#                                  and time: localhost/changelogd:again, to compare
#
# The two base images are made on the spot from Debian's packages, and stand in for those that the FROM lines name. The
# Rust toolchain and cargo's registry of this machine are mounted read-only.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/tests/image/lib.sh"
. "$root/tests/image/bases.sh"
require
mkdir -p "$work/tmp"

name=localhost/changelogd:$(version)
if [ "${1:-}" = --if-needed ]; then
    if [ -e "$work/changelogd.tar" ] && [ -z "$(git -C "$root" status --porcelain)" ] &&
        [ "$(cut -d' ' -f1 "$work/built" 2>/dev/null)" = "$(git -C "$root" rev-parse HEAD)" ]; then
        exit
    fi
    shift
fi
case ${1:-} in
'')
    # Cache mounts are below it, and stay for the next build.
    context=$root scratch=$work/tmp
    # What an interrupted build left, and the images of earlier ones.
    bud rm --all >/dev/null
    bud rmi --prune --force >/dev/null
    revision=$(git -C "$root" rev-parse HEAD)
    epoch=$(git -C "$root" log -1 --format=%ct)
    ;;
--again)
    again=$work/again
    context=$again/context scratch=$again/tmp
    read -r revision epoch <"$work/built" || fail "there is no image yet: tests/image/build.sh"
    name=localhost/changelogd:again
    rm -rf "$again"
    mkdir -p "$context" "$scratch"
    (cd "$root" && git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$context")
    ;;
*) fail "usage: tests/image/build.sh [--if-needed | --again]" ;;
esac

# Everything that the build compiles, so that it can be offline. `cargo install` has no option that only downloads.
(cd "$root" && cargo fetch --locked --quiet)
auditable=$(sed -n 's/.*cargo install .*--version \([^ ]*\) .*cargo-auditable$/\1/p' "$root/Dockerfile")
[ -n "$auditable" ] || fail "the Dockerfile installs no cargo-auditable"
cargo install --quiet --locked --version "$auditable" --root "$root/target/tools/cargo" cargo-auditable

build_base=$(base_names | sed -n 1p) final_base=$(base_names | sed -n 2p)
[ "$(base_names | wc -l)" -eq 2 ] || fail "the Dockerfile has other than two FROM lines"
make_bases

cargo_home=${CARGO_HOME:-$HOME/.cargo}
options=(
    --isolation chroot --no-cache --timestamp "$epoch" --tag "$name"
    --build-context "$build_base=docker-image://localhost/changelogd-base-build"
    --build-context "$final_base=docker-image://localhost/changelogd-base-final"
    --volume "$cargo_home/registry:/cargo/registry:ro"
    --volume "$(cd "$root" && rustc --print sysroot):/usr/local/rust:ro"
    --build-arg "VERSION=$(version)" --build-arg "REVISION=$revision" --build-arg "SOURCE_DATE_EPOCH=$epoch"
    --build-arg "CREATED=$(date --utc --date "@$epoch" +%Y-%m-%dT%H:%M:%SZ)"
)
# It takes minutes, and the machine may have other work.
TMPDIR=$scratch nice buildah "${store[@]}" build "${options[@]}" --file "$context/Dockerfile" "$context"
if [ "${1:-}" = --again ]; then
    rm -rf "$again"
    exit
fi
echo "$revision $epoch" >"$work/built"
rm -f "$work/changelogd.tar"
bud push --quiet "$name" "oci-archive:$work/changelogd.tar:$name"
echo "tests/image/build.sh: $name is in target/image/changelogd.tar"
