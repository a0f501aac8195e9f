#!/bin/sh
# Builds the programs of Kubernetes that go.mod pins into target/cluster/bin, from the Go module proxy. Does nothing
# when they are there and fit these files.
#
#   CLUSTER_JOBS   packages compiled at a time (default: go's own, the number of processors)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/../../.." && pwd)/target/cluster/bin
programs="kubelet kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubectl"

fail() {
    echo "tests/cluster/kubernetes/build.sh: $*" >&2
    exit 1
}

mkdir -p "$out"
# Two runs may start at once: the first one builds, the other waits for it.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$out/build.lock"
    flock 9
fi

want=$(cat "$here"/go.* "$here"/*/main.go "$here/build.sh" | cksum)
there=yes
for name in $programs; do
    [ -x "$out/$name" ] || there=no
done
if [ "$there" = yes ] && [ "$(cat "$out/stamp" 2>/dev/null)" = "$want" ]; then
    exit 0
fi

command -v go >/dev/null 2>&1 ||
    fail "go is not on PATH; install $(sed -n 's/^go \([0-9]*\.[0-9]*\).*/Go \1/p' "$here/go.mod") or later, see https://go.dev/dl/"

new=$out/new.$$
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$new"

cd "$here"
export GOWORK=off CGO_ENABLED=0
version=$(go list -mod=readonly -m -f '{{.Version}}' k8s.io/kubernetes) || fail "go could not read go.mod, see above"
minor=$(echo "$version" | cut -d. -f2)
# Helm and the kubelet read the version. A build of Kubernetes sets it in the same way.
package=k8s.io/component-base/version
ldflags="-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$minor"
for name in $programs; do
    echo "tests/cluster/kubernetes/build.sh: building $name" >&2
    # With an empty CLUSTER_JOBS, go chooses.
    go build -mod=readonly -buildvcs=false -trimpath ${CLUSTER_JOBS:+-p "$CLUSTER_JOBS"} -ldflags "$ldflags" \
        -o "$new/$name" "./$name" ||
        fail "go could not build $name (is the module proxy reachable? go env GOPROXY: $(go env GOPROXY))"
done

rm -f "$out/stamp"
for name in $programs; do
    mv "$new/$name" "$out/"
done
echo "$want" >"$out/stamp"
