#!/bin/sh
# Fetches Apache Kafka and the libraries that it needs from Maven Central into target/kafka/libs, and compiles the
# oracle into target/kafka/classes. With a version (3.9), it fetches the brokers of pom-3.9.xml into
# target/kafka/3.9/libs instead. Does nothing when what it would fetch is there and fits the pom and the Java sources.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
version=${1:-}
pom=$here/pom${version:+-$version}.xml
out=$root/target/kafka${version:+/$version}

fail() {
    echo "tests/kafka/fetch.sh: $*" >&2
    exit 1
}

[ -f "$pom" ] || fail "there is no Kafka $version to fetch: $pom is missing"

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

if [ -n "$version" ]; then
    want=$(cksum <"$pom")
else
    want=$(cat "$pom" "$here"/oracle/*.java | cksum)
fi
if [ "$(cat "$out/stamp" 2>/dev/null)" = "$want" ]; then
    exit 0
fi

# Built in another directory and moved into place, so that an interrupted fetch leaves no incomplete class path.
new=$out/new.$$
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$new/libs" "$new/classes"

mvn --batch-mode --quiet -Dstyle.color=never -f "$pom" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$new/libs" >"$new/mvn.log" 2>&1 || {
    cat "$new/mvn.log" >&2
    fail "mvn could not fetch Kafka's jars (is Maven Central, https://repo1.maven.org, reachable?)"
}
if [ -z "$version" ]; then
    javac --release 17 -proc:none -cp "$new/libs/*" -d "$new/classes" \
        "$here"/oracle/*.java || fail "javac could not compile tests/kafka/oracle"
fi

rm -rf "$out/stamp" "$out/libs" "$out/classes"
mv "$new/libs" "$new/classes" "$out/"
echo "$want" >"$out/stamp"
