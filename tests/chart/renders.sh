#!/bin/sh
# What the chart renders. run.sh reads this file.

lints 'defaults' "$chart" --values "$work/image.yaml"
lints 'sidecar' "$chart" --values "$work/image.yaml" --set mode=sidecar
lints 'kafka' "$chart" --values "$work/image.yaml" --set "$kafka" --set topic.partitions=12
lints 'the example' "$consumer"
lints 'piece by piece' "$pieces"
lints 'two sidecars' "$two"

for kube in $oldest $native $recent $newest; do
    # Covers K2, K4, K6, K12.
    renders 'standalone, defaults' "$kube" "$chart" -- \
        '+kind: Deployment' '-kind: Service' '+replicas: 1' '+type: Recreate' \
        '+CHANGELOGD_DELETE_RETENTION=24h' '-CHANGELOGD_MEMORY_LIMIT=' '+CHANGELOGD_DATA_LIMIT=1006632960' \
        '+CHANGELOGD_LISTEN=127.0.0.1:50051' \
        '-CHANGELOGD_INSECURE_LISTEN=true' '+CHANGELOGD_HEALTH_LISTEN=[::]:9651' \
        '+CHANGELOGD_ADMIN_LISTEN=127.0.0.1:9650' '+CHANGELOGD_STORE=embedded' '+CHANGELOGD_MAX_VALUE_BYTES=1000000' \
        '-CHANGELOGD_LOG=' '-cpu: 1' '+failureThreshold: 300' '+CHANGELOGD_DRAIN_TIMEOUT=20s' \
        '+service: serving' '-service: readiness' '+automountServiceAccountToken: false' \
        '+enableServiceLinks: false' '+emptyDir:' '+terminationGracePeriodSeconds: 30' '+namespace: ns'
    # Covers K2, K10, K12.
    renders 'standalone, kafka, three pods and a headless Service' "$kube" "$chart" --set "$kafka" \
        --set topic.partitions=100000,topic.create=true,topic.replicationFactor=2,replicas=3 \
        --set api.insecureListen=true,service.enabled=true,service.headless=true -- \
        '+kind: Deployment' '+kind: Service' '+clusterIP: None' '+replicas: 3' '-type: Recreate' \
        '+CHANGELOGD_LISTEN=[::]:50051' '+CHANGELOGD_INSECURE_LISTEN=true' '+CHANGELOGD_STORE=kafka' \
        '+KAFKA_BROKERS=kafka-0:9092,kafka-1:9092' '+CHANGELOGD_PARTITIONS=100000' '+CHANGELOGD_CREATE_TOPIC=true' \
        '+CHANGELOGD_CREATE_TOPIC_REPLICATION_FACTOR=2' \
        '-CHANGELOGD_DELETE_RETENTION=24h' \
        '+targetPort: changelogd-grpc' '+- name: changelogd-grpc' '+appProtocol: kubernetes.io/h2c'
    renders_nothing "$kube" "$chart" --set mode=sidecar,sidecar.type=classic
    # Covers K2, K12.
    renders 'example in one include, classic' "$kube" "$consumer" --set changelogd.sidecar.type=classic -- \
        '+name: rel-orders' '-initContainers:' '-restartPolicy: Always' '+enableServiceLinks: false' \
        '+CHANGELOGD_ADDR=127.0.0.1:50051' '+terminationGracePeriodSeconds: 30' '+name: changelogd-no-token'
    # Covers K2, K12.
    renders 'example, classic' "$kube" "$pieces" --set changelogd.sidecar.type=classic -- \
        '+name: rel-orders' '-name: rel-changelogd' '-initContainers:' '-restartPolicy: Always' \
        '+CHANGELOGD_LISTEN=127.0.0.1:50051' '+CHANGELOGD_ADDR=127.0.0.1:50051' '+CHANGELOGD_PARTITIONS=12' \
        '-service: readiness' '+mountPath: /var/run/secrets/kubernetes.io/serviceaccount'
done

for kube in $native $recent $newest; do
    # Covers K2, K12.
    renders 'example in one include, native' "$kube" "$consumer" -- \
        '+initContainers:' '+restartPolicy: Always' '+enableServiceLinks: false' '+CHANGELOGD_ADDR=127.0.0.1:50051' \
        '+CHANGELOGD_PARTITIONS=12' '-fsGroup: 65532' '-service: readiness' '+name: changelogd-no-token'
    # Covers K2, K4, K12.
    renders 'example, native' "$kube" "$pieces" -- \
        '+initContainers:' '+restartPolicy: Always' '+CHANGELOGD_ADDR=127.0.0.1:50051' '-service: readiness' \
        '+- name: changelogd-no-token' '+mountPath: /var/run/secrets/kubernetes.io/serviceaccount'
    # Covers K1, K12.
    same 'defaults' "$kube"
    same 'socket, Secret, readiness' "$kube" --set changelogd.api.socket=true,changelogd.probes.readiness=always \
        --set changelogd.kafka.propertiesSecret.name=kafka-client
    same 'embedded, claim, admin port' "$kube" --set-json 'changelogd.kafka.brokers=[]' \
        --set changelogd.data.existingClaim=state,changelogd.sidecar.replicas=1,changelogd.admin.podListen=true
