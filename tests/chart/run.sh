#!/bin/sh
# Lints the chart. Renders it, and a chart that depends on it, for several Kubernetes versions. Checks the rendered
# files and the refused values. Needs no cluster, and no network except for tools/build.sh.
#
# Prints one line per case, then `N passed, N failed`. Exits with 1 if any failed. The rendered files stay in
# target/chart/rendered/<kubernetes version>, one per case, for readers and for validators with schemas of their own.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/target/chart
helm=$root/target/tools/bin/helm
chart=$root/helm/changelogd
oldest=1.27.0 native=1.29.0 recent=1.33.0 newest=1.37.0

"$root/tools/build.sh"

rm -rf "$work"
mkdir -p "$work"
# Directories of our own: the user's plugins, repositories and cluster must not change the rendered files.
export HELM_CACHE_HOME="$work/helm/cache" HELM_CONFIG_HOME="$work/helm/config" HELM_DATA_HOME="$work/helm/data"
export HELM_PLUGINS="$work/helm/plugins" KUBECONFIG=/dev/null

passed=0 failed=0

# Ends a case: it passed if $problems is empty.
verdict() {
    if [ -z "$problems" ]; then
        passed=$((passed + 1))
        echo "ok      $1"
    else
        failed=$((failed + 1))
        echo "FAILED  $1"
        printf '%s' "$problems" | sed 's/^/        /'
    fi
}

problem() {
    problems="$problems$*
"
}

# The rendered file, one fact per line: without indentation and quotes, an environment variable as NAME=value.
facts() {
    awk '
        { sub(/^ +/, ""); sub(/ +$/, "") }
        /^- name: [A-Z][A-Z_]*$/ { name = $3; next }
        name != "" && /^value: / { sub(/^value: /, ""); gsub(/^"|"$/, ""); print name "=" $0; name = ""; next }
        { print }
    ' "$1"
}

# Checks that hold for every changelogd container, with any values.
# Covers C9, S14, K6, K7.
invariants() {
    for fact in 'runAsNonRoot: true' 'runAsUser: 65532' 'runAsGroup: 65532' 'readOnlyRootFilesystem: true' \
        'allowPrivilegeEscalation: false' 'drop: ["ALL"]' 'type: RuntimeDefault' 'args: ["serve"]' \
        'startupProbe:' 'livenessProbe:' 'service: liveness' 'requests:' 'limits:' \
        'CHANGELOGD_DATA_DIR=/var/lib/changelogd' 'mountPath: /var/lib/changelogd'; do
        grep -qxF -e "$fact" "$work/facts" || problem "not rendered: $fact"
    done
    if grep -q '^KAFKA_BROKERS=' "$work/facts" && ! grep -q '^CHANGELOGD_PARTITIONS=[1-9]' "$work/facts"; then
        problem "KAFKA_BROKERS without CHANGELOGD_PARTITIONS"
    fi
    # A template with an error may silently print floats, nil, or addresses of Go values.
    if grep -nE '[0-9]e\+[0-9]|<nil>|<no value>|%!|0xc0' "$work/facts" >"$work/odd"; then
        problem "odd: $(cat "$work/odd")"
    fi
}

# renders NAME KUBE CHART [helm's arguments] -- [+FACT | -FACT]...
# It renders. Each +FACT is a line of it, and no -FACT is.
renders() {
    name="$1, kubernetes $2" kube=$2 source=$3 problems=
    shift 3
    render "$kube" "$source" "$@" || problem "refused: $(cat "$work/err")"
    while [ "$1" != -- ]; do shift; done
    shift
    facts "$work/out" >"$work/facts"
    if [ -z "$problems" ]; then
        mkdir -p "$work/rendered/$kube"
        cp "$work/out" "$work/rendered/$kube/$(echo "$name" | sed 's/, kubernetes.*//' | tr -cs 'A-Za-z0-9\n' -).yaml"
        if grep -qxF -e '- name: changelogd' "$work/facts"; then invariants; fi
        for want in "$@"; do
            fact=${want#?}
            case $want in
            +*) grep -qxF -e "$fact" "$work/facts" || problem "not rendered: $fact" ;;
            -*) ! grep -qxF -e "$fact" "$work/facts" || problem "rendered: $fact" ;;
            esac
        done
    fi
    verdict "$name"
}

