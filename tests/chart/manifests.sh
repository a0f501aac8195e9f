#!/bin/sh
# The examples for Kubernetes, and the manifests for users without Helm. run.sh reads this file.

bin=$root/target/tools/bin
examples=$root/examples/kubernetes
deploy=$root/deploy/kubernetes

lints 'the example of an application' "$work/example-chart"
lints 'the example with a classic sidecar' "$work/example-classic"
for kube in $native $newest; do
    # Covers K2, K12.
    renders 'the example of an application' "$kube" "$work/example-chart" -- \
        '+name: rel-orders' '+restartPolicy: Always' '+CHANGELOGD_ADDR=127.0.0.1:50051' '+kind: Job' '+kind: Service' \
        '+KAFKA_CHANGELOG_TOPIC=orders-changelog' '+runAsUser: 10001'
done
# Covers K2.
renders 'the example of an application without its sidecar' $newest "$work/example-chart" \
    --set changelogd.enabled=false -- \
    '+name: rel-orders' '-initContainers:' '-kind: Job'
for kube in $oldest $newest; do
    # Covers K2, K12.
    renders 'the example with a classic sidecar' "$kube" "$work/example-classic" -- \
        '+command:' '+- changelogd wait --timeout 2m && exec orders' '-initContainers:' '+name: changelogd' \
        '+CHANGELOGD_DRAIN_DELAY=2s'
done

# builds NAME KUBE DIRECTORY -- [+FACT | -FACT]...
# kustomize builds it. Each +FACT is a line of it, and no -FACT is.
builds() {
    name="kustomize: $1, kubernetes $2" problems=
    file=$(echo "$1" | tr -cs 'A-Za-z0-9\n' -)
    mkdir -p "$work/rendered/$2"
    "$bin/kustomize" build "$3" >"$work/rendered/$2/kustomize-$file.yaml" 2>"$work/err" ||
        problem "not built: $(cat "$work/err")"
    facts "$work/rendered/$2/kustomize-$file.yaml" >"$work/facts"
    shift 4
    expect "$@"
    verdict "$name"
}

for kube in $oldest $newest; do
    # Covers K13.
    builds 'the embedded store' "$kube" "$deploy/embedded" -- \
        '+kind: StatefulSet' '+CHANGELOGD_STORE=embedded' '+CHANGELOGD_LISTEN=127.0.0.1:50051' '-kind: Deployment' \
        '-namespace: default' '-app.kubernetes.io/managed-by: Helm'
    # Covers K13.
    builds 'kafka' "$kube" "$deploy/kafka" -- '+kind: Deployment' '+CHANGELOGD_STORE=kafka' '-kind: Service'
    # Covers K13.
    builds 'an overlay' "$kube" "$examples/kustomize" -- \
        '+kind: Service' '+replicas: 3' '+namespace: orders' '+CHANGELOGD_LISTEN=[::]:50051' \
        '+CHANGELOGD_INSECURE_LISTEN=true' '+KAFKA_BROKERS=kafka-0.kafka:9092,kafka-1.kafka:9092' \
        '+CHANGELOGD_PARTITIONS=24' '+memory: 512Mi' '+cpu: 100m' '+name: changelogd-grpc' \
        '+image: registry.internal.example/platform/changelogd:0.1.0'
done
for kube in $native $newest; do
    # Covers K13.
    builds 'a Job with a sidecar' "$kube" "$examples/job" -- \
        '+kind: Job' '+restartPolicy: Always' '+restartPolicy: Never' '+name: changelogd-data' \
        '+enableServiceLinks: false' '+terminationGracePeriodSeconds: 30' '+CHANGELOGD_PARTITIONS=12' \
        '+KAFKA_BROKERS=kafka-0.kafka:9092,kafka-1.kafka:9092' '+KAFKA_CHANGELOG_TOPIC=orders-changelog'
done

# init_containers FILE: names of the init containers of a pod, in their order.
init_containers() {
    awk '/^ *initContainers:/ { match($0, /^ */); depth = RLENGTH; inside = 1; next }
        inside { match($0, /^ */); if (RLENGTH < depth || (RLENGTH == depth && !/^ *-/)) inside = 0 }
        inside && RLENGTH == depth + 2 && /^ *name:/ { print $2 }' "$1" | tr '\n' ' '
}

