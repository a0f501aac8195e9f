#!/bin/sh
# Tests the Java package in this folder, and its example in examples/java.
#
#   stage.sh            all steps
#   stage.sh install    fetches and compiles, because Maven fetches what a step needs when the step runs
#   stage.sh build      the same
#   stage.sh test       runs the tests, on the servers that CHANGELOGD_TEST_EMBEDDED and others name
#   stage.sh example    runs the example on two of these servers, and compares its output
#   stage.sh scenario   makes the calls of the file CHANGELOGD_TEST_SCENARIO, and writes CHANGELOGD_TEST_ANSWERS
#
# What it builds is in target/clients/java. Maven keeps what it fetches in its local repository. It has no lock file:
# the versions in the pom files are exact, and a file with a wrong checksum is refused.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/target/clients/java

fail() {
    echo "clients/java/stage.sh: $*" >&2
    exit 1
}

missing=
for tool in java javac mvn; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
[ -z "$missing" ] || fail "not found on PATH:$missing; on Debian: apt-get install default-jdk-headless maven"

maven() {
    mvn --batch-mode --no-transfer-progress --strict-checksums -Dstyle.color=never "$@"
}

# What the build depends on.
checksum() {
    (cd "$root" && find clients/java examples/java proto/changelog.proto -type f -exec cksum {} + | sort | cksum)
}

build() {
    [ "$(cat "$out/build.stamp" 2>/dev/null)" != "$(checksum)" ] || return 0
    maven --quiet -f "$here/reactor.xml" test-compile ||
        fail "mvn could not fetch or compile, see above (is Maven Central reachable?)"
    checksum >"$out/build.stamp"
}

run_tests() {
    build
    maven -f "$here/pom.xml" surefire:test
}

run_example() {
    build
    for server in CHANGELOGD_TEST_EMBEDDED CHANGELOGD_TEST_ON_KAFKA; do
        eval "address=\${$server:-}"
        [ -n "$address" ] || fail "$server is not set"
        CHANGELOGD_ADDR=$address java -cp "$out/example/classes:$(cat "$out/example/classpath")" Quickstart \
            >"$out/example.out" || fail "the example failed on $server"
        diff "$root/examples/java/output.txt" "$out/example.out" ||
            fail "the example printed something else on $server"
        echo "the example works on $server"
    done
}

run_scenario() {
    build
    classes=$out/client/test-classes:$out/client/classes
    java -cp "$classes:$(cat "$out/client/classpath")" dev.changelogd.client.Scenario "$CHANGELOGD_TEST_SCENARIO" \
        >"$CHANGELOGD_TEST_ANSWERS" || fail "the scenario's program failed"
}

case ${1:-all} in
    install | build) build ;;
    test) run_tests ;;
    example) run_example ;;
    scenario) run_scenario ;;
    all)
        run_tests
        run_example
        run_scenario
        ;;
    *) fail "no step $1: install, build, test, example or scenario" ;;
esac
