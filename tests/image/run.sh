#!/bin/bash
# Builds the image, checks what is in it, and runs it: as its own user, and as an arbitrary user of group 0.
#
#   tests/image/run.sh     takes about ten minutes on two cores, nearly all of it for the release build
#     --built              takes the image that target/image has
#     --twice              builds it once more, in another directory and without caches, and compares
#
# Needs root, and the packages that `.ci/setup image` installs. Needs no Docker and no registry. The network is used for
# Debian's packages and cargo's registry only, before the build. Ends with a table of what was checked.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/tests/image/lib.sh"
. "$root/tests/image/container.sh"
. "$root/tests/image/contents.sh"
. "$root/tests/image/serving.sh"

built=no twice=no
for argument; do
    case $argument in
    --built) built=yes ;;
    --twice) twice=yes ;;
    *) fail "usage: tests/image/run.sh [--built] [--twice]" ;;
    esac
done
require

rows=() failed=0
# row NAME COMMAND…: the command prints what was found, and fails if that is wrong.
row() {
    local name=$1 found status
    shift
    # A command whose status is asked for runs without `set -e`, unless it is a shell of its own.
    set +e
    found=$(set -e; "$@" 2>&1)
    status=$?
    set -e
    found=$(tail -n 1 <<<"$found" | cut -c1-80)
    if [ "$status" -eq 0 ]; then
        rows+=("ok"$'\t'"$name"$'\t'"$found")
    else
        failed=$((failed + 1))
        rows+=("FAILED"$'\t'"$name"$'\t'"$found")
        echo "FAILED  $name: $found" >&2
    fi
}

[ "$built" = yes ] || "$root/tests/image/build.sh"
read -r revision epoch <"$work/built" || fail "there is no image yet: leave out --built"

image=localhost/changelogd:$(version)
inspected=$(bud inspect --type image "$image")
image_config=$(jq .OCIv1.config <<<"$inspected")
container=$(bud from --pull-never "$image")
rootfs=$(bud mount "$container")
clean_up() {
    remove
    bud umount "$container" >/dev/null
    bud rm "$container" >/dev/null
}
trap clean_up EXIT

configuration
contents
serving 65532 65532
# As OpenShift does: a user that no file names, in group 0.
serving 1000680000 0

if [ "$twice" = yes ]; then
    "$root/tests/image/build.sh" --again
    row "a second build: layers" same_layers
    row "a second build: binary" same_binary
fi

printf '\n%s\n' "$image, $(jq -r '.OCIv1.os + "/" + .OCIv1.architecture' <<<"$inspected"):"
printf '%s\n' "${rows[@]}" | column -t -s $'\t'
printf '%d passed, %d failed\n' $((${#rows[@]} - failed)) "$failed"
[ "$failed" -eq 0 ]
