#!/bin/sh
# What the chart refuses because the program would, with exit status 64. run.sh reads this file.

kafka_set="--set $kafka --set topic.partitions=1"

for value in store.deleteRetention=36601d config.readTimeout=99999d config.clientStallTimeout=878401h \
    config.replayQueueTimeout=3162240001s config.connectionIdleTimeout=52704001m writeTimeout=3162240000001ms; do
    # Covers K9.
    refuses "a duration above a hundred years, $value" $recent "$chart" --set "$value" \
        --set drainTimeout=36600d,terminationGracePeriodSeconds=3162240008 -- \
        "changelogd: ${value%%=*}: ${value#*=} is too long: it may be a hundred years, 36600d, at most"
done
refuses 'a drain above a hundred years' $recent "$chart" --set drainTimeout=99999d -- 'changelogd: drainTimeout: 99999d'
renders 'durations of a hundred years' $recent "$chart" --set store.deleteRetention=36600d,config.readTimeout=878400h \
    --set config.clientStallTimeout=52704000m,config.connectionIdleTimeout=3162240000s -- \
    '+CHANGELOGD_DELETE_RETENTION=36600d' '+CHANGELOGD_READ_TIMEOUT=878400h'
renders 'a file whose name looks like a duration' $recent "$chart" --set config.kafkaOauthTokenFile=99999d -- \
    '+CHANGELOGD_KAFKA_OAUTH_TOKEN_FILE=99999d'
drain='drainTimeout=30d,terminationGracePeriodSeconds=2592010'
# Covers K9.
refuses 'a write that is too long for kafka' $recent "$chart" $kafka_set --set writeTimeout=2147483648ms,$drain -- \
    'writeTimeout: 2147483648ms is too long: with kafka it may be 2147483647ms'
renders 'a write as long as kafka takes it' $recent "$chart" $kafka_set --set writeTimeout=2147483647ms,$drain -- \
    '+CHANGELOGD_WRITE_TIMEOUT=2147483647ms'
renders 'the same write without kafka' $recent "$chart" --set writeTimeout=2147483648ms,$drain -- \
    '+CHANGELOGD_WRITE_TIMEOUT=2147483648ms'

# broker_is renders|refuses BROKER [TEXT]
broker_is() {
    kind=$1 broker=$2 text=$3
    $kind "the broker $broker" $recent "$chart" --set-json "kafka.brokers=[\"$broker\"]" --set topic.partitions=1 -- \
        "$text"
}
label=$(printf 'a%.0s' $(seq 63))
for broker in . .. a..b .a a.. "${label}a" "$label.$label.$label.$label"; do
    broker_is refuses "$broker:9092" "kafka.brokers: $broker:9092: a host has 1 to 63"
done
for broker in 1.2.3 1.2.3.256 1.2.3.4. 01.2.3.4 a.1 5; do
    broker_is refuses "$broker:9092" "kafka.brokers: $broker:9092: an IPv4 address has four numbers"
done
for broker in ::: : 1 1:2:3:4:5:6:7 1:2:3:4:5:6:7:8:9 1::2::3 ::12345 1:2:3:4:5:6:7:1.2.3.4 1.2.3.4:: 1.2.3.4 :1 1: \
    1:2:3:4::5:6:7:8; do
    broker_is refuses "[$broker]:9092" "kafka.brokers: [$broker]:9092: there is no IPv6 address"
done
for broker in a A-b_c. a.b1 1a 1.2.3.4 "$label.a" '[::]' '[::1]' '[1::]' '[1:2:3:4:5:6:7:8]' '[1:2:3:4:5:6:7::]' \
    '[::2:3:4:5:6:7:8]' '[1:2:3:4:5:6:1.2.3.4]' '[::ffff:1.2.3.4]' '[FE80::a]'; do
    broker_is renders "$broker:65535" "+KAFKA_BROKERS=$broker:65535"
done

for filter in foo=bar=baz foo=bar 'info,=debug' 'info, debug' '[a' 'a b' 'a[b{}]' 'a[b{c]' 'a[b]c' .a a=6; do
    # Covers K9.
    refuses "the filter $filter" $recent "$chart" --set-json "log.filter=\"$filter\"" -- 'changelogd: log.filter: '
done
for filter in info WARN 0 off fjall=warn 'info,fjall=warn,lsm_tree=Error' changelogd::app=5 changelogd= a 'a[b]=info' \
    '[b{c=1}]' 'a[b{c}]=trace' 'a[b}]' 'a]' info, librdkafka=debug; do
    renders "the filter $filter" $recent "$chart" --set-json "log.filter=\"$filter\"" -- "+CHANGELOGD_LOG=$filter"
done
for group in '' ' ' 'a\nb' 'a\tb'; do
    refuses "the group '$group'" $recent "$chart" $kafka_set --set-json "kafka.groupId=\"$group\"" -- \
        "at '/kafka/groupId'"
