{{/* Refuses what the schema cannot see: values that contradict each other or the cluster. Renders nothing. */}}
{{- define "changelogd.v1.checks" -}}
{{- include "changelogd.v1.checkContext" . }}
{{- include "changelogd.v1.checkStore" . }}
{{- include "changelogd.v1.checkProgram" . }}
{{- include "changelogd.v1.checkTopic" . }}
{{- include "changelogd.v1.checkResources" . }}
{{- include "changelogd.v1.checkStop" . }}
{{- include "changelogd.v1.checkNetwork" . }}
{{- include "changelogd.v1.checkPod" . }}
{{- end }}

{{/*
The version of the chart that these templates belong to, as the annotation `templates` of Chart.yaml has it. Helm has
one template of a name for all charts. `helm package --version` changes neither.
*/}}
{{- define "changelogd.v1.version" -}}
0.1.0
{{- end }}

{{- define "changelogd.v1.checkContext" -}}
{{- if not (and (kindIs "map" .) (hasKey . "Values") (hasKey (default dict .Values) "bindAddress")) }}
{{- fail (print "changelogd: the templates need changelogd's own context: include them with .Subcharts.changelogd, "
    "not with your chart's context") }}
{{- end }}
{{- $version := include "changelogd.v1.version" . }}
{{- $found := default "another" (index (default dict .Chart.Annotations) "templates") }}
{{- if ne $found $version }}
{{- fail (printf "changelogd: the templates are of chart version %s, and the values of version %s: %s" $version $found
    "two charts of this release depend on different versions; let both depend on one") }}
{{- end }}
{{- if not .Values.image.repository }}
{{- fail (print "changelogd: image.repository: has to be set: no image is published yet; build one with the Dockerfile "
    "at the project's root, and push it to a registry of yours") }}
{{- end }}
{{- $kubernetes := .Capabilities.KubeVersion.Version }}
{{- if and (eq .Values.mode "sidecar") (eq .Values.sidecar.type "native") (semverCompare "<1.29.0-0" $kubernetes) }}
{{- fail (print "changelogd: sidecar.type: native sidecars need kubernetes 1.29 or later, this is " $kubernetes
    "; set sidecar.type to classic, and let the application wait for changelogd at its start "
    "and flush before it stops") }}
{{- end }}
{{- end }}

