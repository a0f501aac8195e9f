#!/bin/sh
# Lints the chart. Renders it, and charts that depend on it, with Helm 3 and Helm 4 for several Kubernetes versions.
# Checks the rendered files and the refused values. Validates what is rendered against the schemas of the Kubernetes
# version and the pod security standards. Needs no cluster, and no network except for tools/build.sh and tools/fetch.sh.
#
# Prints one line per case, then `N passed, N failed`. Exits with 1 if any failed. The rendered files stay in
# target/chart/rendered/<kubernetes version>, one per case.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/target/chart
helm=$root/target/tools/bin/helm
helm4=$root/target/tools/bin/helm4
chart=$root/helm/changelogd
oldest=1.27.0 native=1.29.0 recent=1.33.0 newest=1.37.0

"$root/tools/build.sh"
"$root/tools/fetch.sh"

rm -rf "$work"
mkdir -p "$work"
# Directories of our own: the user's plugins, repositories and cluster must not change the rendered files.
export HELM_CACHE_HOME="$work/helm/cache" HELM_CONFIG_HOME="$work/helm/config" HELM_DATA_HOME="$work/helm/data"
export HELM_PLUGINS="$work/helm/plugins" KUBECONFIG=/dev/null

. "$here/lib.sh"

# They depend on the chart by a relative path, which holds in the copies too: they are as deep as the originals.
dependent() {
    cp -R "$1" "$work/$2"
    "$helm" dependency build "$work/$2" >"$work/out" 2>&1 || {
        cat "$work/out" >&2
        exit 1
    }
}
dependent "$here/consumer" consumer
dependent "$here/pieces" pieces
dependent "$here/two" two
dependent "$root/examples/kubernetes/chart" example-chart
dependent "$root/examples/kubernetes/classic" example-classic
consumer=$work/consumer pieces=$work/pieces two=$work/two

# `helm template` leaves the notes out, and `helm install --dry-run` asks a cluster. So a copy of the chart has them in
# a template, and its values as JSON in another.
with_notes=$work/notes
cp -R "$chart" "$with_notes"
{
    echo 'notes: |'
    sed 's/^/  /' "$chart/templates/NOTES.txt"
} >"$with_notes/templates/notes.yaml"
echo 'values: {{ toJson .Values }}' >"$with_notes/templates/values.yaml"

kafka='kafka.brokers={kafka-0:9092,kafka-1:9092}'

. "$here/renders.sh"
. "$here/names.sh"
. "$here/strimzi.sh"
. "$here/manifests.sh"
. "$here/refuses.sh"
. "$here/program.sh"
. "$here/monitoring.sh"
. "$here/files.sh"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