done

# The README lists these: a native sidecar restarts, only standalone mode has a readiness probe by default, and no token
# is mounted into a sidecar.
token='> - name: changelogd-no-token
> mountPath: /var/run/secrets/kubernetes.io/serviceaccount
> readOnly: true'
readiness='< readinessProbe:
< grpc:
< port: 9651
< service: serving
< periodSeconds: 5
< timeoutSeconds: 2'
resize='< resizePolicy:
< - resourceName: memory
< restartPolicy: RestartContainer
< - resourceName: cpu
< restartPolicy: NotRequired'
# Covers K1.
alike 'kafka' $recent "$readiness
$resize
$token
> restartPolicy: Always" kafka.brokers='{kafka-0:9092,kafka-1:9092}' topic.partitions=12
# Covers K1.
alike 'classic, with a readiness probe' $recent "$resize
$token" sidecar.type=classic probes.readiness=always \
    kafka.brokers='{kafka-0:9092}' topic.partitions=1 admin.podListen=true 'kafka.secrets[0].name=a'

# Covers R45.
renders 'standalone, embedded, the limit of its emptyDir' $recent "$chart" --set data.sizeLimit=274Mi -- \
    '+CHANGELOGD_DATA_LIMIT=269352960' '+sizeLimit: 274Mi'
renders 'standalone, embedded, a decimal size' $recent "$chart" --set data.sizeLimit=1.6G -- \
    '+CHANGELOGD_DATA_LIMIT=1500000000'
renders 'standalone, memory, no limit' $recent "$chart" --set store.type=memory,data.sizeLimit=1Mi -- \
    '-CHANGELOGD_DATA_LIMIT='
# Covers K7.
renders 'standalone, embedded on a claim' $recent "$chart" --set data.existingClaim=state,topic.partitions=4 -- \
    '-CHANGELOGD_DATA_LIMIT=' \
    '+claimName: state' '-emptyDir:' '+fsGroup: 65532' '+CHANGELOGD_PARTITIONS=4' '+type: Recreate'
renders 'standalone, memory' $recent "$chart" --set store.type=memory,store.values=opaque -- \
    '+CHANGELOGD_STORE=memory' '+CHANGELOGD_VALUES=opaque' '-CHANGELOGD_CREATE_TOPIC=false'
renders 'standalone, Secret with properties' $recent "$chart" --set "$kafka" --set topic.partitions=12 \
    --set kafka.propertiesSecret.name=kafka-client,kafka.propertiesSecret.key=client.properties -- \
    '+secretName: kafka-client' '+CHANGELOGD_KAFKA_PROPERTIES_FILE=/etc/changelogd/kafka/client.properties' \
    '+mountPath: /etc/changelogd/kafka'
renders 'standalone, IPv4 only, open admin port' $recent "$chart" --set bindAddress=0.0.0.0,admin.podListen=true -- \
    '+CHANGELOGD_HEALTH_LISTEN=0.0.0.0:9651' '+CHANGELOGD_ADMIN_LISTEN=0.0.0.0:9650' \
    '+CHANGELOGD_LISTEN=127.0.0.1:50051' '+- name: changelogd-http'
renders 'standalone, ready while brokers answer' $recent "$chart" --set probes.readiness=always -- \
    '+service: readiness' '-service: serving'
renders 'standalone, memory of large values is given back' $recent "$chart" -- '+MALLOC_MMAP_THRESHOLD_=131072'
renders 'standalone, another value for malloc' $recent "$chart" \
    --set 'extraEnv[0].name=MALLOC_MMAP_THRESHOLD_' --set-string 'extraEnv[0].value=65536' \
    -- '+MALLOC_MMAP_THRESHOLD_=65536' '-MALLOC_MMAP_THRESHOLD_=131072'
renders 'standalone, no readiness probe' $recent "$chart" --set probes.readiness=never -- '-readinessProbe:'
for repository in localhost:5000/a/b__c 10.0.0.1:5000/a a-b.c/d-e [::1]:5000/a; do
    renders "the image $repository" $recent "$chart" --set-string "image.repository=$repository,image.tag=1" -- \
        "+image: $repository:1"
