#!/bin/sh
# What the chart refuses. run.sh reads this file.

refuses 'kubernetes too old' 1.26.0 "$chart" -- 'chart requires kubeVersion: >=1.27.0-0'
# Covers K3.
refuses 'native sidecar' $oldest "$chart" --set mode=sidecar -- \
    'native sidecars need kubernetes 1.29 or later, this is v1.27.0; set sidecar.type to classic'
# Covers K3.
refuses 'native sidecar, example' 1.28.9 "$pieces" -- 'native sidecars need kubernetes 1.29 or later'
# Covers K9, B26.
refuses 'replicas in sidecar mode' $recent "$chart" --set mode=sidecar,replicas=2 -- "at '/replicas': value must be 1"
refuses 'replicas in sidecar mode, example' $recent "$pieces" --set changelogd.replicas=2 -- "at '/replicas'"
refuses 'Service in sidecar mode' $recent "$chart" --set mode=sidecar,service.enabled=true -- "at '/service/enabled'"
refuses 'insecure listen in sidecar mode' $recent "$chart" --set mode=sidecar,api.insecureListen=true -- \
    "at '/api/insecureListen'"
refuses 'pod labels in sidecar mode' $recent "$chart" --set mode=sidecar,pod.labels.a=b -- "at '/pod/labels'"
refuses 'socket in standalone mode' $recent "$chart" --set api.socket=true -- "at '/api/socket'"
# Covers K9, B26.
refuses 'unknown mode' $recent "$chart" --set mode=daemon -- "at '/mode'"
refuses 'example in standalone mode' $recent "$pieces" --set changelogd.mode=standalone -- \
    'mode: has to be sidecar where the templates of this chart are included'
refuses 'Service without insecure listen' $recent "$chart" --set service.enabled=true -- \
    'set api.insecureListen to true'
# Covers C9.
refuses 'brokers without partitions' $recent "$chart" --set "$kafka" -- \
    'topic.partitions: has to be set with kafka.brokers'
refuses 'brokers without partitions, example' $recent "$pieces" --set changelogd.topic.partitions=0 -- \
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
# Covers K5.
refuses 'drain deadline one second too long' $recent "$chart" --set drainTimeout=23s -- \
    'drainTimeout: 23s is too long: with drainDelay 2s it has to be less than' \
    'terminationGracePeriodSeconds - 5, which is 25 seconds'
refuses 'drain deadline in other units' $recent "$chart" --set drainTimeout=23000ms -- \
    'drainTimeout: 23000ms is too long'
refuses 'drain deadline in days' $recent "$chart" --set drainTimeout=1d -- 'drainTimeout: 1d is too long'
for duration in 0s 0ms 1.5s 99999999999999ms 01s 1w; do
    refuses "writeTimeout $duration" $recent "$chart" --set writeTimeout=$duration -- "at '/writeTimeout'"
done
refuses 'drain delay one second too long' $recent "$chart" --set drainDelay=5s -- 'with drainDelay 5s'
refuses 'drain deadline, example' $recent "$pieces" --set changelogd.terminationGracePeriodSeconds=20 -- \
    'drainTimeout: 20s is too long'
# preStop runs within the grace period, before SIGTERM.
refuses 'a sleep before the drain' $recent "$chart" --set lifecycle.preStop.sleep.seconds=25 -- \
    'lifecycle.preStop.sleep.seconds: 25 is too long' 'drainDelay 2s and drainTimeout 20s' 'the sleep, which is 0'
# Covers K5.
refuses 'a sleep that is a second too long' $recent "$chart" --set lifecycle.preStop.sleep.seconds=3 -- \
    'lifecycle.preStop.sleep.seconds: 3 is too long'
refuses 'a sleep of a sidecar' $recent "$consumer" --set changelogd.lifecycle.preStop.sleep.seconds=5 -- \
    'lifecycle.preStop.sleep.seconds: 5 is too long'
for seconds in -1 1.5 null x; do
    refuses "a sleep of $seconds seconds" $recent "$chart" --set "lifecycle.preStop.sleep.seconds=$seconds" \
        --set lifecycle.preStop.sleep.a=b -- "at '/lifecycle/preStop/sleep"