done
renders 'a group with a blank' $recent "$chart" $kafka_set --set-json 'kafka.groupId="a b"' -- \
    '+KAFKA_CHANGELOG_GROUP_ID=a b'

for property in acks client.rack message.timeout.ms bootstrap.servers ssl.truststore.location; do
    # Covers K9.
    refuses "the property $property" $recent "$chart" $kafka_set \
        --set-json "kafka.properties={\"$property\":\"1\"}" -- \
        "changelogd: kafka.properties: $property: changelogd refuses it"
done
# The program has the same names, for properties from a Secret.
refused_properties_are_those_of_the_program() {
    problems=
    sed -n '/^const \(REFUSED\|NOT_LISTED\)/,/^];/s/^    ("\([^"]*\)".*/\1/p' \
        "$root/crates/changelog-kafka/src/settings/names.rs" | sort >"$work/refused"
    sed -n '/define "changelogd.v1.refusedProperties"/,/^` }}/p' "$chart/templates/_program.tpl" |
        sed '1,2d; $d' | tr ' ' '\n' | sort >"$work/refused.chart"
    [ "$(wc -l <"$work/refused")" -gt 50 ] || problem 'names.rs has no names'
    diff "$work/refused" "$work/refused.chart" >"$work/odd" || problem "$(cat "$work/odd")"
    verdict 'the chart refuses the properties that the program refuses'
}
refused_properties_are_those_of_the_program

# trace VARIABLE VALUE: arguments that set it as the first, or as variable number $3.
trace() {
    echo "--set extraEnv[${3:-0}].name=OTEL_$1,extraEnv[${3:-0}].value=$2"
}
collector=$(trace EXPORTER_OTLP_ENDPOINT http://collector.monitoring:4317)
policy='--set networkPolicy.enabled=true'
# Covers K8.
refuses 'a network policy that keeps traces in' $recent "$chart" $collector $policy -- \
    'networkPolicy.extraEgress: nothing lets traces reach the collector'
refuses 'a network policy that keeps traces in, with kafka' $recent "$chart" $collector $policy $kafka_set -- \
    'networkPolicy.extraEgress: nothing lets traces reach the collector'
refuses 'a network policy that keeps traces in, by the other variable' $recent "$chart" $policy \
    $(trace EXPORTER_OTLP_ENDPOINT http://localhost:4317) \
    $(trace EXPORTER_OTLP_TRACES_ENDPOINT http://collector:4317 1) -- 'networkPolicy.extraEgress: nothing lets traces'
refuses 'a network policy that keeps traces in, by a Secret' $recent "$chart" $policy \
    --set 'extraEnv[0].name=OTEL_EXPORTER_OTLP_ENDPOINT,extraEnv[0].valueFrom.secretKeyRef.name=a' \
    --set 'extraEnv[0].valueFrom.secretKeyRef.key=b' -- 'networkPolicy.extraEgress: nothing lets traces'
egress='networkPolicy.extraEgress=[{"to":[{"namespaceSelector":{}}],"ports":[{"port":4317}]}]'
# Covers K8.
renders 'a network policy that lets traces out' $recent "$chart" --show-only templates/networkpolicy.yaml \
    $collector $policy --set-json "$egress" -- '+port: 4317' '+port: 53' '-port: 9092'
for collector in http://localhost:4317 http://127.0.0.1:4317 http://[::1]:4317; do
    renders "a network policy and the collector $collector" $recent "$chart" $policy \
        $(trace EXPORTER_OTLP_ENDPOINT "$collector") -- '+kind: NetworkPolicy'
done
for off in SDK_DISABLED=TRUE TRACES_EXPORTER=none; do
    renders "a network policy and traces that are off, $off" $recent "$chart" --show-only templates/networkpolicy.yaml \
        $policy $(trace EXPORTER_OTLP_ENDPOINT http://collector:4317) --set "extraEnv[1].name=OTEL_${off%=*}" \
        --set-string "extraEnv[1].value=${off#*=}" -- '+egress: []'
done
for wrong in EXPORTER_OTLP_ENDPOINT=https://collector:4317 EXPORTER_OTLP_PROTOCOL=http/protobuf TRACES_EXPORTER=jaeger; do
    refuses "traces that this version cannot send, $wrong" $recent "$chart" $(trace "${wrong%%=*}" "${wrong#*=}") \
        $(trace EXPORTER_OTLP_TRACES_ENDPOINT "$(case $wrong in *https*) ;; *) echo http://a:1 ;; esac)" 1) -- \
        "extraEnv: OTEL_${wrong%%=*}: "
done
refuses 'the context of traces without traces' $recent "$chart" --set config.traceContextInRecords=true \
    $(trace SERVICE_NAME orders) -- 'config.traceContextInRecords: needs traces'
renders 'the context of traces' $recent "$chart" --set config.traceContextInRecords=true \
    --set 'envFrom[0].secretRef.name=traces' -- '+CHANGELOGD_TRACE_CONTEXT_IN_RECORDS=true'
