#!/bin/sh
# Builds the Go programs pinned in go.mod (helm, grpcurl), helm4/go.mod, kustomize/go.mod and ghz/go.mod, and ours: the
# checker of histories (linearize), and those that evaluate rendered pods and policies (pod-security, admission). They
# go to target/tools/bin, and their sources come from the Go module proxy. Does nothing when the programs are there and
# fit these files, our sources and this script.
#
#   build.sh             all of these
#   build.sh linearize   linearize only
#   build.sh bench       those of `make bench` only, which no check needs: etcd, nats-server and ours (watchlag)
#
#   TOOLS_JOBS   packages compiled at a time (default 1: helm is large, and a check should leave room for others)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/.." && pwd)/target/tools

fail() {
    echo "tools/build.sh: $*" >&2
    exit 1
}

mkdir -p "$out"
# Two checks may start at once: the first one builds, the other waits for it.
if command -v flock >/dev/null 2>&1; then
    exec 9>"$out/build.lock"
    flock 9
fi

only=${1:-}
case $only in
'') wanted="helm helm4 kustomize grpcurl ghz linearize pod-security admission" stamp=$out/stamp ;;
linearize) wanted=linearize stamp=$out/stamp.linearize ;;
bench) wanted="etcd nats-server watchlag" stamp=$out/stamp.bench ;;
*) fail "usage: tools/build.sh [linearize|bench]" ;;
esac

if [ "$only" = bench ]; then
    # watchlag contains the generated code of the Go package.
    client=$here/../clients/go
    want=$(cat "$here"/bench/*/go.* "$here"/bench/*/*.go "$here"/bench/*/*/*.go "$client"/go.* \
        "$client"/changelogv1/*.go "$here/build.sh" | cksum)
else
    want=$(cat "$here/go.mod" "$here/go.sum" "$here"/*/go.* "$here"/*/*.go "$here/build.sh" | cksum)
fi
there=yes
for name in $wanted; do
    [ -x "$out/bin/$name" ] || there=no
done
if [ "$there" = yes ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
    exit 0
fi

command -v go >/dev/null 2>&1 ||
    fail "go is not on PATH; install $(sed -n 's/^go \([0-9]*\.[0-9]*\).*/Go \1/p' "$here/go.mod") or later, see https://go.dev/dl/"

new=$out/new.$$
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$new"

cd "$here"
# The pins are all that counts: no workspace above this directory, no C compiler, no version control data.
export GOWORK=off CGO_ENABLED=0

build() {
    name=$1 package=$2 ldflags=$3
    echo "tools/build.sh: building $name" >&2
    go build -mod=readonly -buildvcs=false -trimpath -p "${TOOLS_JOBS:-1}" -ldflags "-s -w $ldflags" \
        -o "$new/$name" "$package" ||
        fail "go could not build $package (is the module proxy reachable? go env GOPROXY: $(go env GOPROXY))"
}

version() {
    go list -mod=readonly -m -f '{{.Version}}' "$1" || fail "go could not read go.mod, see above"
}

if [ -z "$only" ]; then
    # Helm's own Makefile sets these too. Without them, helm renders and lints for Kubernetes 1.20 unless --kube-version
    # is given, and the chart would refuse that.
    helm=$(version helm.sh/helm/v3)
    minor=$(version k8s.io/client-go | sed 's/^v0\.\([0-9]*\)\..*/\1/')
    build helm helm.sh/helm/v3/cmd/helm "-X helm.sh/helm/v3/internal/version.version=$helm \
        -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=$minor \
        -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=$minor"
    build grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl \
        "-X main.version=$(version github.com/fullstorydev/grpcurl)"
    cd "$here/helm4"
    build helm4 helm.sh/helm/v4/cmd/helm "-X helm.sh/helm/v4/internal/version.version=$(version helm.sh/helm/v4)"
    cd "$here/kustomize"
    build kustomize sigs.k8s.io/kustomize/kustomize/v5 ""
    cd "$here/ghz"
    build ghz github.com/bojand/ghz/cmd/ghz "-X main.version=$(version github.com/bojand/ghz)"
    cd "$here"
    build pod-security changelogd/tools/pod-security ""
    build admission changelogd/tools/admission ""
fi
if [ "$only" = bench ]; then
    cd "$here/bench/etcd"
    build etcd go.etcd.io/etcd/server/v3 ""
    cd "$here/bench/nats-server"
    build nats-server github.com/nats-io/nats-server/v2 ""
    cd "$here/bench/watchlag"
    build watchlag changelogd/tools/bench/watchlag ""
else
    build linearize changelogd/tools/linearize ""
fi

# One by one: other tools live in target/tools/bin too.
rm -f "$stamp"
mkdir -p "$out/bin"
for name in $wanted; do
    mv "$new/$name" "$out/bin/"
done
echo "$want" >"$stamp"