done
refuses 'duration without unit' $recent "$chart" --set drainTimeout=20 -- "at '/drainTimeout'"
refuses 'a write that is longer than a drain' $recent "$chart" --set drainTimeout=9999ms -- \
    'writeTimeout: 10s is longer than drainTimeout 9999ms'
refuses 'no image' $recent "$chart" --set image.repository= -- 'image.repository: has to be set'
refuses 'no image, example' $recent "$consumer" --set changelogd.image.repository= -- 'image.repository: has to be set'
for label in helm.sh/chart app.kubernetes.io/name app.kubernetes.io/instance app.kubernetes.io/version; do
    key=$(echo $label | sed 's/\./\\./g')
    refuses "the pod's label $label" $recent "$chart" --set "pod.labels.$key=x" -- "pod.labels: $label is a label"
    refuses "the Job's label $label" $recent "$chart" --set "topic.job.podLabels.$key=x" -- \
        "topic.job.podLabels: $label is a label"
    refuses "the test's label $label" $recent "$chart" --set "test.podLabels.$key=x" -- \
        "test.podLabels: $label is a label"
    refuses "the label $label" $recent "$chart" --set "labels.$key=x" -- "labels: $label is a label"
done
refuses 'a variable of the chart' $recent "$chart" --set 'extraEnv[0].name=CHANGELOGD_LISTEN,extraEnv[0].value=x' -- \
    'extraEnv: CHANGELOGD_LISTEN: each setting'
for name in CHANGELOGD_BROKERS CHANGELOGD_MEMORY_LIMIT KAFKA_BROKERS; do
    refuses "the variable $name" $recent "$chart" --set "extraEnv[0].name=$name" -- "extraEnv: $name: each setting"
done
# The API server refuses these, after it has made other objects.
for label in 'a=b c' 'a=-b' 'a b=c' "a=$(printf 'a%.0s' $(seq 64))" '/a=b' 'a/=b' 'a/b/c=d' 'A/b=c' 'a=5'; do
    refuses "the label of a pod, $label" $recent "$chart" --set "pod.labels.$label" -- "at '/pod/labels"
    refuses "the label of a node, $label" $recent "$chart" --set "pod.nodeSelector.$label" -- "at '/pod/nodeSelector"
done
for annotation in 'a b=c' 'a/b/c=d' 'a=5' 'a=true'; do
    refuses "the annotation $annotation" $recent "$chart" --set "annotations.$annotation" -- "at '/annotations"
done
for pod in test topic.job; do
    refuses "an annotation of the pod of $pod that is no text" $recent "$chart" --set "$pod.podAnnotations.a=5" -- \
        "at '/$(echo $pod | tr . /)/podAnnotations"
done
for value in podMonitor.labels.release=5 serviceMonitor.labels.release=5 prometheusRule.labels.release=5 \
    dashboard.labels.grafana_dashboard=1 'dashboard.labels.a b=c' dashboard.annotations.a=5; do
    refuses "a label of monitoring that is no text, $value" $recent "$chart" --set "monitoring.$value" -- \
        "at '/monitoring/$(echo "${value%=*}" | sed 's,\.,/,g; s, .*,,; s,/a$,,')"
done
refuses 'a resize policy of a disk' $recent "$chart" --set 'resizePolicy[0].resourceName=ephemeral-storage' \
    --set 'resizePolicy[0].restartPolicy=NotRequired' -- "at '/resizePolicy/0/resourceName'"
refuses 'an unknown resize policy' $recent "$chart" --set 'resizePolicy[0].resourceName=cpu' \
    --set 'resizePolicy[0].restartPolicy=Always' -- "at '/resizePolicy/0/restartPolicy'"
refuses 'two resize policies of the memory' $recent "$chart" \
    --set 'resizePolicy[0].resourceName=memory,resizePolicy[0].restartPolicy=NotRequired' \
    --set 'resizePolicy[1].resourceName=memory,resizePolicy[1].restartPolicy=RestartContainer' -- \
    'resizePolicy: memory stands there twice'
for label in job-name controller-uid 'batch\.kubernetes\.io/job-name'; do
    refuses "a label of Kubernetes for the Job's pod, $label" $recent "$chart" --set "$kafka" \
        --set topic.partitions=12,topic.job.enabled=true --set-string "topic.job.podLabels.$label=a" -- \
        'topic.job.podLabels' 'is a label that Kubernetes sets'