# The sidecar has to start before the others, which may use it.
# Covers K13.
the_sidecar_is_the_first_init_container() {
    problems=
    found=$(init_containers "$work/rendered/$newest/kustomize-a-Job-with-a-sidecar.yaml")
    [ "$found" = 'changelogd wait ' ] || problem "the Job has: $found"
    verdict 'kustomize: the sidecar is the first init container'
}
the_sidecar_is_the_first_init_container

# The manifests are those that the chart renders.
# Covers K13.
manifests_are_of_the_chart() {
    problems=
    node "$root/tools/kubernetes-yaml.mjs" --check >"$work/out" 2>&1 || problem "$(cat "$work/out")"
    verdict 'the manifests are those of the chart'
}
manifests_are_of_the_chart

# admits NAME POD -- [+FACT | -FACT]...
# The policy adds the sidecar to the pod, in $work/pod.yaml, and adds nothing to the result.
admits() {
    name="policy: $1" problems=
    "$bin/admission" "$examples/admission-policy/policy.yaml" "$2" >"$work/pod.yaml" 2>"$work/err" ||
        problem "not applied: $(cat "$work/err")"
    "$bin/admission" "$examples/admission-policy/policy.yaml" "$work/pod.yaml" >"$work/again.yaml" 2>"$work/err" ||
        problem "not applied again: $(cat "$work/err")"
    cmp -s "$work/pod.yaml" "$work/again.yaml" ||
        problem "applied again, it changes: $(diff "$work/pod.yaml" "$work/again.yaml")"
    cp "$work/pod.yaml" "$work/rendered/$newest/policy-$(echo "$1" | tr -cs 'A-Za-z0-9\n' -).yaml"
    facts "$work/pod.yaml" >"$work/facts"
    shift 3
    expect "$@"
    verdict "$name"
}

pod=$examples/admission-policy/pod.yaml
# Covers K13.
admits 'a pod with init containers' "$pod" -- \
    '+restartPolicy: Always' '+CHANGELOGD_ADDR=127.0.0.1:50051' '+LANG=C.UTF-8' '+name: changelogd-data'
# Covers K13.
the_policy_adds_the_sidecar_of_the_chart() {
    problems=
    found=$(init_containers "$work/pod.yaml")
    [ "$found" = 'changelogd migrate ' ] || problem "the init containers are: $found"
    [ "$(grep -c CHANGELOGD_ADDR "$work/pod.yaml")" -eq 2 ] || problem 'not both containers have the address'
    node "$here/same.mjs" "$root/target/tools" "$work/pod.yaml" "$deploy/sidecar/patch.yaml" >"$work/out" 2>&1 ||
        problem "$(cat "$work/out")"
    verdict 'policy: the sidecar is that of the chart'
}
the_policy_adds_the_sidecar_of_the_chart
sed '/initContainers:/,/^  containers:/{/^  containers:/!d}; /env:/,/value:/d' "$pod" >"$work/bare.yaml"
admits 'a pod without init containers and variables' "$work/bare.yaml" -- \
    '+initContainers:' '+CHANGELOGD_ADDR=127.0.0.1:50051' '-LANG=C.UTF-8' '-name: migrate'
sed 's/- name: LANG/- name: CHANGELOGD_ADDR/' "$pod" >"$work/own.yaml"
admits 'a pod with its own address' "$work/own.yaml" -- '+CHANGELOGD_ADDR=C.UTF-8' '+restartPolicy: Always'
sed 's/name: migrate/name: changelogd/' "$pod" >"$work/own.yaml"
admits 'a pod with its own sidecar' "$work/own.yaml" -- '+- migrate' '-restartPolicy: Always'
sed 's,changelogd/sidecar: enabled,app: orders,' "$pod" >"$work/own.yaml"
admits 'a pod without the label' "$work/own.yaml" -- '-CHANGELOGD_ADDR=' '-restartPolicy: Always'

# The policy fits the schemas: as v1, and as v1beta1 in 1.34 as its README has it.
mkdir -p "$work/rendered/1.34.0"
cp "$examples/admission-policy/policy.yaml" "$work/rendered/$newest/policy.yaml"
sed 's,admissionregistration.k8s.io/v1$,admissionregistration.k8s.io/v1beta1,' \
    "$examples/admission-policy/policy.yaml" >"$work/rendered/1.34.0/policy.yaml"
