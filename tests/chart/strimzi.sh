#!/bin/sh
# The topic and the user as objects of Strimzi. run.sh reads this file.

cluster="--set $kafka --set topic.partitions=12,strimzi.cluster=kafka"
topic='--show-only templates/strimzi.yaml --set strimzi.topic.enabled=true'
user='--show-only templates/strimzi.yaml --set strimzi.user.enabled=true'

for kube in $oldest $newest; do
    # Covers K10, K12.
    renders 'the example with TLS and Strimzi' "$kube" "$chart" --values "$here/strimzi/tls.yaml" -- \
        '+kind: KafkaTopic' '+kind: KafkaUser' '+apiVersion: kafka.strimzi.io/v1' '+name: orders-changelog' \
        '+topicName: orders-changelog' '+partitions: 12' '+helm.sh/resource-policy: keep' '+strimzi.io/cluster: kafka' \
        '+type: tls' '+secretName: orders' '+mountPath: /etc/changelogd/secrets/orders' \
        '+mountPath: /etc/changelogd/secrets/kafka-cluster-ca-cert'
done
# Covers K10.
renders 'the example with SCRAM-SHA-512 and Strimzi' $recent "$chart" --values "$here/strimzi/scram.yaml" -- \
    '+type: scram-sha-512' '+kind: KafkaUser' '+secretName: orders'
password='sasl.password=${directory:/etc/changelogd/secrets/orders:password}'
file=ssl.ca.location=/etc/changelogd/secrets/kafka-cluster-ca-cert/ca.crt
properties="sasl.mechanism=SCRAM-SHA-512\\n$password\\nsasl.username=orders\\nsecurity.protocol=SASL_SSL\\n$file"
# The program reads the password from the file, so no manifest has it.
renders 'a password of Strimzi stays in its Secret' $recent "$chart" --values "$here/strimzi/scram.yaml" \
    --show-only templates/deployment.yaml -- "+CHANGELOGD_KAFKA_PROPERTY=$properties"
renders 'the topic of a sidecar as a KafkaTopic' $recent "$consumer" \
    --show-only charts/changelogd/templates/strimzi.yaml \
    --set changelogd.strimzi.topic.enabled=true,changelogd.strimzi.cluster=kafka,changelogd.strimzi.namespace=kafka -- \
    '+kind: KafkaTopic' '+name: workspace-changelog' '+namespace: kafka' '-kind: KafkaUser'
renders 'objects of Strimzi before 0.49' $recent "$chart" $cluster $topic \
    --set strimzi.user.enabled=true,strimzi.apiVersion=kafka.strimzi.io/v1beta2 -- \
    '+apiVersion: kafka.strimzi.io/v1beta2' '-apiVersion: kafka.strimzi.io/v1'
# The configuration is that of `changelogd topic ensure`.
# Covers K10.
renders 'the documented configuration of a KafkaTopic' $recent "$chart" $cluster $topic -- \
    '+cleanup.policy: compact' '+compression.type: snappy' '+min.compaction.lag.ms: 60000' \
    '+min.insync.replicas: 2' '+replicas: 3'
renders 'a KafkaTopic with two replicas' $recent "$chart" $cluster $topic --set topic.replicationFactor=2 -- \
    '+replicas: 2' '-min.insync.replicas: 2'
renders 'a KafkaTopic with other configuration' $recent "$chart" $cluster $topic \
    --set 'topic.replicationFactor=5,topic.minInsyncReplicas=3,topic.without={compression.type}' \
    --set-json 'topic.config={"min.cleanable.dirty.ratio":0.1,"retention.bytes":4000000000,"cleanup.policy":"x"}' -- \
    '+min.insync.replicas: 3' '-compression.type: snappy' '+min.cleanable.dirty.ratio: 0.1' \
    '+retention.bytes: 4000000000' '+cleanup.policy: x'