done
renders 'standalone, image by digest' $recent "$chart" --set image.repository=registry.example/changelogd,image.tag=v1 \
    --set image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef -- \
    '+image: registry.example/changelogd@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'
renders 'standalone, the pod' $recent "$chart" \
    --set pod.labels.team=a,pod.annotations.note=b,pod.nodeSelector.disk=ssd \
    --set 'pod.tolerations[0].key=c,pod.tolerations[0].operator=Exists,pod.imagePullSecrets={pull}' \
    --set serviceAccount.name=runner,resources.limits.memory=512Mi -- \
    '+team: a' '+note: b' '+disk: ssd' '+- key: c' '+- name: pull' '+serviceAccountName: runner' '+memory: 512Mi'
# The flags take these too, so the chart does.
renders 'no drain delay' $recent "$chart" --set drainDelay=0s -- '+CHANGELOGD_DRAIN_DELAY=0s'
renders 'a drain as short as a write' $recent "$chart" --set drainTimeout=1ms,writeTimeout=1ms -- \
    '+CHANGELOGD_DRAIN_TIMEOUT=1ms' '+CHANGELOGD_WRITE_TIMEOUT=1ms'
renders 'durations in days and in many milliseconds' $recent "$chart" --set store.deleteRetention=7d \
    --set writeTimeout=3162240000000ms,drainTimeout=36600d,terminationGracePeriodSeconds=3162240008 -- \
    '+CHANGELOGD_DELETE_RETENTION=7d' '+CHANGELOGD_WRITE_TIMEOUT=3162240000000ms' \
    '+terminationGracePeriodSeconds: 3162240008'
renders 'no retention of tombstones' $recent "$chart" --set store.deleteRetention=0ms -- \
    '+CHANGELOGD_DELETE_RETENTION=0ms'
# Covers K6.
renders 'the smallest memory limit' $recent "$chart" --set resources.limits.memory=64Mi \
    --set resources.requests.memory=64Mi -- '+memory: 64Mi'
renders 'the smallest memory limit, kafka' $recent "$chart" --set "$kafka" --set topic.partitions=1 \
    --set resources.limits.memory=67108864,resources.requests.memory=1 -- '+memory: 67108864'
# Each form that Kubernetes has, and the bytes that are 15 sixteenths of it.
# renders_size SIZE BYTES
renders_size() {
    renders "data.sizeLimit $1" $recent "$chart" --set-string "data.sizeLimit=$1" -- "+CHANGELOGD_DATA_LIMIT=$2"
}
renders_size 1.5Gi 1509949440
renders_size 2000000000 1875000000
renders_size 1e9 937500000
renders_size +1E9 937500000
renders_size 1.G 937500000
renders_size .5Ti 515396075520
renders_size 300000000000m 281250000
renders_size 300000000000001m 281250000001
renders_size 1P 937500000000000
renders_size .25Ei 270215977642229760
renders_size 300000k 281250000
renders_size 2Pi 2111062325329920
renders 'a size from a file, as a float' $recent "$chart" --set-json data.sizeLimit=2147483648 -- \
    '+CHANGELOGD_DATA_LIMIT=2013265920' '+sizeLimit: 2147483648'
renders 'a limit of the files' $recent "$chart" --set data.limit=512Mi -- '+CHANGELOGD_DATA_LIMIT=536870912'
renders 'a limit of the files of a claim' $recent "$chart" --set data.claim.enabled=true,data.limit=9Gi -- \
    '+CHANGELOGD_DATA_LIMIT=9663676416'
# Covers K6.
renders 'a memory limit of the program' $recent "$chart" --set config.memoryLimit=200000000 -- \
    '+CHANGELOGD_MEMORY_LIMIT=200000000'
renders 'quantities of processors' $recent "$chart" --set resources.requests.cpu=100m,resources.limits.cpu=0.1 -- \
    '+cpu: 100m' '+cpu: 0.1'
renders 'a claim, and little disk of the node' $recent "$chart" \
    --set data.claim.enabled=true,data.limit=9Gi,resources.limits.ephemeral-storage=1Gi -- '+ephemeral-storage: 1Gi'
# Covers K5.
renders 'a drain that ends a millisecond before' $recent "$chart" --set drainDelay=500ms,drainTimeout=24499ms -- \
    '+CHANGELOGD_DRAIN_TIMEOUT=24499ms'
# Covers K5.
renders 'drain deadline as long as it may be' $recent "$chart" --set drainTimeout=22s -- \
    '+CHANGELOGD_DRAIN_TIMEOUT=22s' '+CHANGELOGD_DRAIN_DELAY=2s'