{{- define "changelogd.v1.checkStore" -}}
{{- $store := include "changelogd.v1.store" . }}
{{- $brokers := len .Values.kafka.brokers }}
{{- $partitions := int64 .Values.topic.partitions }}
{{- if and $brokers (ne $store "kafka") }}
{{- fail (printf "changelogd: store.type: %s does not go with kafka.brokers; leave one of them out" $store) }}
{{- end }}
{{- if and (eq $store "kafka") (not $brokers) }}
{{- fail "changelogd: store.type: kafka needs kafka.brokers" }}
{{- end }}
{{- if and $brokers (not $partitions) }}
{{- fail (print "changelogd: topic.partitions: has to be set with kafka.brokers, to the topic's partition count; "
    "a topic that grew re-homes workspaces, and changelogd refuses it only if it knows the count") }}
{{- end }}
{{- if ne $store "kafka" }}
{{- range $path, $set := dict "networkPolicy.brokers" .Values.networkPolicy.brokers
    "kafka.propertiesSecret" .Values.kafka.propertiesSecret.name
    "kafka.properties" .Values.kafka.properties "kafka.secrets" .Values.kafka.secrets }}
{{- if $set }}
{{- fail (printf "changelogd: %s: the %s store does not read it; set kafka.brokers or leave it out" $path $store) }}
{{- end }}
{{- end }}
{{- if gt (int64 .Values.replicas) 1 }}
{{- fail (print "changelogd: replicas: more than 1 needs kafka; with the " $store
    " store every pod would hold another state") }}
{{- end }}
{{- end }}
{{- if and .Values.data.existingClaim .Values.data.claim.enabled }}
{{- fail "changelogd: data.claim.enabled: data.existingClaim names a claim already; leave one of them out" }}
{{- end }}
{{- if .Values.data.existingClaim }}
{{- if ne $store "embedded" }}
{{- fail (printf "changelogd: data.existingClaim: the %s store has no files; leave it out" $store) }}
{{- end }}
{{- $replicas := .Values.sidecar.replicas }}
{{- if and (eq .Values.mode "sidecar") (or (kindIs "invalid" $replicas) (gt (int64 $replicas) 1)) }}
{{- fail (print "changelogd: data.existingClaim: one process at a time may use a data directory; "
    "set sidecar.replicas to the replicas of your workload, which has to be 1, or leave the claim out") }}
{{- end }}
{{- else if .Values.data.claim.enabled }}
{{- if or (ne .Values.mode "standalone") (ne $store "embedded") }}
{{- fail (printf "changelogd: data.claim.enabled: %s mode with the %s store has no use for a claim of its own; %s"
    .Values.mode $store "it is for the embedded store in standalone mode") }}
{{- end }}
{{- if lt (include "changelogd.v1.bytes" .Values.data.claim.size | int64) 268435456 }}
{{- fail (print "changelogd: data.claim.size: " .Values.data.claim.size " is too small; the store needs 256Mi") }}
{{- end }}
{{- else if and (eq $store "embedded") (kindIs "invalid" .Values.data.limit)
    (lt (include "changelogd.v1.dataLimit" . | int64) 268435456) }}
{{- fail (print "changelogd: data.sizeLimit: " .Values.data.sizeLimit " is too small: the embedded store needs 256Mi, "
    "and a sixteenth of the volume stays free; set 274Mi or more, or use a claim") }}
{{- end }}
{{- if not (kindIs "invalid" .Values.data.limit) }}
{{- if ne $store "embedded" }}
{{- fail (printf "changelogd: data.limit: the %s store has no files; leave it out" $store) }}
{{- end }}
{{- $limit := include "changelogd.v1.bytes" .Values.data.limit | int64 }}
{{- if lt $limit 268435456 }}
{{- fail (print "changelogd: data.limit: " .Values.data.limit " is too small: the embedded store needs 256Mi") }}
{{- end }}
{{- $size := ternary .Values.data.claim.size .Values.data.sizeLimit .Values.data.claim.enabled }}
{{- $most := include "changelogd.v1.fifteenSixteenths" $size | int64 }}
{{- if and (not .Values.data.existingClaim) (gt $limit $most) }}
{{- fail (printf "changelogd: data.limit: %v is too large: a sixteenth of the volume stays free, which has %v"
    .Values.data.limit $size) }}
{{- end }}
{{- end }}
{{- $secrets := list }}
{{- range .Values.kafka.secrets }}
{{- $secrets = append $secrets .name }}
{{- end }}
{{- if ne (len $secrets) (len (uniq $secrets)) }}
{{- fail "changelogd: kafka.secrets: a Secret stands there twice" }}
{{- end }}
{{- end }}

{{- define "changelogd.v1.checkTopic" -}}
{{- $topic := .Values.topic }}
{{- $strimzi := .Values.strimzi }}
{{- $store := include "changelogd.v1.store" . }}
{{- $creators := dict "topic.create" $topic.create "topic.job.enabled" $topic.job.enabled
    "strimzi.topic.enabled" $strimzi.topic.enabled }}
{{- $found := list }}
{{- range $path, $set := merge (dict "strimzi.user.enabled" $strimzi.user.enabled) $creators }}
{{- if and $set (ne $store "kafka") }}
{{- fail (printf "changelogd: %s: there is no topic in the %s store; set kafka.brokers or leave it out" $path $store) }}
{{- end }}
{{- if and $set (hasKey $creators $path) }}
{{- $found = append $found $path }}
{{- end }}
{{- end }}
{{- if gt (len $found) 1 }}
{{- fail (printf "changelogd: %s: creates the topic, and so does %s; leave one of them out" (last $found)
    (first $found)) }}
{{- end }}
{{- if and $strimzi.user.enabled $topic.job.enabled }}
{{- fail (print "changelogd: strimzi.user.enabled: topic.job runs before the KafkaUser exists; "
    "use strimzi.topic or topic.create instead") }}
{{- end }}
{{- if and (or $strimzi.topic.enabled $strimzi.user.enabled) (not $strimzi.cluster) }}
{{- fail "changelogd: strimzi.cluster: has to be set, to the name of the Kafka object" }}
{{- end }}
{{- if not (or $topic.job.enabled $strimzi.topic.enabled) }}
{{- range $path, $set := dict "minInsyncReplicas" (not (kindIs "invalid" $topic.minInsyncReplicas))
    "config" $topic.config "without" $topic.without }}
{{- if $set }}
{{- fail (printf "changelogd: topic.%s: only topic.job and strimzi.topic set it; enable one of them, or leave it out"
    $path) }}
{{- end }}
{{- end }}
{{- end }}
{{- if not (kindIs "invalid" $topic.minInsyncReplicas) }}
{{- if gt (int64 $topic.minInsyncReplicas) (int64 $topic.replicationFactor) }}
{{- fail (printf "changelogd: topic.minInsyncReplicas: %d is more than topic.replicationFactor, which is %d"
    (int64 $topic.minInsyncReplicas) (int64 $topic.replicationFactor)) }}
{{- end }}
{{- range $path, $has := dict "config" (hasKey (default dict $topic.config) "min.insync.replicas")
    "without" (has "min.insync.replicas" (default list $topic.without)) }}
{{- if $has }}
{{- fail (printf "changelogd: topic.%s: min.insync.replicas is topic.minInsyncReplicas already; leave one out" $path) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $topic.without }}
{{- if hasKey (default dict $topic.config) . }}
{{- fail (printf "changelogd: topic.without: %s is in topic.config; leave one out" .) }}
{{- end }}
{{- end }}
{{- if and $topic.job.enabled $topic.job.serviceAccount.create $topic.job.serviceAccount.name }}
{{- fail (print "changelogd: topic.job.serviceAccount.create: Helm removes the account of a hook, so it has a name "
    "of its own; leave topic.job.serviceAccount.name out, or set create to false") }}
{{- end }}
{{- end }}