# refuses NAME KUBE CHART [helm's arguments] -- TEXT...
# It does not render, and each TEXT is in the message.
refuses() {
    name="$1, kubernetes $2" kube=$2 source=$3 problems=
    shift 3
    if render "$kube" "$source" "$@"; then problem "not refused"; fi
    while [ "$1" != -- ]; do shift; done
    shift
    for want in "$@"; do
        grep -qF -e "$want" "$work/err" || problem "not in the message: $want" "(it is: $(cat "$work/err"))"
    done
    verdict "$name"
}

# render KUBE CHART [helm's arguments] [-- ...]: into $work/out and $work/err.
render() {
    kube=$1 source=$2
    shift 2
    # Drops the arguments after --, and keeps each argument whole, because some contain commas, braces and spaces.
    count=0
    for argument in "$@"; do
        [ "$argument" != -- ] || break
        count=$((count + 1))
    done
    index=0 total=$#
    while [ "$index" -lt "$total" ]; do
        argument=$1
        shift
        [ "$index" -ge "$count" ] || set -- "$@" "$argument"
        index=$((index + 1))
    done
    "$helm" template rel "$source" --namespace ns --kube-version "$kube" "$@" >"$work/out" 2>"$work/err"
}

# The changelogd container in a rendered file: the list item and all lines that are indented deeper.
container() {
    awk '
        /^ *- name: changelogd$/ { inside = 1; match($0, /^ */); depth = RLENGTH; print; next }
        inside { match($0, /^ */); if (RLENGTH <= depth) exit; print }
    ' "$1"
}

# same NAME KUBE [helm's arguments]: native and classic render the same container, except for restartPolicy.
# Covers K1.
same() {
    name="native is classic but for restartPolicy: $1, kubernetes $2" kube=$2 problems=
    shift 2
    for type in native classic; do
        render "$kube" "$consumer" "$@" --set "changelogd.sidecar.type=$type" || problem "refused: $(cat "$work/err")"
        container "$work/out" >"$work/$type"
        # The list that the container is an item of.
        awk '/^      (initContainers|containers):$/ { list = $1 } /^ *- name: changelogd$/ { print list }' \
            "$work/out" >"$work/$type.list"
    done
    grep -q 'readOnlyRootFilesystem' "$work/classic" || problem "no container found"
    [ "$(cat "$work/native.list")" = initContainers: ] || problem "native is in: $(cat "$work/native.list")"
    [ "$(cat "$work/classic.list")" = containers: ] || problem "classic is in: $(cat "$work/classic.list")"
    difference=$(diff "$work/classic" "$work/native" | grep '^[<>]' | tr -s ' ') || true
    [ "$difference" = '> restartPolicy: Always' ] || problem "they differ by: $difference"
    verdict "$name"
}

# notes NAME [helm's arguments] -- [+TEXT | -TEXT]...
# The notes after an installation have each +TEXT in one line, and no -TEXT.
notes() {
    name="notes: $1" problems=
    shift
    render $recent "$with_notes" "$@" --show-only templates/notes.yaml || problem "refused: $(cat "$work/err")"
    while [ "$1" != -- ]; do shift; done
    shift
    for want in "$@"; do
        text=${want#?} found=no
        if grep -qF -e "$text" "$work/out"; then found=yes; fi
        case $want$found in
        +*no) problem "not in the notes: $text" ;;
        -*yes) problem "in the notes: $text" ;;
        esac
    done
    verdict "$name"
}