# Covers K5.
renders 'a sleep as long as it may be' $recent "$chart" --set lifecycle.preStop.sleep.seconds=2 -- '+preStop:'
renders 'a longer sleep, and its time' $recent "$chart" \
    --set lifecycle.preStop.sleep.seconds=12,terminationGracePeriodSeconds=40 -- '+seconds: 12'
renders 'every flag that no other value sets' $recent "$chart" \
    --set config.readTimeout=1m,config.replayQueueTimeout=0ms,config.shareReplays=false,config.maxReplays=1024 \
    --set config.maxLoadMemory=4000000000,config.kafkaOauthTokenFile=/var/run/kafka/token -- \
    '+CHANGELOGD_READ_TIMEOUT=1m' '+CHANGELOGD_REPLAY_QUEUE_TIMEOUT=0ms' '+CHANGELOGD_SHARE_REPLAYS=false' \
    '+CHANGELOGD_MAX_REPLAYS=1024' '+CHANGELOGD_MAX_LOAD_MEMORY=4000000000' \
    '+CHANGELOGD_KAFKA_OAUTH_TOKEN_FILE=/var/run/kafka/token'
# A backslash at the end of a line would continue it, and the program reads two as one.
renders 'properties of librdkafka' $recent "$chart" --set "$kafka" --set topic.partitions=12 \
    --set 'kafka.properties.security\.protocol=SASL_SSL,kafka.properties.linger\.ms=5' \
    --set-string 'kafka.properties.client\.id=a\\' -- \
    '+CHANGELOGD_KAFKA_PROPERTY=client.id=a\\\\\nlinger.ms=5\nsecurity.protocol=SASL_SSL'
# A KafkaUser of Strimzi, and the CA of its cluster: both have an entry ca.crt.
strimzi='changelogd.kafka.secrets[0].name=orders-user,changelogd.kafka.secrets[1].name=kafka-cluster-ca-cert'
renders 'the Secrets of Strimzi for the Job' $recent "$consumer" --show-only charts/changelogd/templates/topic.yaml \
    --set "$strimzi" --set changelogd.topic.job.enabled=true -- \
    '+secretName: orders-user' '+mountPath: /etc/changelogd/secrets/kafka-cluster-ca-cert'
renders 'the Secrets of Strimzi' $recent "$consumer" --set "$strimzi" --set changelogd.topic.job.enabled=true \
    --set 'changelogd.kafka.properties.security\.protocol=SSL' \
    --set 'changelogd.kafka.properties.ssl\.key\.location=/etc/changelogd/secrets/orders-user/user.key' -- \
    '+secretName: orders-user' '+mountPath: /etc/changelogd/secrets/orders-user' '+kind: Job' \
    '+secretName: kafka-cluster-ca-cert' '+mountPath: /etc/changelogd/secrets/kafka-cluster-ca-cert'
renders 'a Secret that the pod does not wait for' $recent "$chart" --set "$kafka" --set topic.partitions=12 \
    --set 'kafka.secrets[0].name=ca,kafka.secrets[1].name=extra,kafka.secrets[1].optional=true' -- \
    '+secretName: extra' '+optional: true'
renders 'what Kubernetes has for a container' $recent "$chart" \
    --set 'extraEnv[0].name=TZ,extraEnv[0].value=UTC,envFrom[0].secretRef.name=more,extraArgs={--max-replays=8}' \
    --set 'extraVolumes[0].name=token,extraVolumes[0].emptyDir.medium=Memory' \
    --set 'extraVolumeMounts[0].name=token,extraVolumeMounts[0].mountPath=/token' \
    --set 'lifecycle.preStop.sleep.seconds=1' -- \
    '+args: ["serve","--max-replays=8"]' '+TZ=UTC' '+secretRef:' '+medium: Memory' '+mountPath: /token' '+preStop:'
for kube in $oldest $native; do
    renders 'no resize policy' "$kube" "$chart" -- '-resizePolicy:'
done
renders 'no resize policy of a native sidecar' $native "$consumer" -- '-resizePolicy:'
for kube in $recent $newest; do
    # Covers K6.
    renders 'a container that starts again when its memory is resized' "$kube" "$chart" -- \
        '+resizePolicy:' '+- resourceName: memory' '+restartPolicy: RestartContainer' '+- resourceName: cpu' \
        '+restartPolicy: NotRequired'
    # The includer's pod may be one that starts nothing again.
    renders 'a sidecar of another pod, which is not started again' "$kube" "$pieces" -- '-resizePolicy:'
    # Covers K6.
    renders 'a sidecar that starts again when its memory is resized' "$kube" "$consumer" -- \
        '+resizePolicy:' '+- resourceName: memory' '+restartPolicy: RestartContainer' '+restartPolicy: Always'