# Covers K10.
renders 'a Job with other configuration' $recent "$chart" --show-only templates/topic.yaml --set "$kafka" \
    --set 'topic.partitions=12,topic.job.enabled=true,topic.without={compression.type,min.insync.replicas}' -- \
    '+args: ["topic","ensure","--replication-factor=3","--without=compression.type","--without=min.insync.replicas"]'
# Kubernetes allows less in a name than Kafka. The hash keeps two such names apart.
renders 'a topic with capitals' $recent "$chart" $cluster $topic --set topic.name=Orders_State -- \
    '+name: orders-state-2761b441' '+topicName: Orders_State'
renders 'a topic with dots' $recent "$chart" $cluster $topic --set topic.name=orders..state -- '-name: orders..state'
renders 'a topic with signs only' $recent "$chart" $cluster $topic --set topic.name=__ -- '+topicName: __' '-name: __'
renders 'names of Strimzi' $recent "$chart" $cluster $topic --set strimzi.user.enabled=true,strimzi.topic.name=a.b \
    --set strimzi.user.name=c -- '+name: a.b' '+name: c' '+topicName: workspace-changelog'
# Covers K10.
renders 'the rights of a KafkaUser' $recent "$chart" $cluster $user -- \
    '+name: workspace-changelog' '+patternType: literal' '+- Describe' '+- DescribeConfigs' '+- Read' '+- Write' \
    '-- Create' '-- IdempotentWrite' '-type: group' '-type: cluster' '-kind: KafkaTopic' '+name: rel-changelogd'
renders 'the rights of a KafkaUser that creates the topic' $recent "$chart" $cluster $user --set topic.create=true -- \
    '+- Create'
renders 'what Strimzi has for a user' $recent "$chart" $cluster $user \
    --set strimzi.user.quotas.producerByteRate=1048576,strimzi.user.template.secret.metadata.labels.a=b \
    --set-json 'strimzi.user.extraAcls=[{"resource":{"type":"cluster"},"operations":["Describe"]}]' \
    --set strimzi.user.authentication.password.valueFrom.secretKeyRef.name=mine \
    --set strimzi.user.authentication.password.valueFrom.secretKeyRef.key=password \
    --set strimzi.user.authentication.type=scram-sha-512 -- \
    '+producerByteRate: 1048576' '+a: b' '+type: cluster' '+name: mine'

refuses 'Strimzi without the name of its cluster' $recent "$chart" --set "$kafka" --set topic.partitions=1 \
    --set strimzi.topic.enabled=true -- 'strimzi.cluster: has to be set'
refuses 'a topic of Strimzi without kafka' $recent "$chart" --set strimzi.topic.enabled=true -- \
    'strimzi.topic.enabled: there is no topic'
refuses 'a user of Strimzi without kafka' $recent "$chart" --set strimzi.user.enabled=true -- \
    'strimzi.user.enabled: there is no topic'
for other in topic.create topic.job.enabled; do
    refuses "Strimzi and $other" $recent "$chart" $cluster --set "strimzi.topic.enabled=true,$other=true" -- \
        "$other: creates the topic, and so does strimzi.topic.enabled"
done
refuses 'a Job before its user' $recent "$chart" $cluster --set strimzi.user.enabled=true,topic.job.enabled=true -- \
    'strimzi.user.enabled: topic.job runs before the KafkaUser exists'
for value in topic.minInsyncReplicas=2 topic.config.a=b 'topic.without={compression.type}'; do
    refuses "$value of no topic" $recent "$chart" $cluster --set "$value" -- 'only topic.job and strimzi.topic set it'
done
refuses 'a configuration with and without' $recent "$chart" $cluster $topic \
    --set 'topic.without={compression.type},topic.config.compression\.type=zstd' -- \
    'topic.without: compression.type is in topic.config'
refuses 'a configuration that is not documented' $recent "$chart" $cluster --set 'topic.without={retention.ms}' -- \
    "at '/topic/without/0'"