# lints NAME CHART [helm's arguments]
lints() {
    name="lint: $1" problems=
    shift
    "$helm" lint --strict --quiet "$@" >"$work/out" 2>&1 || problem "$(cat "$work/out")"
    verdict "$name"
}

# The example depends on the chart by a relative path, which holds in the copy too: it is as deep as the original.
consumer=$work/consumer
cp -R "$here/consumer" "$consumer"
"$helm" dependency build "$consumer" >"$work/out" 2>&1 || {
    cat "$work/out" >&2
    exit 1
}

# `helm template` leaves the notes out, and `helm install --dry-run` asks a cluster. So a copy of the chart has them in
# a template.
with_notes=$work/notes
cp -R "$chart" "$with_notes"
{
    echo 'notes: |'
    sed 's/^/  /' "$chart/templates/NOTES.txt"
} >"$with_notes/templates/notes.yaml"

kafka='kafka.brokers={kafka-0:9092,kafka-1:9092}'

lints 'defaults' "$chart"
lints 'sidecar' "$chart" --set mode=sidecar
lints 'kafka' "$chart" --set "$kafka" --set topic.partitions=12
lints 'the example' "$consumer"

for kube in $oldest $native $recent $newest; do
    # Covers K2, K4, K6, K12.
    renders 'standalone, defaults' "$kube" "$chart" -- \
        '+kind: Deployment' '-kind: Service' '+replicas: 1' '+type: Recreate' \
        '+CHANGELOGD_DELETE_RETENTION=24h' '+CHANGELOGD_MEMORY_LIMIT=161061273' '+CHANGELOGD_LISTEN=127.0.0.1:50051' \
        '-CHANGELOGD_INSECURE_LISTEN=true' '+CHANGELOGD_HEALTH_LISTEN=0.0.0.0:9651' \
        '+CHANGELOGD_ADMIN_LISTEN=127.0.0.1:9650' '+CHANGELOGD_STORE=embedded' '+CHANGELOGD_MAX_VALUE_BYTES=1000000' \
        '+CHANGELOGD_DRAIN_TIMEOUT=20s' '+service: readiness' '+automountServiceAccountToken: false' \
        '+enableServiceLinks: false' '+emptyDir:' '+terminationGracePeriodSeconds: 30' '+namespace: ns'
    # Covers K2, K10, K12.
    renders 'standalone, kafka, three pods and a headless Service' "$kube" "$chart" --set "$kafka" \
        --set topic.partitions=100000,topic.create=true,topic.replicationFactor=2,replicas=3 \
        --set api.insecureListen=true,service.enabled=true,service.headless=true -- \
        '+kind: Deployment' '+kind: Service' '+clusterIP: None' '+replicas: 3' '-type: Recreate' \
        '+CHANGELOGD_LISTEN=0.0.0.0:50051' '+CHANGELOGD_INSECURE_LISTEN=true' '+CHANGELOGD_STORE=kafka' \
        '+KAFKA_BROKERS=kafka-0:9092,kafka-1:9092' '+CHANGELOGD_PARTITIONS=100000' '+CHANGELOGD_CREATE_TOPIC=true' \
        '+CHANGELOGD_CREATE_TOPIC_REPLICATION_FACTOR=2' \
        '-CHANGELOGD_DELETE_RETENTION=24h' \
        '+targetPort: changelogd-grpc' '+- name: changelogd-grpc' '+appProtocol: kubernetes.io/h2c'
    # Covers K2.
    renders 'sidecar mode renders nothing itself' "$kube" "$chart" --set mode=sidecar,sidecar.type=classic -- \
        '-kind: Deployment' '-kind: Service'
    # Covers K2, K12.
    renders 'example, classic' "$kube" "$consumer" --set changelogd.sidecar.type=classic -- \
        '+name: rel-orders' '-name: rel-changelogd' '-initContainers:' '-restartPolicy: Always' \
        '+CHANGELOGD_LISTEN=127.0.0.1:50051' '+CHANGELOGD_ADDR=127.0.0.1:50051' '+CHANGELOGD_PARTITIONS=12' \
        '-service: readiness' '+mountPath: /var/run/secrets/kubernetes.io/serviceaccount'