done
for value in 5 true; do
    refuses "the variable $value" $recent "$chart" --set "extraEnv[0].name=A,extraEnv[0].value=$value" -- \
        "at '/extraEnv/0/value'"
done
for repository in a/b:v1 A/b/C a/b@sha256:00 a//:b registry.example:5000; do
    refuses "the image $repository" $recent "$chart" --set "image.repository=$repository" -- "at '/image/repository'"
done
for topic in . ..; do
    refuses "the topic $topic" $recent "$chart" --set "$kafka" --set "topic.partitions=1,topic.name=$topic" -- \
        "at '/topic/name'"
done
refuses 'a mount at a place of the chart' $recent "$chart" --set 'extraVolumes[0].name=a' \
    --set 'extraVolumeMounts[0].name=a,extraVolumeMounts[0].mountPath=/var/lib/changelogd/' -- \
    'extraVolumeMounts: something is mounted at /var/lib/changelogd already'
refuses 'a mount of no volume' $recent "$chart" \
    --set 'extraVolumeMounts[0].name=a,extraVolumeMounts[0].mountPath=/a' -- 'extraVolumeMounts: a is no volume'
refuses 'two containers of a name' $recent "$chart" --set 'pod.extraContainers[0].name=changelogd' -- \
    'pod.extraContainers: changelogd is a container'
token=/var/run/secrets/kubernetes.io/serviceaccount
for path in $token $token/ /var/run/secrets//kubernetes.io/serviceaccount; do
    refuses "a second mount at the token's place, $path" $recent "$consumer" --set-json \
        "changelogd.extraVolumes=[{\"name\":\"token\",\"emptyDir\":{}}]" \
        --set "changelogd.extraVolumeMounts[0].name=token,changelogd.extraVolumeMounts[0].mountPath=$path" -- \
        "extraVolumeMounts: something is mounted at $token already"
done
refuses 'a mount without a place' $recent "$chart" --set 'extraVolumeMounts[0].name=a' -- \
    "at '/extraVolumeMounts/0'" mountPath
refuses 'a mount of a sidecar without a volume' $recent "$consumer" \
    --set 'changelogd.extraVolumeMounts[0].name=a,changelogd.extraVolumeMounts[0].mountPath=/a' -- \
    'extraVolumeMounts: a is no volume of the pod'
refuses 'more containers of a sidecar' $recent "$chart" --set 'mode=sidecar,pod.extraContainers[0].name=a' -- \
    "at '/pod/extraContainers'"
refuses 'a variable twice' $recent "$chart" --set 'extraEnv[0].name=A,extraEnv[1].name=A' -- \
    'extraEnv: A stands there twice'
refuses 'properties in two places' $recent "$chart" --set "$kafka" --set topic.partitions=1,kafka.properties.a=b \
    --set 'extraEnv[0].name=CHANGELOGD_KAFKA_PROPERTY' -- 'extraEnv: CHANGELOGD_KAFKA_PROPERTY: each setting'
refuses 'properties without kafka' $recent "$chart" --set kafka.properties.a=b -- 'kafka.properties: the embedded store'
refuses 'Secrets without kafka' $recent "$chart" --set 'kafka.secrets[0].name=a' -- 'kafka.secrets: the embedded store'
refuses 'a Secret twice' $recent "$chart" --set "$kafka" --set topic.partitions=1 \
    --set 'kafka.secrets[0].name=a,kafka.secrets[0].optional=true,kafka.secrets[1].name=a' -- 'kafka.secrets: a Secret'
refuses 'a property that is no name' $recent "$chart" --set "$kafka" --set topic.partitions=1,kafka.properties.A=b -- \
    "at '/kafka/properties'"
refuses 'a claim for a sidecar of unknown replicas' $recent "$chart" --set mode=sidecar,data.existingClaim=a -- \
    'data.existingClaim' 'set sidecar.replicas to the replicas of your workload'
refuses 'a claim for a sidecar of two replicas' $recent "$consumer" --set-json 'changelogd.kafka.brokers=[]' \
    --set changelogd.data.existingClaim=a,changelogd.sidecar.replicas=2 -- 'data.existingClaim' 'which has to be 1'