done
renders 'a resize policy that is left to Kubernetes' $recent "$chart" --set-json 'resizePolicy=[]' -- '-resizePolicy:'
renders 'a sidecar whose resizes are left to Kubernetes' $recent "$consumer" \
    --set-json 'changelogd.resizePolicy=[]' -- '-resizePolicy:'
renders 'a resize policy for the sidecar of another pod' $recent "$pieces" \
    --set changelogd.resizePolicy[0].resourceName=memory \
    --set changelogd.resizePolicy[0].restartPolicy=RestartContainer -- \
    '+resizePolicy:' '+- resourceName: memory' '+restartPolicy: RestartContainer' '-resourceName: cpu'
security='"securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}'
renders 'more containers' $recent "$chart" \
    --set-json "pod.extraContainers=[{\"name\":\"token\",\"image\":\"a\",$security}]" \
    --set-json "pod.extraInitContainers=[{\"name\":\"first\",\"image\":\"b\",$security}]" \
    --set 'pod.imagePullSecrets[0].name=c,pod.imagePullSecrets[1]=d' -- \
    '+initContainers:' '+name: token' '+name: first' '+name: c' '+name: d'
renders 'what Kubernetes has for a pod' $recent "$chart" --set "$kafka" --set topic.partitions=12,replicas=3 \
    --set 'pod.topologySpreadConstraints[0].topologyKey=zone,pod.topologySpreadConstraints[0].maxSkew=1' \
    --set 'pod.topologySpreadConstraints[0].whenUnsatisfiable=DoNotSchedule' \
    --set 'pod.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey=host' \
    --set pod.priorityClassName=high,pod.runtimeClassName=gvisor,pod.dnsPolicy=None \
    --set 'pod.dnsConfig.nameservers={192.0.2.1},pod.hostAliases[0].ip=192.0.2.2,labels.team=a,annotations.note=b' -- \
    '+- maxSkew: 1' '+podAntiAffinity:' '+priorityClassName: high' '+runtimeClassName: gvisor' '+dnsPolicy: None' \
    '+- 192.0.2.1' '+- ip: 192.0.2.2' '+team: a' '+note: b'
# As OpenShift's restricted-v2 wants it.
# Covers K7.
renders 'the user of the namespace' $recent "$chart" \
    --set securityContext.runAsUser=null,securityContext.runAsGroup=null \
    --set pod.securityContext.runAsUser=null,pod.securityContext.runAsGroup=null,pod.securityContext.fsGroup=null -- \
    '-runAsUser: 65532' '-runAsGroup: 65532' '-fsGroup: 65532' '+runAsNonRoot: true'
# Covers K7.
renders 'the user of the namespace, example' $recent "$consumer" --set changelogd.api.socket=true \
    --set changelogd.securityContext.runAsUser=null,changelogd.securityContext.runAsGroup=null \
    --set changelogd.pod.securityContext.fsGroup=null -- \
    '-runAsUser: 65532' '-runAsGroup: 65532' '-fsGroup: 65532' '+runAsNonRoot: true' \
    '+CHANGELOGD_ADDR=unix:/run/changelogd/changelogd.sock'
# Helm 4 merges the default of this chart into null of a parent's values.yaml, so only text removes a key there.
# parent_has LINE...: the example with these lines below changelogd in its values.yaml, as $work/parent.
parent_has() {
    rm -rf "$work/parent"
    cp -R "$consumer" "$work/parent"
    printf '  %s\n' "$@" >>"$work/parent/values.yaml"
}
parent_has 'securityContext: { runAsUser: "", runAsGroup: "", capabilities: { add: "" } }' 'api: { socket: true }' \
    'pod: { securityContext: { runAsUser: "", runAsGroup: "", fsGroup: "" } }' \
    'topic: { partitions: 12, job: { enabled: true } }' 'resources: { requests: { cpu: "" } }'
# Covers K7.
renders "the user of the namespace, in a parent's values" $recent "$work/parent" -- \
    '+securityContext:' '-runAsUser: 65532' '-runAsGroup: 65532' '-fsGroup: 65532' '-runAsUser: ' '+- ALL' '-add: ' \
    '+runAsNonRoot: true' '+fsGroupChangePolicy: OnRootMismatch' '-cpu: 100m' '+kind: Job'
# Covers K7.
renders 'the user of the namespace, as empty text' $recent "$chart" \
    --set securityContext.runAsUser=,securityContext.runAsGroup= \
    --set pod.securityContext.runAsUser=,pod.securityContext.runAsGroup=,pod.securityContext.fsGroup= -- \
    '-runAsUser: 65532' '-runAsGroup: 65532' '-fsGroup: 65532' '-runAsUser: ' '+runAsNonRoot: true'