done

for kube in $native $recent $newest; do
    # Covers K2, K4, K12.
    renders 'example, native' "$kube" "$consumer" -- \
        '+initContainers:' '+restartPolicy: Always' '+CHANGELOGD_ADDR=127.0.0.1:50051' '-service: readiness' \
        '+- name: changelogd-no-token' '+mountPath: /var/run/secrets/kubernetes.io/serviceaccount'
    # Covers K1, K12.
    same 'defaults' "$kube"
    same 'socket, Secret, readiness' "$kube" --set changelogd.api.socket=true,changelogd.probes.readiness=always \
        --set changelogd.kafka.propertiesSecret.name=kafka-client
    same 'embedded, claim, admin port' "$kube" --set-json 'changelogd.kafka.brokers=[]' \
        --set changelogd.data.existingClaim=state,changelogd.admin.podListen=true
done

# Covers R45.
renders 'standalone, embedded, the limit of its emptyDir' $recent "$chart" --set data.sizeLimit=274Mi -- \
    '+CHANGELOGD_DATA_LIMIT=269352960' '+sizeLimit: 274Mi'
renders 'standalone, embedded, a decimal size' $recent "$chart" --set data.sizeLimit=1.6G -- \
    '+CHANGELOGD_DATA_LIMIT=1500000000'
renders 'standalone, memory, no limit' $recent "$chart" --set store.type=memory,data.sizeLimit=1Mi -- \
    '-CHANGELOGD_DATA_LIMIT=16777216' '-CHANGELOGD_DATA_LIMIT=983040'
# Covers K7.
renders 'standalone, embedded on a claim' $recent "$chart" --set data.existingClaim=state,topic.partitions=4 -- \
    '-CHANGELOGD_DATA_LIMIT=1006632960' \
    '+claimName: state' '-emptyDir:' '+fsGroup: 65532' '+CHANGELOGD_PARTITIONS=4' '+type: Recreate'
renders 'standalone, memory' $recent "$chart" --set store.type=memory,store.values=opaque -- \
    '+CHANGELOGD_STORE=memory' '+CHANGELOGD_VALUES=opaque' '-CHANGELOGD_CREATE_TOPIC=false'
renders 'standalone, Secret with properties' $recent "$chart" --set "$kafka" --set topic.partitions=12 \
    --set kafka.propertiesSecret.name=kafka-client,kafka.propertiesSecret.key=client.properties -- \
    '+secretName: kafka-client' '+CHANGELOGD_KAFKA_PROPERTIES_FILE=/etc/changelogd/kafka/client.properties' \
    '+mountPath: /etc/changelogd/kafka'
renders 'standalone, IPv6, open admin port' $recent "$chart" --set 'bindAddress=[::],admin.podListen=true' -- \
    '+CHANGELOGD_HEALTH_LISTEN=[::]:9651' '+CHANGELOGD_ADMIN_LISTEN=[::]:9650' '+CHANGELOGD_LISTEN=127.0.0.1:50051' \
    '+- name: changelogd-http'
renders 'standalone, no readiness probe' $recent "$chart" --set probes.readiness=never -- '-readinessProbe:'
renders 'standalone, image by digest' $recent "$chart" --set image.repository=registry.example/changelogd,image.tag=v1 \
    --set image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef -- \
    '+image: "registry.example/changelogd@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"'
renders 'standalone, the pod' $recent "$chart" \
    --set pod.labels.team=a,pod.annotations.note=b,pod.nodeSelector.disk=ssd \
    --set 'pod.tolerations[0].key=c,pod.tolerations[0].operator=Exists,pod.imagePullSecrets={pull}' \
    --set pod.serviceAccountName=runner,resources.limits.memory=512Mi -- \
    '+team: a' '+note: b' '+disk: ssd' '+- key: c' '+- name: pull' '+serviceAccountName: runner' '+memory: 512Mi' \
    '+CHANGELOGD_MEMORY_LIMIT=322122547'
