#!/bin/sh
# Builds and tests the package in target/clients/typescript. Steps: install, build, test, example, scenario; without
# one, all.
# A step that others need runs with them, and only if its files have changed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
example=$root/examples/typescript
out=$root/target/clients/typescript

fail() {
    echo "clients/typescript/stage.sh: $*" >&2
    exit 1
}

# One checksum of files, their names included.
sum() {
    find "$@" -type f -exec cksum {} + | sort | cksum
}

is_done() { # step, checksum
    [ "$(cat "$out/$1.done" 2>/dev/null)" = "$2" ]
}

install() {
    for tool in node npm; do
        command -v "$tool" >/dev/null || fail "$tool is not on PATH; install Node 20.3 or later; on Debian: nodejs npm"
    done
    node -e 'const [major, minor] = process.versions.node.split(".").map(Number);
        process.exit(major > 20 || (major === 20 && minor >= 3) ? 0 : 1)' ||
        fail "Node $(node --version) is too old; install 20.3 or later"
    want="$(sum "$here/package.json" "$here/package-lock.json" "$here/.npmrc") $(node --version)"
    is_done install "$want" && return
    mkdir -p "$out"
    rm -f "$out/install.done"
    cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$out/"
    (cd "$out" && npm ci --loglevel=error --no-audit --no-fund --ignore-scripts >/dev/null) ||
        fail "npm could not install package-lock.json, see above (is the npm registry reachable?)"
    echo "$want" >"$out/install.done"
}

build() {
    install
    want="$(sum "$here" "$example" "$root/proto")"
    is_done build "$want" && return
    cd "$out"
    rm -rf build.done proto src test dist example ./*.tgz
    mkdir -p proto/changelogd/v1 proto/google/rpc example/node_modules/changelogd
    # The package's name is a part of the file's name, because some languages register file names for a whole process.
    cp "$root/proto/changelog.proto" proto/changelogd/v1/
    cp "$root/proto/google/rpc/error_details.proto" proto/google/rpc/
    cp -R "$here/src" "$here/test" "$here/tsconfig.json" "$here/buf.gen.yaml" "$here/README.md" .
    npm run --silent generate
    npm run --silent build
    # The example uses the package as it would be published.
    tarball=$(npm pack --silent)
    tar -xzf "$tarball" -C example/node_modules/changelogd --strip-components=1
    cp "$example"/*.ts "$example"/*.json example/
    npx --no-install tsc --project example
    echo "$want" >build.done
}

tests() {
    build
    (cd "$out" && npm run --silent test)
}

example() {
    build
    for server in EMBEDDED ON_KAFKA; do
        address=$(printenv "CHANGELOGD_TEST_$server") || fail "CHANGELOGD_TEST_$server is not set"
        CHANGELOGD_ADDR=$address node "$out/example/quickstart.js" >"$out/output.txt" ||
            fail "the example failed on $server"
        diff "$example/output.txt" "$out/output.txt" || fail "the example printed something else on $server"
    done
    cat "$out/output.txt"
}

scenario() {
    build
    [ -n "${CHANGELOGD_TEST_SCENARIO:-}" ] || fail "CHANGELOGD_TEST_SCENARIO is not set"
    node "$out/dist/test/scenario.js" "$CHANGELOGD_TEST_SCENARIO" >"$CHANGELOGD_TEST_ANSWERS" ||
        fail "the scenario's program failed"
}

case "${1-}" in
install) install ;;
build) build ;;
test) tests ;;
example) example ;;
scenario) scenario ;;
'')
    tests
    example
    scenario
    ;;
*) fail "unknown step $1; the steps are install, build, test, example and scenario" ;;
esac
