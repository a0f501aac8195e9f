#!/bin/sh
# Tests the Go package in this folder, and its example in examples/go.
#
#   stage.sh            all steps
#   stage.sh install    fetches the modules that go.sum names, and buf
#   stage.sh build      compiles, and fails if changelogv1 is not what the .proto file gives
#   stage.sh test       runs the tests, on the servers that CHANGELOGD_TEST_EMBEDDED and others name
#   stage.sh example    runs the example on two of these servers, and compares its output
#   stage.sh scenario   makes the calls of the file CHANGELOGD_TEST_SCENARIO, and writes CHANGELOGD_TEST_ANSWERS
#   stage.sh generate   writes changelogv1, after a change of the .proto file
#
# What it builds is in target/clients/go. Go keeps modules and compiled packages in its own caches.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
example=$root/examples/go
out=$root/target/clients/go

fail() {
    echo "clients/go/stage.sh: $*" >&2
    exit 1
}

# What a step depends on.
checksum() {
    (cd "$root" && find clients/go examples/go proto/changelog.proto tools/npm -type f -exec cksum {} + | sort | cksum)
}

is_done() {
    [ "$(cat "$out/$1.stamp" 2>/dev/null)" = "$(checksum)" ]
}

install() {
    ! is_done install || return 0
    for module in "$here" "$here/generate" "$example"; do
        (cd "$module" && go mod download) || fail "go could not fetch the modules of $module/go.mod"
    done
    "$root/tools/fetch.sh"
    checksum >"$out/install.stamp"
}

# Generates into target/clients/go/generated.
generated() {
    (cd "$here/generate" && go build -o "$out/bin/" tool) || fail "go could not build the generators"
    rm -rf "$out/proto" "$out/generated"
    mkdir -p "$out/proto/changelogd/v1"
    # All packages in a Go program share a registry of file names, so the file needs a folder of its own.
    cp "$root/proto/changelog.proto" "$out/proto/changelogd/v1/"
    (
        cd "$out/proto"
        PATH=$out/bin:$root/target/tools/npm/node_modules/.bin:$PATH
        buf generate --template "$here/generate/buf.gen.yaml" --output "$out/generated" .
    ) || fail "buf could not generate from proto/changelog.proto"
}

build() {
    install
    ! is_done build || return 0
    generated
    diff -r "$out/generated/changelogv1" "$here/changelogv1" >"$out/drift.diff" 2>&1 ||
        fail "changelogv1 differs from proto/changelog.proto (see $out/drift.diff): run clients/go/stage.sh generate"
    unformatted=$(gofmt -l "$here" "$example")
    [ -z "$unformatted" ] || fail "gofmt would change $unformatted"
    for module in "$here" "$example"; do
        (cd "$module" && go vet ./...) || fail "go vet found something in $module, see above"
    done
    (cd "$here" && go test -c -o "$out/changelogd.test" .) || fail "the tests do not compile"
    (cd "$here" && go build -o "$out/scenario" ./internal/scenario) || fail "the scenario's program does not compile"
    (cd "$example" && go build -o "$out/quickstart" .) || fail "the example does not compile"
    checksum >"$out/build.stamp"
}

run_tests() {
    build
    "$out/changelogd.test" -test.v -test.timeout 2m
}

run_example() {
    build
    for variable in CHANGELOGD_TEST_EMBEDDED CHANGELOGD_TEST_ON_KAFKA; do
        eval "address=\${$variable:-}"
        [ -n "$address" ] || fail "$variable is not set"
        CHANGELOGD_ADDR=$address "$out/quickstart" >"$out/output.txt" || fail "the example failed on $address"
        diff "$example/output.txt" "$out/output.txt" || fail "the example printed something else on $address"
    done
}

run_scenario() {
    build
    "$out/scenario" "$CHANGELOGD_TEST_SCENARIO" >"$CHANGELOGD_TEST_ANSWERS" || fail "the scenario's program failed"
}

command -v go >/dev/null 2>&1 || fail "go is not on PATH; install Go 1.26 or later, see https://go.dev/dl/"
command -v "${CC:-gcc}" >/dev/null 2>&1 ||
    fail "${CC:-gcc} is not on PATH, and the race detector needs it; on Debian: apt-get install gcc"
# The modules here are all that counts: no workspace above them, no other toolchain. Everything is built with the race
# detector, so that dependencies are compiled once.
export GOWORK=off GOTOOLCHAIN=local CGO_ENABLED=1 GOFLAGS='-mod=readonly -buildvcs=false -race'
mkdir -p "$out/bin"

case ${1:-} in
install | build) "$1" ;;
test) run_tests ;;
example) run_example ;;
scenario) run_scenario ;;
generate)
    install
    generated
    rm -rf "$here/changelogv1"
    cp -R "$out/generated/changelogv1" "$here/changelogv1"
    ;;
'')
    run_tests
    run_example
    run_scenario
    ;;
*) fail "usage: clients/go/stage.sh [install|build|test|example|scenario|generate]" ;;
esac