# The flags take these too, so the chart does.
renders 'no drain delay and no drain timeout' $recent "$chart" --set drainDelay=0s,drainTimeout=0ms -- \
    '+CHANGELOGD_DRAIN_DELAY=0s' '+CHANGELOGD_DRAIN_TIMEOUT=0ms'
renders 'durations in days and in many milliseconds' $recent "$chart" --set store.deleteRetention=7d \
    --set writeTimeout=3162240000000ms -- '+CHANGELOGD_DELETE_RETENTION=7d' '+CHANGELOGD_WRITE_TIMEOUT=3162240000000ms'
renders 'no retention of tombstones' $recent "$chart" --set store.deleteRetention=0ms -- \
    '+CHANGELOGD_DELETE_RETENTION=0ms'
# Covers K6.
renders 'the smallest memory limit' $recent "$chart" --set resources.limits.memory=64Mi -- \
    '+CHANGELOGD_MEMORY_LIMIT=40265318'
renders 'the smallest memory limit, kafka' $recent "$chart" --set "$kafka" --set topic.partitions=1 \
    --set resources.limits.memory=67108864 -- '+CHANGELOGD_MEMORY_LIMIT=40265318'
# Covers K6.
renders 'memory limits, fractional' $recent "$chart" --set resources.limits.memory=1.5Gi -- \
    '+CHANGELOGD_MEMORY_LIMIT=966367641'
renders 'memory limits, in bytes' $recent "$chart" --set resources.limits.memory=2000000000 -- \
    '+CHANGELOGD_MEMORY_LIMIT=1200000000'
# Covers K5.
renders 'drain deadline as long as it may be' $recent "$chart" --set drainTimeout=22s -- \
    '+CHANGELOGD_DRAIN_TIMEOUT=22s' '+CHANGELOGD_DRAIN_DELAY=2s'
renders 'example, socket' $recent "$consumer" --set changelogd.api.socket=true -- \
    '+CHANGELOGD_LISTEN=unix:/run/changelogd/changelogd.sock' '+CHANGELOGD_ADDR=unix:/run/changelogd/changelogd.sock' \
    '+mountPath: /run/changelogd' '+- name: changelogd-socket'
renders 'example, readiness asked for' $recent "$consumer" --set changelogd.probes.readiness=always -- \
    '+service: readiness'
renders "a parent's global and enabled values" $recent "$consumer" --set global.x=y,changelogd.enabled=true -- \
    '+- name: changelogd'

# Covers C79.
notes 'sidecar with a socket' --set mode=sidecar,api.socket=true -- '+mode is sidecar' \
    '+grpc.default_authority=localhost' '+overrideAuthority("localhost")' '+INTERNAL, RST_STREAM' '+PROTOCOL_ERROR'
notes 'sidecar without a socket' --set mode=sidecar -- '+mode is sidecar' '-authority' '-socket'
notes 'standalone' -- '+runs as deployment/rel-changelogd in ns' '+the state is in an emptyDir' '-authority'

refuses 'kubernetes too old' 1.26.0 "$chart" -- 'chart requires kubeVersion: >=1.27.0-0'
# Covers K3.
refuses 'native sidecar' $oldest "$chart" --set mode=sidecar -- \
    'native sidecars need kubernetes 1.29 or later, this is v1.27.0; set sidecar.type to classic'
# Covers K3.
refuses 'native sidecar, example' 1.28.9 "$consumer" -- 'native sidecars need kubernetes 1.29 or later'
# Covers K9, B26.
refuses 'replicas in sidecar mode' $recent "$chart" --set mode=sidecar,replicas=2 -- "at '/replicas': value must be 1"
refuses 'replicas in sidecar mode, example' $recent "$consumer" --set changelogd.replicas=2 -- "at '/replicas'"
refuses 'Service in sidecar mode' $recent "$chart" --set mode=sidecar,service.enabled=true -- "at '/service/enabled'"
refuses 'insecure listen in sidecar mode' $recent "$chart" --set mode=sidecar,api.insecureListen=true -- \
    "at '/api/insecureListen'"
