#!/bin/sh
# Fetches the gRPC libraries of Python, Node and Java, and Prometheus' Python library, into
# target/client-libraries. Compiles the Java program. Does nothing when all of it is there and fits the files here.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/target/client-libraries

fail() {
    echo "tests/clients/fetch.sh: $*" >&2
    exit 1
}

missing=
for tool in python3 npm node java javac mvn; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
[ -z "$missing" ] || fail "not found on PATH:$missing; on Debian:" \
    "apt-get install python3 python3-pip nodejs npm default-jdk-headless maven"
python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip; on Debian: apt-get install python3-pip"

mkdir -p "$out"
# Several test binaries may start at once: the first one fetches, the others wait for it.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$out/fetch.lock"
    flock 9
fi

want=$(cat "$here"/*.txt "$here"/node/package*.json "$here"/pom.xml "$here"/Call.java "$here"/fetch.sh | cksum)
if [ "$(cat "$out/stamp" 2>/dev/null)" = "$want" ]; then
    exit 0
fi

# Built in another directory and moved into place, so that an interrupted fetch leaves nothing half done.
new=$out/new.$$
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$new/node" "$new/java"

python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --root-user-action ignore --target "$new/python" -r "$here/requirements.txt" ||
    fail "pip could not install tests/clients/requirements.txt, see above (is PyPI reachable?)"
cp "$here"/node/package*.json "$new/node/"
(cd "$new/node" && npm ci --loglevel=error --no-audit --no-fund --ignore-scripts >/dev/null) ||
    fail "npm could not install tests/clients/node/package-lock.json, see above (is the npm registry reachable?)"
mvn --batch-mode --quiet -Dstyle.color=never -f "$here/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$new/java/libs" >"$new/mvn.log" 2>&1 || {
    cat "$new/mvn.log" >&2
    fail "mvn could not fetch the jars of tests/clients/pom.xml (is Maven Central reachable?)"
}
javac --release 17 -proc:none -cp "$new/java/libs/*" -d "$new/java/classes" "$here/Call.java" ||
    fail "javac could not compile tests/clients/Call.java"

rm -rf "$out/stamp" "$out/python" "$out/node" "$out/java"
mv "$new/python" "$new/node" "$new/java" "$out/"
echo "$want" >"$out/stamp"