refuses 'replicas in sync, with and without' $recent "$chart" $cluster $topic \
    --set 'topic.without={min.insync.replicas},topic.minInsyncReplicas=2' -- 'topic.without: min.insync.replicas'
refuses 'a user of an unknown kind' $recent "$chart" $cluster --set strimzi.user.authentication.type=plain -- \
    "at '/strimzi/user/authentication/type'"

# asks PROGRAM RELEASE PARTITIONS: renders with the API server of api.py, whose KafkaTopic has 12 partitions.
asks() {
    KUBECONFIG="$work/api/config" "$1" template "$2" "$chart" --namespace ns --dry-run=server \
        --disable-openapi-validation --values "$work/image.yaml" --set "$kafka" --set "topic.partitions=$3" \
        --set strimzi.cluster=kafka,strimzi.topic.enabled=true >"$work/out" 2>"$work/err"
}

# An operator of Strimzi would add partitions, and workspaces would move.
# Covers K10.
a_topic_that_is_there_keeps_its_partitions() {
    problems=
    mkdir "$work/api"
    mkfifo "$work/api/input"
    python3 "$here/api.py" "$work/api/port" <"$work/api/input" &
    # The server ends when this is closed.
    exec 8>"$work/api/input"
    waited=0
    while [ ! -e "$work/api/port" ] && [ "$waited" -lt 200 ]; do
        waited=$((waited + 1))
        sleep 0.1
    done
    cat >"$work/api/config" <<EOF
apiVersion: v1
kind: Config
current-context: api
contexts: [{ name: api, context: { cluster: api, user: api } }]
clusters: [{ name: api, cluster: { server: "http://127.0.0.1:$(cat "$work/api/port")" } }]
users: [{ name: api, user: {} }]
EOF
    for program in "$helm" "$helm4"; do
        asks "$program" rel 12 || problem "refused: $(cat "$work/err")"
        grep -q '^kind: KafkaTopic' "$work/out" || problem 'no KafkaTopic'
        ! asks "$program" rel 24 || problem 'not refused'
        grep -qF 'topic.partitions: the KafkaTopic workspace-changelog has 12 partitions, not 24' "$work/err" ||
            problem "the message is: $(cat "$work/err")"
    done
    # Helm 3 says this only at an installation.
    ! asks "$helm4" other 12 || problem 'the topic of another release is not refused'
    grep -qF 'exists and cannot be imported into the current release' "$work/err" ||
        problem "the message is: $(cat "$work/err")"
    exec 8>&-
    wait $! || problem 'the API server failed'
    verdict 'a topic that is there keeps its partitions'
}
a_topic_that_is_there_keeps_its_partitions

# The chart has the configuration and the rights a second time, for Strimzi.
# Covers K10.
strimzi_is_as_documented() {
    problems=
    set -- $(sed -n '/^pub const DOCUMENTED/,/^];/s/^ *("\(.*\)", "\(.*\)"),/\1=\2/p' \
        "$root/crates/changelog-kafka/src/admin/requests.rs")
    [ "$*" = 'cleanup.policy=compact compression.type=snappy min.compaction.lag.ms=60000' ] ||
        problem "requests.rs documents: $*"
    rights=$(sed -n '/^## Permissions/,/^## Known/p' "$root/docs/kafka.md" |
        grep -oE '\b(Read|Write|Describe|DescribeConfigs|IdempotentWrite|Create|AlterConfigs|Alter|Delete|All)\b' |
        sort -u | tr '\n' ' ')
    # IdempotentWrite is for brokers before 2.8, and AlterConfigs for `topic ensure --alter`.
    [ "$rights" = 'AlterConfigs Create Describe DescribeConfigs IdempotentWrite Read Write ' ] ||
        problem "docs/kafka.md has the rights: $rights"
    verdict 'Strimzi gets the configuration and the rights that are documented'
}
strimzi_is_as_documented