refuses 'a pod that ends sooner' $recent "$two" --set prices.terminationGracePeriodSeconds=40 -- \
    'terminationGracePeriodSeconds: the pod has 30, and this value is 40'
sed 's/changelogd.v1.pod/changelogd.sidecar/; s/(list . (include "orders.pod" $ | fromYaml))/./' \
    "$here/consumer/templates/deployment.yaml" >"$consumer/templates/old.yaml"
refuses 'an old name of a template' $recent "$consumer" -- 'changelogd.sidecar: renamed to changelogd.v1.sidecar'
sed 's/(include "orders.pod" $ | fromYaml)/(include "orders.pod" $)/' \
    "$here/consumer/templates/deployment.yaml" >"$consumer/templates/old.yaml"
refuses 'a pod spec that is text' $recent "$consumer" -- 'changelogd.v1.pod takes a list'
sed 's/(list . (include/(list $ (include/' "$here/consumer/templates/deployment.yaml" >"$consumer/templates/old.yaml"
refuses "the parent's context" $recent "$consumer" -- "the templates need changelogd's own context"
rm "$consumer/templates/old.yaml"
# application_is LINE...: the example has these lines as its pod spec, until application_was.
deployment=$consumer/templates/deployment.yaml
application_is() {
    sed '/define "orders.pod"/,$d' "$here/consumer/templates/deployment.yaml" >"$deployment"
    printf '%s\n' '{{- define "orders.pod" -}}' "$@" '{{- end }}' >>"$deployment"
}
application_was() {
    cp "$here/consumer/templates/deployment.yaml" "$deployment"
}
# pod_is NAME TEXT LINE...
# The example with these lines as its pod spec is refused with the text.
pod_is() {
    name=$1 text=$2
    shift 2
    application_is "$@"
    refuses "$name" $recent "$consumer" -- "$text"
    application_was
}
# A field with null is as a field that is absent.
application_is 'initContainers: null' 'volumes: null' 'enableServiceLinks: null' 'terminationGracePeriodSeconds: null' \
    'securityContext: { fsGroup: null, runAsNonRoot: true, seccompProfile: { type: RuntimeDefault } }' \
    'containers: [{ name: a, image: b, env: null, volumeMounts: null, securityContext:' \
    '  { allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } } }]'
renders 'a pod spec with nulls' $recent "$consumer" --set changelogd.api.socket=true -- \
    '+enableServiceLinks: false' '+terminationGracePeriodSeconds: 30' '+fsGroup: 65532' '+name: changelogd-data' \
    '+CHANGELOGD_ADDR=unix:/run/changelogd/changelogd.sock'
application_was
# The API server allows no restart by a resize there.
application_is 'restartPolicy: Never' \
    'securityContext: { runAsNonRoot: true, seccompProfile: { type: RuntimeDefault } }' \
    'containers: [{ name: a, image: b, securityContext:' \
    '  { allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } } }]'
for type in native classic; do
    # Covers K6.
    renders "a pod that starts nothing again, $type" $recent "$consumer" --set changelogd.sidecar.type=$type -- \
        '+restartPolicy: Never' '-resizePolicy:' '+name: changelogd'
done
application_was
application='containers: [{ name: a, image: b }]'
# A volume of the pod spec, and a claim of a StatefulSet, which a container mounts.
context='securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } }'
application_is 'securityContext: { runAsNonRoot: true, seccompProfile: { type: RuntimeDefault } }' \
    'volumes: [{ name: shared, emptyDir: {} }]' \
    "containers: [{ name: a, image: b, volumeMounts: [{ name: claim, mountPath: /claim }], $context }]"
renders "mounts of the application's volumes" $recent "$consumer" \
    --set 'changelogd.extraVolumeMounts[0].name=shared,changelogd.extraVolumeMounts[0].mountPath=/shared' \
    --set 'changelogd.extraVolumeMounts[1].name=claim,changelogd.extraVolumeMounts[1].mountPath=/claim' -- \
    '+mountPath: /shared' '+mountPath: /claim'