# Covers K7.
renders 'no context of the pod, as empty text' $recent "$chart" --show-only templates/deployment.yaml \
    --set pod.securityContext.runAsNonRoot=,pod.securityContext.seccompProfile.type= \
    --set pod.securityContext.runAsUser=,pod.securityContext.runAsGroup=,pod.securityContext.fsGroup= \
    --set pod.securityContext.fsGroupChangePolicy= -- '-securityContext: {}' '-seccompProfile: {}' '-fsGroup: 65532'
# Covers K2.
renders 'example, switched off' $recent "$consumer" --set changelogd.enabled=false -- \
    '+kind: Deployment' '+name: orders' '-CHANGELOGD_STORE=kafka' '-volumes:'
# Covers K2.
renders 'two sidecars in a pod' $recent "$two" -- \
    '+name: orders-state' '+name: prices' '+name: orders-state-data' '+name: prices-data' '+name: prices-socket' \
    '+name: prices-hlth' '+ORDERS_ADDR=127.0.0.1:50051' '+PRICES_ADDR=unix:/run/prices/changelogd.sock' \
    '+fsGroup: 65532' '+LANG=C.UTF-8' '-CHANGELOGD_ADDR=127.0.0.1:50051' '+CHANGELOGD_HEALTH_LISTEN=[::]:9751'
# Covers K2.
renders 'one of two sidecars' $recent "$two" --set prices.enabled=false -- \
    '+name: orders-state' '-name: prices' '+ORDERS_ADDR=127.0.0.1:50051' '-fsGroup: 65532'
renders 'example, socket' $recent "$pieces" --set changelogd.api.socket=true -- \
    '+CHANGELOGD_LISTEN=unix:/run/changelogd/changelogd.sock' '+CHANGELOGD_ADDR=unix:/run/changelogd/changelogd.sock' \
    '+mountPath: /run/changelogd' '+- name: changelogd-socket'
renders 'example, readiness asked for' $recent "$pieces" --set changelogd.probes.readiness=always -- \
    '+service: readiness'
renders "a parent's global and enabled values" $recent "$pieces" --set global.x=y,changelogd.enabled=true -- \
    '+- name: changelogd'

# A claim of its own, which stays when the release goes.
# Covers K2, K7.
renders 'standalone, a StatefulSet' $recent "$chart" --set data.claim.enabled=true,data.claim.size=5Gi \
    --set data.claim.storageClassName=fast,data.claim.annotations.a=b -- \
    '+kind: StatefulSet' '-kind: Deployment' '+serviceName: rel-changelogd-headless' '+name: rel-changelogd-headless' \
    '+storage: 5Gi' '+storageClassName: fast' '+- ReadWriteOnce' '-emptyDir:' '-CHANGELOGD_DATA_LIMIT=' \
    '+name: changelogd-data' '-volumes:'
renders 'standalone, a StatefulSet with the default class' $recent "$chart" --set data.claim.enabled=true -- \
    '+storage: 10Gi' '-storageClassName: '
renders 'standalone, an account' $recent "$chart" --set serviceAccount.create=true,serviceAccount.annotations.a=b -- \
    '+kind: ServiceAccount' '+serviceAccountName: rel-changelogd' '+a: b'
# Covers K8.
renders 'a budget of disruptions' $recent "$chart" --set "$kafka" --set topic.partitions=1,replicas=3 \
    --set podDisruptionBudget.enabled=true -- '+kind: PodDisruptionBudget' '+maxUnavailable: 1'
# Covers K8.
renders 'a budget of disruptions in percent' $recent "$chart" \
    --set podDisruptionBudget.enabled=true,podDisruptionBudget.minAvailable=50% \
    --set podDisruptionBudget.maxUnavailable=null -- '+minAvailable: 50%' '-maxUnavailable: 1'
# Covers K8.
renders 'a budget of disruptions that is zero' $recent "$chart" \
    --set podDisruptionBudget.enabled=true,podDisruptionBudget.minAvailable=0 \
    --set podDisruptionBudget.maxUnavailable= -- '+minAvailable: 0' '-maxUnavailable: 1'
# Covers K8.
renders 'a network policy' $recent "$chart" --set 'kafka.brokers={kafka-0:9092,kafka-1:9092,kafka-2:9094}' \
    --set topic.partitions=1,networkPolicy.enabled=true,api.insecureListen=true,admin.podListen=true \
    --set-json 'networkPolicy.clients=[{"podSelector":{"matchLabels":{"uses":"changelogd"}}}]' \
    --set-json 'networkPolicy.brokers=[{"ipBlock":{"cidr":"192.0.2.0/24"}}]' \
    --set-json 'networkPolicy.extraEgress=[{"ports":[{"port":443}]}]' -- \
    '+kind: NetworkPolicy' '+uses: changelogd' '+port: 50051' '+port: 9650' '+cidr: 192.0.2.0/24' '+port: 9092' \
    '+port: 9094' '+port: 53' '+port: 443'