{{- define "changelogd.v1.checkResources" -}}
{{- range $path, $given := dict "resources" .Values.resources "test.resources" .Values.test.resources
    "topic.job.resources" .Values.topic.job.resources }}
{{- $each := include "changelogd.v1.withoutEmpty" $given | fromYaml }}
{{- range $name, $request := $each.requests }}
{{- if hasKey $each.limits $name }}
{{- $limit := get $each.limits $name }}
{{- if gt (include "changelogd.v1.number" $request | float64) (include "changelogd.v1.number" $limit | float64) }}
{{- fail (printf "changelogd: %s.requests.%s: %v is more than %s.limits.%s, which is %v"
    $path $name $request $path $name $limit) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- $resources := include "changelogd.v1.withoutEmpty" .Values.resources | fromYaml }}
{{- $limit := include "changelogd.v1.bytes" $resources.limits.memory | int64 }}
{{- $share := include "changelogd.v1.memoryLimit" . | int64 }}
{{- $needed := include "changelogd.v1.neededMemory" . | int64 }}
{{- $isShare := kindIs "invalid" .Values.config.memoryLimit }}
{{- $storage := get $resources.limits "ephemeral-storage" }}
{{- if and $storage (not (include "changelogd.v1.onClaim" .)) (eq (include "changelogd.v1.store" .) "embedded") }}
{{- if lt (include "changelogd.v1.bytes" $storage | int64) (include "changelogd.v1.dataLimit" . | int64) }}
{{- fail (printf "changelogd: resources.limits.ephemeral-storage: %v is less than the files of the store may have, %s"
    $storage "by data.sizeLimit or data.limit; the kubelet would end the pod") }}
{{- end }}
{{- end }}
{{- /* The other 40 % have to hold what the program takes at rest, which is 25 MiB: 25 / 0.4 is 62.5. */}}
{{- $enough := max 64 (div (add (mul $needed 10) 6291455) 6291456) }}
{{- if and (not $isShare) (lt $limit 67108864) }}
{{- fail (printf "changelogd: resources.limits.memory: %v is too small; set 64Mi or more" $resources.limits.memory) }}
{{- end }}
{{- if and $isShare (or (lt $share $needed) (lt $limit 67108864)) }}
{{- fail (print "changelogd: resources.limits.memory: " $resources.limits.memory " is too small: 60 % of it are "
    $share " bytes, and " $needed " are needed with store.maxValueBytes " (int64 .Values.store.maxValueBytes)
    " and the " (include "changelogd.v1.store" .) " store; the program itself takes 25Mi of the rest; set " $enough
    "Mi or more") }}
{{- end }}
{{- if and (not $isShare) (lt $share $needed) }}
{{- fail (printf "changelogd: config.memoryLimit: %d is too small: %d are needed with %s %d and the %s store"
    $share $needed "store.maxValueBytes" (int64 .Values.store.maxValueBytes) (include "changelogd.v1.store" .)) }}
{{- end }}
{{- $most := sub $limit 26214400 }}
{{- if and (not $isShare) (gt $share $most) }}
{{- fail (printf "changelogd: config.memoryLimit: %d is too large: the program itself takes 25Mi, %s %d of %s"
    $share "so that it may have at most" $most "resources.limits.memory") }}
{{- end }}
{{- end }}