refuses 'pod labels in sidecar mode' $recent "$chart" --set mode=sidecar,pod.labels.a=b -- "at '/pod/labels'"
refuses 'socket in standalone mode' $recent "$chart" --set api.socket=true -- "at '/api/socket'"
# Covers K9, B26.
refuses 'unknown mode' $recent "$chart" --set mode=daemon -- "at '/mode'"
refuses 'example in standalone mode' $recent "$consumer" --set changelogd.mode=standalone -- \
    'mode: has to be sidecar where changelogd.sidecar is included'
refuses 'Service without insecure listen' $recent "$chart" --set service.enabled=true -- \
    'set api.insecureListen to true'
# Covers C9.
refuses 'brokers without partitions' $recent "$chart" --set "$kafka" -- \
    'topic.partitions: has to be set with kafka.brokers'
refuses 'brokers without partitions, example' $recent "$consumer" --set changelogd.topic.partitions=0 -- \
    'topic.partitions: has to be set with kafka.brokers'
refuses 'brokers and the embedded store' $recent "$chart" \
    --set "$kafka" --set topic.partitions=1,store.type=embedded -- \
    'store.type: embedded does not go with kafka.brokers'
refuses 'the kafka store without brokers' $recent "$chart" --set store.type=kafka -- 'kafka needs kafka.brokers'
refuses 'a topic without copies' $recent "$chart" --set "$kafka" --set topic.replicationFactor=0 -- replicationFactor
refuses 'a topic to create without kafka' $recent "$chart" --set topic.create=true -- 'topic.create'
refuses 'a Secret without kafka' $recent "$chart" --set kafka.propertiesSecret.name=a -- 'kafka.propertiesSecret'
for broker in kafka http://kafka:9092 kafka:9092:9093 :9092 'kafka:9092;kafka:9093' ::1:9092; do
    refuses "the broker $broker" $recent "$chart" --set "kafka.brokers={$broker}" -- "at '/kafka/brokers/0'"
done
refuses 'pods with a store each' $recent "$chart" --set replicas=2 -- 'replicas: more than 1 needs kafka'
refuses 'pods on one claim' $recent "$chart" \
    --set "$kafka" --set topic.partitions=1,replicas=2,data.existingClaim=a -- \
    'data.existingClaim: one process at a time'
# Covers K5.
refuses 'drain deadline one second too long' $recent "$chart" --set drainTimeout=23s -- \
    'drainTimeout: 23s is too long: with drainDelay 2s it has to be less than' \
    'terminationGracePeriodSeconds - 5, which is 25 seconds'
refuses 'drain deadline in other units' $recent "$chart" --set drainTimeout=22001ms -- \
    'drainTimeout: 22001ms is too long'
refuses 'drain deadline in days' $recent "$chart" --set drainTimeout=1d -- 'drainTimeout: 1d is too long'
for duration in 0s 0ms 1.5s 99999999999999ms 01s 1w; do
    refuses "writeTimeout $duration" $recent "$chart" --set writeTimeout=$duration -- "at '/writeTimeout'"
done
refuses 'drain delay one second too long' $recent "$chart" --set drainDelay=5s -- 'with drainDelay 5s'
refuses 'drain deadline, example' $recent "$consumer" --set changelogd.terminationGracePeriodSeconds=20 -- \
    'drainTimeout: 20s is too long'