application_was
pod_is 'a pod spec that is no YAML' 'the pod spec is no YAML' 'containers:' '  - name: a' ' image: b'
pod_is 'a pod without containers' 'the pod spec has no containers' 'containers: []'
pod_is 'a pod whose containers are no list' "the pod spec's containers are no list" 'containers: { a: { image: b } }'
pod_is 'a pod whose volumes are no list' "the pod spec's volumes are no list" "$application" 'volumes: { a: b }'
pod_is 'a pod on the network of its node' 'api.socket: the pod has hostNetwork' "$application" 'hostNetwork: true'
pod_is 'a pod that ends at once' 'terminationGracePeriodSeconds: the pod has 0' \
    "$application" 'terminationGracePeriodSeconds: 0'
pod_is 'a pod with a volume of that name' 'a volume changelogd-data already' \
    "$application" 'volumes: [{ name: changelogd-data }]'
pod_is 'a pod with a container of that name' 'a container changelogd already' \
    "$application" 'initContainers: [{ name: changelogd }]'
for port in health.port=9651 health.port=50051 admin.port=9650,prices.admin.podListen=true \
    'bindAddress=0.0.0.0,prices.health.port=9651'; do
    refuses "two sidecars on one port, $port" $recent "$two" --set "prices.$port" -- \
        'another sidecar of the pod has it too'
done
refuses 'two sidecars with one variable' $recent "$two" --set prices.sidecar.addressVariable=ORDERS_ADDR -- \
    'sidecar.addressVariable: the containers have ORDERS_ADDR already'
# Two charts of a release may depend on two versions of this one. Helm then has one template of each name.
cp -R "$consumer" "$work/newer"
tar -xzf "$consumer"/charts/changelogd-*.tgz -C "$work/newer/charts"
rm "$work"/newer/charts/*.tgz
sed 's/^  templates: .*/  templates: 0.2.0/' "$chart/Chart.yaml" >"$work/newer/charts/changelogd/Chart.yaml"
refuses 'values of another version' $recent "$work/newer" -- \
    'the templates are of chart version 0.1.0, and the values of version 0.2.0'
for resources in requests.memory=257Mi requests.memory=300e6 limits.cpu=99m; do
    refuses "a request above its limit, $resources" $recent "$chart" --set "resources.$resources" -- \
        'resources.requests.' 'is more than resources.limits.'
done
for pod in test topic.job; do
    refuses "a request of $pod above its limit" $recent "$chart" --set "$pod.resources.requests.memory=65Mi" -- \
        "$pod.resources.requests.memory: 65Mi is more than $pod.resources.limits.memory, which is 64Mi"
    refuses "no memory limit of $pod" $recent "$chart" --set "$pod.resources.limits.memory=null" -- \
        "at '/$(echo $pod | tr . /)/resources/limits'" "'memory'"
done
for strategy in strategy.type=RollingUpdate strategy.rollingUpdate.maxSurge=0; do
    refuses "two pods on one directory, $strategy" $recent "$chart" --set $strategy -- \
        'strategy: it is Recreate with the embedded store'
    refuses "$strategy of a sidecar" $recent "$chart" --set mode=sidecar,$strategy -- "at '/strategy'"
done
refuses 'an unknown strategy' $recent "$chart" --set strategy.type=Replace -- "at '/strategy/type'"
refuses 'two strategies' $recent "$chart" --set "$kafka" --set topic.partitions=1,strategy.type=Recreate \
    --set strategy.rollingUpdate.maxSurge=0 -- 'strategy.rollingUpdate: does not go with'
refuses 'an update strategy of no StatefulSet' $recent "$chart" --set updateStrategy.type=OnDelete -- \
    'updateStrategy: only data.claim has a StatefulSet'
for value in minReadySeconds=1 revisionHistoryLimit=1 updateStrategy.type=OnDelete; do
    refuses "$value of a sidecar" $recent "$chart" --set mode=sidecar,$value -- "at '/${value%%[.=]*}'"
done
refuses 'readiness that is later than the deadline of a rollout' $recent "$chart" --set minReadySeconds=600 -- \
    "at '/minReadySeconds'"
refuses 'a memory limit of the program that is too small' $recent "$chart" --set config.memoryLimit=32750047 -- \
    'config.memoryLimit: 32750047 is too small: 32750048 are needed'
refuses 'a memory limit of the program above its container' $recent "$chart" --set config.memoryLimit=242221057 -- \
    'config.memoryLimit: 242221057 is too large' '242221056 of resources.limits.memory'
