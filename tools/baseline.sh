#!/bin/sh
# Replaces proto/baseline.binpb, with which `make check` compares the API, by the API of this tree. Run it once for each
# release. Before the first release the API may break clients. CHANGELOG.md must then have changed since the baseline.
set -eu

cd "$(dirname "$0")/.."
buf=target/tools/npm/node_modules/.bin/buf
image=proto/baseline.binpb

fail() {
    echo "tools/baseline.sh: $*" >&2
    exit 1
}

if [ -e "$image" ] && ! "$buf" breaking proto --against "$image"; then
    grep -q '^## 0\.1\.0 (unreleased)$' CHANGELOG.md || fail "these changes break clients: they need another package"
    written=$(git log -1 --format=%H -- "$image")
    [ -z "$written" ] || ! git diff --quiet "$written" -- CHANGELOG.md ||
        fail "these changes break clients, and CHANGELOG.md says nothing new since the baseline"
fi
"$buf" build proto --exclude-source-info -o "$image"