# Covers K8.
renders 'a network policy lets the test of a release through' $recent "$chart" \
    --show-only templates/networkpolicy.yaml --set networkPolicy.enabled=true \
    --set api.insecureListen=true,service.enabled=true \
    --set-json 'networkPolicy.clients=[{"podSelector":{}}]' -- \
    '+app.kubernetes.io/name: rel-changelogd-wait' '+app.kubernetes.io/name: rel-changelogd-describe'
# Covers K8.
renders 'a network policy without DNS' $recent "$chart" --show-only templates/networkpolicy.yaml --set "$kafka" \
    --set topic.partitions=1,networkPolicy.enabled=true --set-json networkPolicy.dnsPorts=[] -- \
    '+port: 9092' '-- ports: []' '-port: 53'
# Covers K8.
renders 'a network policy of a pod that nothing reaches' $recent "$chart" --set networkPolicy.enabled=true -- \
    '+ingress: []' '+egress: []'
job='"topic","ensure","--replication-factor=5","--config=min.insync.replicas=3","--config=retention.bytes=4000000000"'
# Covers K10.
renders 'a Job that creates the topic' $recent "$chart" --show-only templates/topic.yaml --set "$kafka" \
    --set topic.partitions=12,topic.job.enabled=true,topic.replicationFactor=5,topic.minInsyncReplicas=3 \
    --set topic.job.podLabels.team=a \
    --set 'topic.config.retention\.bytes=4000000000,kafka.propertiesSecret.name=kafka-client' -- \
    '+kind: Job' '+name: rel-changelogd-topic' '+serviceAccountName: rel-changelogd-topic' \
    "+args: [$job]" \
    '+helm.sh/hook: pre-install,pre-upgrade' '+activeDeadlineSeconds: 300' '+secretName: kafka-client' '+team: a' \
    '+CHANGELOGD_PARTITIONS=12'
# Covers K10.
renders 'a Job that creates the topic of a sidecar' $recent "$consumer" \
    --show-only charts/changelogd/templates/topic.yaml --set changelogd.topic.job.enabled=true \
    --set 'changelogd.pod.imagePullSecrets={pull}' -- \
    '+kind: Job' '+name: rel-changelogd-topic' '+args: ["topic","ensure","--replication-factor=3"]' '+- name: pull'
job='"topic","ensure","--replication-factor=3","--config=min.cleanable.dirty.ratio=0.1","--config=retention.bytes=-1"'
# Covers K10.
renders "the pod of the topic's Job" $recent "$consumer" --show-only charts/changelogd/templates/topic.yaml \
    --set changelogd.topic.job.enabled=true \
    --set 'changelogd.pod.tolerations[0].key=c,changelogd.pod.tolerations[0].operator=Exists' \
    --set changelogd.pod.nodeSelector.disk=ssd,changelogd.topic.job.serviceAccount.name=topics \
    --set changelogd.topic.job.serviceAccount.create=false \
    --set-json 'changelogd.topic.config={"min.cleanable.dirty.ratio":0.1,"retention.bytes":-1}' -- \
    '+key: c' '+disk: ssd' '+serviceAccountName: topics' '-kind: ServiceAccount' \
    "+args: [$job]"
# A ResourceQuota refuses a pod whose containers do not have what it counts.
# Covers K10.
renders 'resources of the Job' $recent "$chart" --show-only templates/topic.yaml --set "$kafka" \
    --set topic.partitions=12,topic.job.enabled=true,topic.job.resources.limits.cpu=500m \
    --set topic.job.resources.requests.cpu=,topic.job.resources.requests.memory=32Mi -- \
    '+cpu: 500m' '-cpu: 10m' '+memory: 32Mi' '+memory: 64Mi'
# The proxy of a mesh would keep it from completing, and a Service or a NetworkPolicy may select labels of servers.
# Covers K10.
renders "labels and annotations of the topic's Job" $recent "$chart" --show-only templates/topic.yaml --set "$kafka" \
    --set topic.partitions=12,topic.job.enabled=true,topic.job.podLabels.own=a \
    --set 'topic.job.podAnnotations.linkerd\.io/inject=disabled,pod.labels.of=server' \
    --set 'pod.annotations.linkerd\.io/inject=enabled,pod.topologySpreadConstraints[0].topologyKey=zone' -- \
    '+linkerd.io/inject: disabled' '+own: a' '-of: server' '-linkerd.io/inject: enabled' '-topologySpreadConstraints:'