for quantity in 1Kii 1K 5ki 1e 1.2.3 -1Mi 0x10 1Mb 'abc' 1e+; do
    refuses "memory limit $quantity" $recent "$chart" --set-string "resources.limits.memory=$quantity" -- \
        "at '/resources/limits/memory'"
done
refuses 'an old name of a value' $recent "$chart" --set pod.serviceAccountName=a -- 'renamed to serviceAccount.name'
for value in serviceAccount.create podDisruptionBudget.enabled networkPolicy.enabled; do
    refuses "$value in sidecar mode" $recent "$chart" --set "mode=sidecar,$value=true" -- \
        "at '/$(echo $value | tr . /)'"
done
refuses 'a budget with two numbers' $recent "$chart" \
    --set podDisruptionBudget.enabled=true,podDisruptionBudget.minAvailable=1 -- 'either minAvailable or maxUnavailable'
refuses 'a budget without a number' $recent "$chart" \
    --set podDisruptionBudget.enabled=true,podDisruptionBudget.maxUnavailable=null -- 'either minAvailable or'
refuses 'a budget of nothing' $recent "$chart" \
    --set podDisruptionBudget.enabled=true,podDisruptionBudget.maxUnavailable= -- 'either minAvailable or'
refuses 'a budget that is no percentage' $recent "$chart" --set podDisruptionBudget.maxUnavailable=101% -- \
    "at '/podDisruptionBudget/maxUnavailable'"
refuses 'two claims' $recent "$chart" --set data.claim.enabled=true,data.existingClaim=a -- 'data.claim.enabled'
refuses 'a claim for kafka' $recent "$chart" --set "$kafka" --set topic.partitions=1,data.claim.enabled=true -- \
    'data.claim.enabled: standalone mode with the kafka store has no use'
refuses 'a claim of its own for a sidecar' $recent "$chart" --set mode=sidecar,data.claim.enabled=true -- \
    'data.claim.enabled: sidecar mode with the embedded store'
refuses 'two that create the topic' $recent "$chart" --set "$kafka" --set topic.partitions=1 \
    --set topic.create=true,topic.job.enabled=true -- 'topic.job.enabled: creates the topic, and so does topic.create'
refuses 'a Job without kafka' $recent "$chart" --set topic.job.enabled=true -- 'topic.job.enabled: there is no topic'
refuses 'a small claim' $recent "$chart" --set data.claim.enabled=true,data.claim.size=255Mi -- 'data.claim.size: 255Mi'
refuses 'a small limit of the files' $recent "$chart" --set data.limit=255Mi -- 'data.limit: 255Mi is too small'
refuses 'a limit of files for kafka' $recent "$chart" --set "$kafka" --set topic.partitions=1,data.limit=1Gi -- \
    'data.limit: the kafka store has no files'
refuses 'less disk than the files may have' $recent "$chart" --set resources.limits.ephemeral-storage=500Mi -- \
    'resources.limits.ephemeral-storage: 500Mi is less'
refuses 'more replicas in sync than there are' $recent "$chart" --set "$kafka" --set topic.partitions=1 \
    --set topic.job.enabled=true,topic.replicationFactor=2,topic.minInsyncReplicas=3 -- \
    'topic.minInsyncReplicas: 3 is more than topic.replicationFactor, which is 2'
refuses 'replicas in sync twice' $recent "$chart" --set "$kafka" --set topic.partitions=1,topic.job.enabled=true \
    --set 'topic.minInsyncReplicas=1,topic.config.min\.insync\.replicas=2' -- 'topic.config: min.insync'
for port in 0 65536; do
    refuses "the port $port" $recent "$chart" --set "kafka.brokers={k:$port},topic.partitions=1" -- \
        "kafka.brokers: k:$port: a port is a number from 1 to 65535"
done
refuses 'an account of a hook with the name of another' $recent "$chart" --set "$kafka" --set topic.partitions=1 \
    --set topic.job.enabled=true,topic.job.serviceAccount.name=runner -- 'topic.job.serviceAccount.create: Helm removes'
refuses 'a limit above its volume' $recent "$chart" --set data.limit=961Mi -- 'data.limit: 961Mi is too large'
refuses 'a limit above its claim' $recent "$chart" --set data.claim.enabled=true,data.claim.size=1Gi,data.limit=1Gi -- \
    'data.limit: 1Gi is too large'
