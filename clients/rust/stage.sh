#!/bin/sh
# Tests the Rust client package and its example, as `make clients` does.
#
#   stage.sh [install|build|test|example|scenario]    without an argument: all of them
#
# Cargo installs what Cargo.lock names, builds below target/, and does nothing twice.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"

fail() {
    echo "clients/rust/stage.sh: $*" >&2
    exit 1
}

command -v cargo >/dev/null 2>&1 || fail "cargo is not on PATH; install Rust with rustup: https://rustup.rs"

install() {
    cargo fetch --locked --quiet
}

build() {
    cargo build --locked --quiet -p changelogd-client -p changelogd-example-client
    cargo test --locked --quiet -p changelogd-client --lib --test behaviour --no-run
    cargo build --locked --quiet -p changelogd-client --example scenario
}

# The second command tests the programs in the README.
run_tests() {
    cargo test --locked -p changelogd-client --lib --test behaviour
    cargo test --locked -p changelogd-client --doc
}

# The output on each store is the same, and is what the example's README shows.
example() {
    : "${CHANGELOGD_TEST_EMBEDDED:?names no server: \`make clients\` starts them}"
    : "${CHANGELOGD_TEST_ON_KAFKA:?names no server: \`make clients\` starts them}"
    printed=target/clients/rust/example.txt
    mkdir -p target/clients/rust
    for address in "$CHANGELOGD_TEST_EMBEDDED" "$CHANGELOGD_TEST_ON_KAFKA"; do
        CHANGELOGD_ADDR=$address cargo run --locked --quiet -p changelogd-example-client >"$printed"
        diff -u examples/rust/expected.txt "$printed" || fail "the example printed other lines"
        echo "the example printed what was expected at $address"
    done
}

scenario() {
    : "${CHANGELOGD_TEST_SCENARIO:?names no file of calls: \`make clients\` writes it}"
    : "${CHANGELOGD_TEST_ANSWERS:?names no file for the answers: \`make clients\` reads it}"
    cargo run --locked --quiet -p changelogd-client --example scenario -- "$CHANGELOGD_TEST_SCENARIO" \
        >"$CHANGELOGD_TEST_ANSWERS" || fail "the scenario's program failed"
}

case ${1:-all} in
    install) install ;;
    build) build ;;
    test) run_tests ;;
    example) example ;;
    scenario) scenario ;;
    all) install; build; run_tests; example; scenario ;;
    *) fail "no step $1: install, build, test, example, scenario" ;;
esac