renders 'labels and annotations of the test' $recent "$chart" --show-only templates/tests/describe.yaml \
    --set api.insecureListen=true,service.enabled=true,test.podLabels.own=a,labels.own=b,annotations.note=b \
    --set 'test.podAnnotations.linkerd\.io/inject=disabled,pod.labels.of=server,pod.annotations.of=server' -- \
    '+linkerd.io/inject: disabled' '+own: a' '-own: b' '+note: b' '-of: server' '+helm.sh/hook: test'
renders 'resources of the test' $recent "$chart" --show-only templates/tests/describe.yaml \
    --set api.insecureListen=true,service.enabled=true,test.resources.limits.cpu=500m -- '+cpu: 500m' '+cpu: 10m'
renders 'a rolling update of a Deployment' $recent "$chart" --set "$kafka" --set topic.partitions=12,replicas=3 \
    --set strategy.rollingUpdate.maxSurge=0,strategy.rollingUpdate.maxUnavailable=1 \
    --set minReadySeconds=10,revisionHistoryLimit=0 -- \
    '+maxSurge: 0' '+minReadySeconds: 10' '+revisionHistoryLimit: 0' '-type: Recreate'
renders 'a Deployment that is replaced, with kafka' $recent "$chart" --set "$kafka" --set topic.partitions=12 \
    --set strategy.type=Recreate -- '+type: Recreate' '-minReadySeconds: 0' '-revisionHistoryLimit: 0'
renders 'a Deployment that is replaced, embedded' $recent "$chart" --set strategy.type=Recreate -- '+type: Recreate'
renders 'a StatefulSet that is updated by hand' $recent "$chart" --set data.claim.enabled=true \
    --set updateStrategy.type=OnDelete,minReadySeconds=0,revisionHistoryLimit=3 -- \
    '+type: OnDelete' '+minReadySeconds: 0' '+revisionHistoryLimit: 3'
# UPGRADING.md promises it: only the image has to be set.
renders 'all values of the chart before 0.1.0' $recent "$chart" --values "$here/first-values.yaml" \
    --set image.repository=registry.example/changelogd -- \
    '+name: rel-changelogd' '+cpu: 1' '+CHANGELOGD_LOG=info' '+name: changelogd-data'
# YAML would take these for numbers or switches.
renders 'names that look like numbers' $recent "$chart" --set service.enabled=true,api.insecureListen=true \
    --set-string fullnameOverride=on,nameOverride=n,data.existingClaim=123 \
    --set-string 'pod.imagePullSecrets={1e3},pod.priorityClassName=1e3,serviceAccount.name=0x1f' -- \
    '+name: on' '+claimName: 123' '+name: 1e3' '+priorityClassName: 1e3' '+serviceAccountName: 0x1f' '+name: n-data'
renders 'null for each map and list' $recent "$chart" \
    --set labels=null,annotations=null,extraEnv=null,envFrom=null,extraArgs=null,extraVolumes=null,lifecycle=null \
    --set extraVolumeMounts=null,securityContext=null,pod.securityContext=null,pod.labels=null,pod.tolerations=null \
    --set config.readTimeout=null,data.limit=null -- '+name: rel-changelogd' '-securityContext:'
renders 'the test of a release' $recent "$chart" --set api.insecureListen=true,service.enabled=true,service.port=80 -- \
    '+helm.sh/hook: test' '+args: ["wait","--timeout=30s","--addr","rel-changelogd:80"]' '+helm.sh/hook-weight: 0' \
    '+args: ["describe","--addr","rel-changelogd:80"]' '+helm.sh/hook-weight: 1' \
    '+helm.sh/hook-output-log-policy: hook-succeeded,hook-failed' \
    '+app.kubernetes.io/name: rel-changelogd-wait' '+app.kubernetes.io/name: rel-changelogd-describe'

# Covers C79.
notes 'sidecar with a socket' --set mode=sidecar,api.socket=true -- '+mode is sidecar' \
    '+grpc.default_authority=localhost' '+overrideAuthority("localhost")' '+INTERNAL, RST_STREAM' '+PROTOCOL_ERROR'
notes 'sidecar without a socket' --set mode=sidecar -- '+mode is sidecar' '-authority' '-socket'
notes 'standalone, a StatefulSet' --set data.claim.enabled=true -- \
    '+exec statefulset/rel-changelogd -- changelogd --addr 127.0.0.1:50051 describe' '-WARNING'
notes 'standalone, a Service' --set api.insecureListen=true,service.enabled=true -- '+helm -n ns test rel' \
    '+WARNING: the API listens on the pod'
notes 'standalone' -- '+runs as deployment/rel-changelogd in ns' '+the state is in an emptyDir' '-authority'