refuses 'a claim for a store without files' $recent "$chart" --set "$kafka" --set topic.partitions=1 \
    --set data.existingClaim=a -- 'data.existingClaim: the kafka store has no files'
refuses 'a volume with a name of the chart' $recent "$chart" --set 'extraVolumes[0].name=changelogd-data' -- \
    'extraVolumes: changelogd-data is a volume of the chart'
refuses 'a headless Service with another port' $recent "$chart" \
    --set api.insecureListen=true,service.enabled=true,service.headless=true,service.port=80 -- \
    'service.port: clients of a headless Service dial the pod'
refuses 'a startup without an end' $recent "$chart" --set probes.startupWindow=36600d -- 'probes.startupWindow: 36600d'
refuses 'clients of a closed port' $recent "$chart" --set-json 'networkPolicy.clients=[{"podSelector":{}}]' -- \
    'networkPolicy.clients: nothing outside the pod'
refuses 'scrapers of a closed port' $recent "$chart" --set-json 'networkPolicy.metrics=[{"podSelector":{}}]' -- \
    'networkPolicy.metrics: nothing outside the pod'
refuses 'brokers of the embedded store' $recent "$chart" --set-json 'networkPolicy.brokers=[{"podSelector":{}}]' -- \
    'networkPolicy.brokers: the embedded store'
refuses 'tolerations in sidecar mode' $recent "$chart" --set mode=sidecar,pod.nodeSelector.a=b -- \
    'pod.nodeSelector: in sidecar mode it is only for the Job'
refuses 'no variable for the address' $recent "$consumer" --set changelogd.sidecar.addressVariable=null -- \
    "at '/sidecar'" addressVariable
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
        --set "store.maxValueBytes=$value,resources.limits.memory=$limit,resources.requests.memory=1" -- \
        "resources.limits.memory: $limit is too small" "60 % of it are $share bytes, and $needed are needed" \
        "set $enough or more"
    renders "memory limit $enough, values of $value bytes $*" $recent "$chart" "$@" \
        --set "store.maxValueBytes=$value,resources.limits.memory=$enough,resources.requests.memory=1" -- \
        "+CHANGELOGD_MAX_VALUE_BYTES=$value"
}
for limit in 1 32Mi 40Mi 47Mi 60M 0.06Gi 63Mi 67108863; do
    refuses "memory limit $limit" $recent "$chart" \
        --set "resources.limits.memory=$limit,resources.requests.memory=1" -- \
        'resources.limits.memory'
done
refuses_memory 1000000 32750048 63Mi 39636172 64Mi
refuses_memory 1000000 34881120 63Mi 39636172 64Mi --set "$kafka" --set topic.partitions=1
refuses_memory 3000000 55750048 64Mi 40265318 89Mi
refuses_memory 3000000 61881120 64Mi 40265318 99Mi --set "$kafka" --set topic.partitions=1
refuses_memory 1000000 230652896 256Mi 161061273 367Mi --set config.replayMemory=200000000
refuses_memory 1000000 167007584 256Mi 161061273 266Mi --set "$kafka" --set topic.partitions=1,config.producers=64
refuses_memory 64000000 817055744 900Mi 566231040 1299Mi
refuses_memory 64000000 945186816 1024Mi 644245094 1503Mi --set "$kafka" --set topic.partitions=1
# Every object of the schema is closed.
for path in '' image sidecar api health admin service store kafka kafka.propertiesSecret 'kafka.secrets[0]' \
    'resizePolicy[0]' test test.resources topic topic.job topic.job.serviceAccount topic.job.resources \
    data data.claim log probes serviceAccount podDisruptionBudget networkPolicy resources resources.limits \
    resources.requests pod config; do
    pointer=$(echo "$path" | sed 's/^\(.\)/\/\1/; s/[.[]/\//g; s/\]//')
    # Covers K9, B26.
    refuses "typo in ${path:-the top}" $recent "$chart" --set "${path:+$path.}tpyo=1" -- \
        "at '$pointer': additional properties 'tpyo' not allowed"
done

refuses 'a runbook that no pager can open' $recent "$chart" --set monitoring.prometheusRule.enabled=true \
    --set monitoring.prometheusRule.runbook=docs/operations.md -- 'runbook'