{{- define "changelogd.v1.checkStop" -}}
{{- $timeout := include "changelogd.v1.milliseconds" .Values.drainTimeout | int64 }}
{{- $drain := add $timeout (include "changelogd.v1.milliseconds" .Values.drainDelay | int64) }}
{{- if gt (include "changelogd.v1.seconds" .Values.probes.startupWindow | int64) 2147483647 }}
{{- fail (printf "changelogd: probes.startupWindow: %s is too long; a probe fails 2147483647 times at most"
    .Values.probes.startupWindow) }}
{{- end }}
{{- $stop := default dict (get (default dict .Values.lifecycle) "preStop") }}
{{- $sleep := get (default dict $stop.sleep) "seconds" | default 0 | int64 }}
{{- $room := sub (int64 .Values.terminationGracePeriodSeconds) 5 }}
{{- if ge $drain (mul $room 1000) }}
{{- fail (print "changelogd: drainTimeout: " .Values.drainTimeout " is too long: with drainDelay " .Values.drainDelay
    " it has to be less than terminationGracePeriodSeconds - 5, which is " $room " seconds") }}
{{- end }}
{{- /* The kubelet counts it from the beginning of the grace period, and sends SIGTERM after it. */}}
{{- if ge $drain (mul (sub $room $sleep) 1000) }}
{{- fail (printf "changelogd: lifecycle.preStop.sleep.seconds: %d is too long: drainDelay %s and drainTimeout %s %s %d"
    $sleep .Values.drainDelay .Values.drainTimeout
    "have to be less than terminationGracePeriodSeconds - 5 - the sleep, which is" (sub $room $sleep)) }}
{{- end }}
{{- if gt (include "changelogd.v1.milliseconds" .Values.writeTimeout | int64) $timeout }}
{{- fail (printf "changelogd: writeTimeout: %s is longer than drainTimeout %s: %s" .Values.writeTimeout
    .Values.drainTimeout "writes that are in flight at a stop would end without an answer") }}
{{- end }}
{{- end }}

{{- define "changelogd.v1.checkNetwork" -}}
{{- if and .Values.service.enabled (not .Values.api.insecureListen) }}
{{- fail (print "changelogd: service.enabled: the API speaks plain text and has no access control yet; "
    "set api.insecureListen to true to serve it so to every client that reaches the pod, "
    "or leave the Service out and use kubectl port-forward") }}
{{- end }}
{{- $isHeadless := and .Values.service.headless .Values.service.enabled }}
{{- if and $isHeadless (ne (int64 .Values.service.port) (int64 .Values.api.port)) }}
{{- fail (printf "changelogd: service.port: clients of a headless Service dial the pod, so it has to be api.port, %d"
    (int64 .Values.api.port)) }}
{{- end }}
{{- if and .Values.networkPolicy.clients (not .Values.api.insecureListen) }}
{{- fail "changelogd: networkPolicy.clients: nothing outside the pod reaches the API without api.insecureListen" }}
{{- end }}
{{- if and .Values.networkPolicy.metrics (not .Values.admin.podListen) }}
{{- fail "changelogd: networkPolicy.metrics: nothing outside the pod reaches metrics without admin.podListen" }}
{{- end }}
{{- $ports := list (int64 .Values.health.port) (int64 .Values.admin.port) }}
{{- if not .Values.api.socket }}
{{- $ports = append $ports (int64 .Values.api.port) }}
{{- end }}
{{- if ne (len $ports) (len (uniq $ports)) }}
{{- fail "changelogd: api.port, health.port and admin.port have to differ" }}
{{- end }}
{{- end }}