refuses 'duration without unit' $recent "$chart" --set drainTimeout=20 -- "at '/drainTimeout'"
refuses 'one port twice' $recent "$chart" --set health.port=9650 -- 'have to differ'
refuses 'privileged port' $recent "$chart" --set api.port=443 -- "at '/api/port'"
# Covers K9, B26.
refuses 'a value of another section' $recent "$chart" --set topic.memory=1Gi -- "at '/topic'" "'memory'"
# Covers K9, B26.
refuses 'number as text' $recent "$chart" --set-string replicas=1 -- "at '/replicas': got string, want integer"
refuses 'text as switch' $recent "$chart" --set-string api.insecureListen=true -- "at '/api/insecureListen'"
for size in 256Mi 1Mi 200M 0.2Gi; do
    refuses "data.sizeLimit $size, embedded" $recent "$chart" --set "data.sizeLimit=$size" -- 'data.sizeLimit' '274Mi'
done
# Covers R45.
refuses 'data.sizeLimit one mebibyte too small' $recent "$chart" --set data.sizeLimit=272Mi -- 'data.sizeLimit' '274Mi'
# Covers K6.
refuses 'no memory limit' $recent "$chart" --set resources.limits.memory=null -- "at '/resources/limits'" "'memory'"
# refuses_memory MAX_VALUE_BYTES NEEDED LIMIT SHARE ENOUGH [helm's arguments]
# NEEDED is what the check of --memory-limit says. A test of the flags compares it for each line.
# Covers K6.
refuses_memory() {
    value=$1 needed=$2 limit=$3 share=$4 enough=$5
    shift 5
    refuses "memory limit $limit, values of $value bytes $*" $recent "$chart" "$@" \
        --set "store.maxValueBytes=$value,resources.limits.memory=$limit" -- \
        "resources.limits.memory: $limit is too small" "60 % of it are $share bytes, and $needed are needed" \
        "set $enough or more"
    renders "memory limit $enough, values of $value bytes $*" $recent "$chart" "$@" \
        --set "store.maxValueBytes=$value,resources.limits.memory=$enough" -- "+CHANGELOGD_MAX_VALUE_BYTES=$value"
}
for limit in 1 32Mi 40Mi 47Mi 60M 0.06Gi 63Mi 67108863; do
    refuses "memory limit $limit" $recent "$chart" --set "resources.limits.memory=$limit" -- 'resources'
done
refuses_memory 1000000 32750048 63Mi 39636172 64Mi
refuses_memory 1000000 34881120 63Mi 39636172 64Mi --set "$kafka" --set topic.partitions=1
refuses_memory 3000000 55750048 64Mi 40265318 89Mi
refuses_memory 3000000 61881120 64Mi 40265318 99Mi --set "$kafka" --set topic.partitions=1
refuses_memory 64000000 817055744 900Mi 566231040 1299Mi
refuses_memory 64000000 945186816 1024Mi 644245094 1503Mi --set "$kafka" --set topic.partitions=1
# Every object of the schema is closed.
for path in '' image sidecar api health admin service store kafka kafka.propertiesSecret topic data log probes \
    resources resources.limits resources.requests pod 'pod.tolerations[0]'; do
    pointer=$(echo "$path" | sed 's/^\(.\)/\/\1/; s/[.[]/\//g; s/\]//')
    # Covers K9, B26.
    refuses "typo in ${path:-the top}" $recent "$chart" --set "${path:+$path.}tpyo=1" -- \
        "at '$pointer': additional properties 'tpyo' not allowed"
done

# The README shows the example as it is: each file of it is a block there.
# Covers K9.
readme_shows_the_example() {
    problems=
    for file in values.yaml templates/deployment.yaml; do
        awk -v file="$here/consumer/$file" '
            BEGIN { while ((getline line < file) > 0) want = want line "\n" }
            /^```/ { if (inside && block == want) found = 1; inside = !inside; block = ""; next }
            inside { block = block $0 "\n" }
            END { exit !found }
        ' "$chart/README.md" || problem "not in helm/changelogd/README.md as it is: tests/chart/consumer/$file"
    done
    verdict 'the README shows the example as it is'
}
readme_shows_the_example

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
