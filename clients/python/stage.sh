#!/bin/sh
# Builds and tests the Python package in target/clients/python. Nothing is built in the source folders.
#
#   stage.sh install   creates a virtual environment with the packages of requirements.txt
#   stage.sh build     generates the code of the API, builds the wheel and installs it
#   stage.sh test      checks the types and runs the tests, on the servers that CHANGELOGD_TEST_* name
#   stage.sh example   runs examples/python on CHANGELOGD_TEST_EMBEDDED and CHANGELOGD_TEST_ON_KAFKA
#   stage.sh scenario  makes the calls of the file CHANGELOGD_TEST_SCENARIO, and writes CHANGELOGD_TEST_ANSWERS
#   stage.sh           all of them
#
# A step runs those before it if their files have changed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/target/clients/python
venv=$out/venv
wheels=$out/wheels
example=$root/examples/python

fail() {
    echo "clients/python/stage.sh: $*" >&2
    exit 1
}

pip() {
    python3 -m pip --python "$venv/bin/python" --quiet --disable-pip-version-check "$@"
}

# Prints a checksum of the files, their names included.
checksum() {
    find "$@" -type f ! -name '*.pyc' -print | LC_ALL=C sort | tr '\n' '\0' | xargs -0 cksum | cksum
}

install() {
    want=$(checksum "$here/requirements.txt" "$here/stage.sh" && python3 -VV)
    if [ "$(cat "$venv/stamp" 2>/dev/null)" = "$want" ]; then
        return
    fi
    rm -rf "$venv"
    # Debian's python3 has no ensurepip. pip itself is python3-pip.
    python3 -m venv --without-pip "$venv"
    pip install --no-deps --only-binary :all: --require-hashes -r "$here/requirements.txt" ||
        fail "pip could not install clients/python/requirements.txt, see above (is PyPI reachable?)"
    echo "$want" >"$venv/stamp"
}

build() {
    install
    want=$(checksum "$here/src" "$here/pyproject.toml" "$here/README.md" "$root/proto/changelog.proto" "$venv/stamp")
    if [ "$(cat "$out/stamp" 2>/dev/null)" = "$want" ]; then
        return
    fi
    rm -rf "$out/stamp" "$out/build" "$wheels"
    mkdir -p "$out/build/proto/changelogd/v1"
    cp -R "$here/src" "$here/pyproject.toml" "$here/README.md" "$out/build/"
    # The name under which the file is registered in each process that imports it.
    cp "$root/proto/changelog.proto" "$out/build/proto/changelogd/v1/"
    "$venv/bin/python" -m grpc_tools.protoc -I "$out/build/proto" --python_out="$out/build/src" \
        --pyi_out="$out/build/src" --grpc_python_out="$out/build/src" changelogd/v1/changelog.proto
    echo '"""Generated from proto/changelog.proto."""' >"$out/build/src/changelogd/v1/__init__.py"
    pip wheel --no-deps --no-index --no-build-isolation --wheel-dir "$wheels" "$out/build" >"$out/wheel.log" 2>&1 || {
        cat "$out/wheel.log" >&2
        fail "the wheel could not be built"
    }
    pip install --no-deps --no-index --force-reinstall "$wheels"/changelogd-*.whl
    echo "$want" >"$out/stamp"
}

test_package() {
    build
    cd "$here"
    MYPYPATH=$out/build/src:$here/tests "$venv/bin/python" -m mypy --cache-dir "$out/mypy" \
        "$out/build/src/changelogd" tests "$example"
    "$venv/bin/python" -m pytest -p no:cacheprovider --verbose
}

run_example() {
    build
    for address in "$CHANGELOGD_TEST_EMBEDDED" "$CHANGELOGD_TEST_ON_KAFKA"; do
        CHANGELOGD_ADDR=$address "$venv/bin/python" "$example/main.py" >"$out/example.txt"
        diff -u "$example/output.txt" "$out/example.txt" || fail "the example printed something else, see above"
    done
    cat "$out/example.txt"
}

run_scenario() {
    build
    "$venv/bin/python" "$here/tests/scenario.py" "$CHANGELOGD_TEST_SCENARIO" >"$CHANGELOGD_TEST_ANSWERS" ||
        fail "the scenario's program failed"
}

need() {
    for name in "$@"; do
        eval "[ -n \"\${$name:-}\" ]" || fail "$name is not set"
    done
}

command -v python3 >/dev/null || fail "python3 is not on PATH; on Debian: apt-get install python3 python3-pip"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$(python3 -V) is older than 3.11"
python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip; on Debian: apt-get install python3-pip"
# The source folders stay free of compiled files.
export PYTHONPYCACHEPREFIX="$out/pycache"
mkdir -p "$out"
# Of two runs, the second one waits.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$out/lock"
    flock 9
fi

example_servers="CHANGELOGD_TEST_EMBEDDED CHANGELOGD_TEST_ON_KAFKA"
test_servers="$example_servers CHANGELOGD_TEST_UNIX CHANGELOGD_TEST_SCRIPTED"
scenario_files="CHANGELOGD_TEST_SCENARIO CHANGELOGD_TEST_ANSWERS"
case "${1:-all}" in
    install) install ;;
    build) build ;;
    test)
        need $test_servers
        test_package
        ;;
    example)
        need $example_servers
        run_example
        ;;
    scenario)
        need $scenario_files
        run_scenario
        ;;
    all)
        need $test_servers $scenario_files
        test_package
        run_example
        run_scenario
        ;;
    *) fail "unknown step $1: install, build, test, example or scenario" ;;
esac
