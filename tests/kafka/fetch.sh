#!/bin/sh
# Fetches Apache Kafka and the libraries that it needs from Maven Central into target/kafka/libs, and compiles the
# oracle into target/kafka/classes. Does nothing when both are there and fit pom.xml and the Java sources.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/target/kafka

fail() {
    echo "tests/kafka/fetch.sh: $*" >&2
    exit 1
}

missing=
for tool in java javac mvn; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
[ -z "$missing" ] || fail "not found on PATH:$missing; install a JDK (17 or later) and Maven, on Debian:" \
    "apt-get install default-jdk-headless maven"

mkdir -p "$out"
# Several test binaries may start at once: the first one fetches, the others wait for it.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$out/fetch.lock"
    flock 9
fi

want=$(cat "$here/pom.xml" "$here"/oracle/*.java | cksum)
if [ "$(cat "$out/stamp" 2>/dev/null)" = "$want" ]; then
    exit 0
fi

# Built in another directory and moved into place, so that an interrupted fetch leaves no incomplete class path.
new=$out/new.$$
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$new/libs" "$new/classes"

mvn --batch-mode --quiet -Dstyle.color=never -f "$here/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$new/libs" >"$new/mvn.log" 2>&1 || {
    cat "$new/mvn.log" >&2
    fail "mvn could not fetch Kafka's jars (is Maven Central, https://repo1.maven.org, reachable?)"
}
javac --release 17 -proc:none -cp "$new/libs/*" -d "$new/classes" \
    "$here"/oracle/*.java || fail "javac could not compile tests/kafka/oracle"

rm -rf "$out/stamp" "$out/libs" "$out/classes"
mv "$new/libs" "$new/classes" "$out/"
echo "$want" >"$out/stamp"
