#!/usr/bin/env bash
# Compares the base images of the Dockerfile with their registries. Needs Docker with buildx, jq and the network.
#
#   tools/base-images.sh           each pinned digest must be there, for amd64 and arm64; says which tags have moved on
#   tools/base-images.sh --write   pins what the tags name today
set -euo pipefail
cd "$(dirname "$0")/.."

write=no
case ${1:-} in
'') ;;
--write) write=yes ;;
*) echo "usage: tools/base-images.sh [--write]" >&2; exit 64 ;;
esac

for tool in docker jq; do
    command -v "$tool" >/dev/null || { echo "tools/base-images.sh: $tool is not on PATH" >&2; exit 1; }
done

# The architectures of an index; nothing for an image of one architecture.
architectures() {
    docker buildx imagetools inspect --raw "$1" |
        jq -r '.manifests // [] | .[].platform | select(.os == "linux") | .architecture' | sort -u
}

failed=0 images=0
while read -r image; do
    images=$((images + 1))
    tagged=${image%@*} pinned=${image#*@}
    now=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$tagged")
    if [ "$write" = yes ]; then
        [[ $now =~ ^sha256:[0-9a-f]{64}$ ]] || { echo "$tagged: the registry answered $now" >&2; exit 1; }
        sed -i "s|^FROM $image|FROM $tagged@$now|" Dockerfile
        pinned=$now
    elif [ "$pinned" = "$image" ]; then
        echo "$image is not pinned: tools/base-images.sh --write" >&2
        failed=1
        continue
    elif [ "$now" != "$pinned" ]; then
        echo "$tagged has moved on from $pinned to $now"
    fi
    found=$(architectures "${tagged%:*}@$pinned")
    for wanted in amd64 arm64; do
        if ! grep -qx "$wanted" <<<"$found"; then
            echo "$tagged@$pinned has no image for linux/$wanted" >&2
            failed=1
        fi
    done
done < <(sed -n 's/^FROM \([^ ]*\).*/\1/p' Dockerfile)
[ "$images" -gt 0 ] || { echo "the Dockerfile has no line FROM" >&2; exit 1; }
exit "$failed"