{{- define "changelogd.v1.checkPod" -}}
{{- $store := include "changelogd.v1.store" . }}
{{- if and .Values.strategy (ne $store "kafka") (ne (toJson .Values.strategy) (toJson (dict "type" "Recreate"))) }}
{{- fail (printf "changelogd: strategy: it is Recreate with the %s store: there must never be two pods; leave it out"
    $store) }}
{{- end }}
{{- if and (eq (get (default dict .Values.strategy) "type") "Recreate") (hasKey .Values.strategy "rollingUpdate") }}
{{- fail "changelogd: strategy.rollingUpdate: does not go with strategy.type Recreate; leave one of them out" }}
{{- end }}
{{- if and .Values.updateStrategy (not .Values.data.claim.enabled) }}
{{- fail "changelogd: updateStrategy: only data.claim has a StatefulSet; use strategy, or set data.claim.enabled" }}
{{- end }}
{{- $resources := list }}
{{- range default list .Values.resizePolicy }}
{{- if has .resourceName $resources }}
{{- fail (printf "changelogd: resizePolicy: %s stands there twice" .resourceName) }}
{{- end }}
{{- $resources = append $resources .resourceName }}
{{- end }}
{{- if .Values.pod.serviceAccountName }}
{{- fail "changelogd: pod.serviceAccountName: renamed to serviceAccount.name" }}
{{- end }}
{{- with .Values.podDisruptionBudget }}
{{- $counts := list (include "changelogd.v1.isSet" .minAvailable) (include "changelogd.v1.isSet" .maxUnavailable) }}
{{- if and .enabled (ne (len (compact $counts)) 1) }}
{{- fail (print "changelogd: podDisruptionBudget: needs either minAvailable or maxUnavailable; "
    "set the other one to \"\"") }}
{{- end }}
{{- end }}
{{- if and (eq .Values.mode "sidecar") (not .Values.topic.job.enabled) }}
{{- range list "imagePullSecrets" "nodeSelector" "tolerations" "affinity" "priorityClassName" "runtimeClassName"
    "dnsPolicy" "dnsConfig" "hostAliases" }}
{{- if get $.Values.pod . }}
{{- fail (printf "changelogd: pod.%s: in sidecar mode it is only for the Job of topic.job" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $path, $labels := dict "pod.labels" .Values.pod.labels "labels" .Values.labels
    "topic.job.podLabels" .Values.topic.job.podLabels "test.podLabels" .Values.test.podLabels }}
{{- range $name, $_ := include "changelogd.v1.labels" $ | fromYaml }}
{{- if hasKey (default dict $labels) $name }}
{{- fail (printf "changelogd: %s: %s is a label that the chart sets; leave it out" $path $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $_ := .Values.topic.job.podLabels }}
{{- if or (hasPrefix "batch.kubernetes.io/" $name) (has $name (list "controller-uid" "job-name")) }}
{{- fail (printf "changelogd: topic.job.podLabels: %s is a label that Kubernetes sets on a Job's pod; leave it out"
    $name) }}
{{- end }}
{{- end }}
{{- $volumes := list }}
{{- range include "changelogd.v1.volumes" . | fromYamlArray }}
{{- if has .name $volumes }}
{{- fail (printf "changelogd: extraVolumes: %s is a volume of the chart, or stands there twice" .name) }}
{{- end }}
{{- $volumes = append $volumes .name }}
{{- end }}
{{- include "changelogd.v1.checkMounts" (list . $volumes) }}
{{- $set := list }}
{{- range .Values.extraEnv }}
{{- $isSetting := or (hasPrefix "CHANGELOGD_" .name) (has .name (list "KAFKA_BROKERS" "KAFKA_CHANGELOG_TOPIC"
    "KAFKA_CHANGELOG_GROUP_ID")) }}
{{- /* Secret properties may come from an entry of a Secret. */}}
{{- if and $isSetting (or (ne .name "CHANGELOGD_KAFKA_PROPERTY") $.Values.kafka.properties) }}
{{- fail (printf "changelogd: extraEnv: %s: each setting of changelogd has a value of the chart; use that" .name) }}
{{- end }}
{{- if has .name $set }}
{{- fail (printf "changelogd: extraEnv: %s stands there twice" .name) }}
{{- end }}
{{- $set = append $set .name }}
{{- end }}
{{- end }}

{{/* It takes a list: the context, and the names of the pod's volumes. */}}
{{- define "changelogd.v1.checkMounts" -}}
{{- $values := (index . 0).Values }}
{{- $name := include "changelogd.v1.name" (index . 0) }}
{{- $paths := list "/var/lib/changelogd" }}
{{- if $values.api.socket }}
{{- $paths = append $paths (printf "/run/%s" $name) }}
{{- end }}
{{- if eq $values.mode "sidecar" }}
{{- $paths = append $paths "/var/run/secrets/kubernetes.io/serviceaccount" }}
{{- end }}
{{- range include "changelogd.v1.sharedMounts" (index . 0) | fromYamlArray }}
{{- $path := clean .mountPath }}
{{- if has $path $paths }}
{{- fail (printf "changelogd: extraVolumeMounts: something is mounted at %s already" $path) }}
{{- end }}
{{- $paths = append $paths $path }}
{{- end }}
{{- if eq $values.mode "standalone" }}
{{- $volumes := append (index . 1) (printf "%s-data" $name) }}
{{- range $values.extraVolumeMounts }}
{{- if not (has .name $volumes) }}
{{- fail (printf "changelogd: extraVolumeMounts: %s is no volume of the pod; add it to extraVolumes" .name) }}
{{- end }}
{{- end }}
{{- end }}
{{- $containers := list $name }}
{{- range concat (default list $values.pod.extraInitContainers) (default list $values.pod.extraContainers) }}
{{- if has .name $containers }}
{{- fail (printf "changelogd: pod.extraContainers: %s is a container of the pod already" .name) }}
{{- end }}
{{- $containers = append $containers .name }}
{{- end }}
{{- end }}
