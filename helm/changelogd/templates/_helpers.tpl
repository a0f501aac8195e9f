{{/*
The templates that another chart may include, each with changelogd's own context, as in
`include "changelogd.sidecar" .Subcharts.changelogd`:

  changelogd.sidecar       an item of initContainers (native) or containers (classic)
  changelogd.volumes       items of the pod's volumes
  changelogd.address       what the application dials
  changelogd.socketMount   an item of the application's volumeMounts; empty unless api.socket is on

The others serve this chart.
*/}}

{{- define "changelogd.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "changelogd.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else }}
{{- $name := include "changelogd.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "changelogd.selectorLabels" -}}
app.kubernetes.io/name: {{ include "changelogd.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "changelogd.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "changelogd.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "changelogd.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* embedded, kafka or memory: store.type with auto resolved. */}}
{{- define "changelogd.store" -}}
{{- if ne .Values.store.type "auto" }}
{{- .Values.store.type }}
{{- else }}
{{- ternary "kafka" "embedded" (gt (len .Values.kafka.brokers) 0) }}
{{- end }}
{{- end }}

{{/* A duration in whole seconds, rounded up. Numbers from values are floats, so nothing is printed without int64. */}}
{{- define "changelogd.seconds" -}}
{{- $n := regexFind "^[0-9]+" . | int64 }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- if eq $unit "ms" }}{{ div (add $n 999) 1000 }}
{{- else if eq $unit "s" }}{{ $n }}
{{- else if eq $unit "m" }}{{ mul $n 60 }}
{{- else if eq $unit "h" }}{{ mul $n 3600 }}
{{- else if eq $unit "d" }}{{ mul $n 86400 }}
{{- end }}
{{- end }}

{{/* A quantity of memory in bytes: 256Mi, 1.5G or a plain number. */}}
{{- define "changelogd.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000
    "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- if kindIs "string" . }}
{{- mulf (regexFind "^[0-9.]+" . | float64) (get $units (regexFind "[A-Za-z]*$" .)) | int64 }}
{{- else }}
{{- int64 . }}
{{- end }}
{{- end }}

{{/* What the files of the embedded store may occupy in an emptyDir, in bytes. */}}
{{- define "changelogd.dataLimit" -}}
{{- $size := include "changelogd.bytes" .Values.data.sizeLimit | int64 }}
{{- sub $size (div $size 16) }}
{{- end }}

{{/* What the process may hold in calls and queued writes, in bytes: 60 % of its memory limit. */}}
{{- define "changelogd.memoryLimit" -}}
{{- div (mul (include "changelogd.bytes" .Values.resources.limits.memory | int64) 6) 10 }}
{{- end }}

{{/* The least of it that changelogd starts with, in bytes, as src/config/memory.rs has it. */}}
{{- define "changelogd.neededMemory" -}}
{{- $value := int64 .Values.store.maxValueBytes }}
{{- $mib := 1048576 }}
{{- $record := 65536 }}
{{- $queues := ternary 2 1 (eq (include "changelogd.store" .) "kafka") }}
{{- $request := max (add (mul 6 $value) $record) (mul 4 $mib) }}
{{- $answer := add (max $value (mul 4 $mib)) $record }}
{{- $conversions := max (add (mul 7 (div $value 2)) 16384) 262144 }}
{{- /* Replays 2 MiB, small requests and small answers 4 MiB each, lists 4 MiB, probes 2 MiB. */}}
{{- add (mul 16 $mib) (mul $queues 2 (add $value $record)) $request $answer $conversions }}
{{- end }}

{{/* Refuses what the schema cannot see: values that contradict each other or the cluster. Renders nothing. */}}
{{- define "changelogd.checks" -}}
{{- if not (hasKey .Values "mode") }}
{{- fail (print "changelogd: the templates need changelogd's own values: include them with .Subcharts.changelogd, "
    "not with your chart's context") }}
{{- end }}
{{- $version := .Capabilities.KubeVersion.Version }}
{{- if and (eq .Values.mode "sidecar") (eq .Values.sidecar.type "native") (semverCompare "<1.29.0-0" $version) }}
{{- fail (print "changelogd: sidecar.type: native sidecars need kubernetes 1.29 or later, this is " $version
    "; set sidecar.type to classic, and let the application wait for changelogd at its start "
    "and flush before it stops") }}
{{- end }}
{{- $store := include "changelogd.store" . }}
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
{{- if and (ne $store "kafka") .Values.topic.create }}
{{- fail (print "changelogd: topic.create: there is no topic in the " $store " store; "
    "set kafka.brokers or leave it out") }}
{{- end }}
{{- if and (ne $store "kafka") .Values.kafka.propertiesSecret.name }}
{{- fail (print "changelogd: kafka.propertiesSecret: the " $store " store does not read it; "
    "set kafka.brokers or leave it out") }}
{{- end }}
{{- if and (ne $store "kafka") (gt (int64 .Values.replicas) 1) }}
{{- fail (print "changelogd: replicas: more than 1 needs kafka; with the " $store
    " store every pod would hold another state") }}
{{- end }}
{{- if and .Values.data.existingClaim (gt (int64 .Values.replicas) 1) }}
{{- fail (print "changelogd: data.existingClaim: one process at a time may use a data directory; "
    "set replicas to 1 or leave it out") }}
{{- end }}
{{- if and (eq $store "embedded") (not .Values.data.existingClaim)
    (lt (include "changelogd.dataLimit" . | int64) 268435456) }}
{{- fail (print "changelogd: data.sizeLimit: " .Values.data.sizeLimit " is too small: the embedded store needs 256Mi, "
    "and a sixteenth of the volume stays free; set 274Mi or more, or name an existingClaim") }}
{{- end }}
{{- $share := include "changelogd.memoryLimit" . | int64 }}
{{- $needed := include "changelogd.neededMemory" . | int64 }}
{{- /* The other 40 % have to hold what the program takes at rest, which is 25 MiB: 25 / 0.4 is 62.5. */}}
{{- $enough := max 64 (div (add (mul $needed 10) 6291455) 6291456) }}
{{- if or (lt $share $needed) (lt (include "changelogd.bytes" .Values.resources.limits.memory | int64) 67108864) }}
{{- fail (print "changelogd: resources.limits.memory: " .Values.resources.limits.memory " is too small: 60 % of it are "
    $share " bytes, and " $needed " are needed with store.maxValueBytes " (int64 .Values.store.maxValueBytes)
    " and the " $store " store; the program itself takes 25Mi of the rest; set " $enough "Mi or more") }}
{{- end }}
{{- if and .Values.service.enabled (not .Values.api.insecureListen) }}
{{- fail (print "changelogd: service.enabled: the API speaks plain text and has no access control yet; "
    "set api.insecureListen to true to serve it so to every client that reaches the pod, "
    "or leave the Service out and use kubectl port-forward") }}
{{- end }}
{{- $delay := include "changelogd.seconds" .Values.drainDelay | int64 }}
{{- $drain := add $delay (include "changelogd.seconds" .Values.drainTimeout | int64) }}
{{- $room := sub (int64 .Values.terminationGracePeriodSeconds) 5 }}
{{- if ge $drain $room }}
{{- fail (print "changelogd: drainTimeout: " .Values.drainTimeout " is too long: with drainDelay " .Values.drainDelay
    " it has to be less than terminationGracePeriodSeconds - 5, which is " $room " seconds") }}
{{- end }}
{{- $ports := list (int64 .Values.health.port) (int64 .Values.admin.port) }}
{{- if not .Values.api.socket }}
{{- $ports = append $ports (int64 .Values.api.port) }}
{{- end }}
{{- if ne (len $ports) (len (uniq $ports)) }}
{{- fail "changelogd: api.port, health.port and admin.port have to differ" }}
{{- end }}
{{- end }}

{{- define "changelogd.address" -}}
{{- if .Values.api.socket -}}
unix:/run/changelogd/changelogd.sock
{{- else -}}
127.0.0.1:{{ int64 .Values.api.port }}
{{- end }}
{{- end }}

{{/* The container, in every mode the same way: what wraps it adds restartPolicy or nothing. */}}
{{- define "changelogd.container" -}}
{{- include "changelogd.checks" . -}}
{{- $store := include "changelogd.store" . -}}
{{- $standalone := eq .Values.mode "standalone" -}}
name: changelogd
image: {{ include "changelogd.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: ["serve"]
env:
  - name: CHANGELOGD_LISTEN
    {{- $insecure := printf "%s:%d" .Values.bindAddress (int64 .Values.api.port) }}
    value: {{ ternary $insecure (include "changelogd.address" .) .Values.api.insecureListen | quote }}
  {{- if .Values.api.insecureListen }}
  - name: CHANGELOGD_INSECURE_LISTEN
    value: "true"
  {{- end }}
  - name: CHANGELOGD_HEALTH_LISTEN
    value: {{ printf "%s:%d" .Values.bindAddress (int64 .Values.health.port) | quote }}
  - name: CHANGELOGD_ADMIN_LISTEN
    {{- $adminAddress := ternary .Values.bindAddress "127.0.0.1" .Values.admin.podListen }}
    value: {{ printf "%s:%d" $adminAddress (int64 .Values.admin.port) | quote }}
  - name: CHANGELOGD_STORE
    value: {{ $store }}
  {{- if .Values.topic.partitions }}
  - name: CHANGELOGD_PARTITIONS
    value: {{ int64 .Values.topic.partitions | quote }}
  {{- end }}
  - name: CHANGELOGD_DATA_DIR
    value: /var/lib/changelogd
  {{- if eq $store "kafka" }}
  - name: KAFKA_BROKERS
    value: {{ join "," .Values.kafka.brokers | quote }}
  - name: KAFKA_CHANGELOG_TOPIC
    value: {{ .Values.topic.name | quote }}
  - name: KAFKA_CHANGELOG_GROUP_ID
    value: {{ .Values.kafka.groupId | quote }}
  - name: CHANGELOGD_CREATE_TOPIC
    value: {{ .Values.topic.create | quote }}
  - name: CHANGELOGD_CREATE_TOPIC_REPLICATION_FACTOR
    value: {{ .Values.topic.replicationFactor | quote }}
  {{- if .Values.kafka.propertiesSecret.name }}
  - name: CHANGELOGD_KAFKA_PROPERTIES_FILE
    value: {{ printf "/etc/changelogd/kafka/%s" .Values.kafka.propertiesSecret.key | quote }}
  {{- end }}
  {{- end }}
  - name: CHANGELOGD_VALUES
    value: {{ .Values.store.values }}
  - name: CHANGELOGD_MAX_VALUE_BYTES
    value: {{ int64 .Values.store.maxValueBytes | quote }}
  {{- if ne $store "kafka" }}
  - name: CHANGELOGD_DELETE_RETENTION
    value: {{ .Values.store.deleteRetention | quote }}
  {{- end }}
  {{- /* The kubelet ends a pod whose emptyDir has more than its sizeLimit. A sixteenth is left free. */}}
  {{- if and (eq $store "embedded") (not .Values.data.existingClaim) }}
  - name: CHANGELOGD_DATA_LIMIT
    value: {{ include "changelogd.dataLimit" . | quote }}
  {{- end }}
  - name: CHANGELOGD_MEMORY_LIMIT
    value: {{ include "changelogd.memoryLimit" . | quote }}
  - name: CHANGELOGD_WRITE_TIMEOUT
    value: {{ .Values.writeTimeout | quote }}
  - name: CHANGELOGD_DRAIN_DELAY
    value: {{ .Values.drainDelay | quote }}
  - name: CHANGELOGD_DRAIN_TIMEOUT
    value: {{ .Values.drainTimeout | quote }}
  - name: CHANGELOGD_LOG
    value: {{ .Values.log.filter | quote }}
  - name: CHANGELOGD_LOG_FORMAT
    value: {{ .Values.log.format }}
{{- /* Ports on loopback are for the pod only, and have no names. A name has at most 15 characters. */}}
ports:
  {{- if .Values.api.insecureListen }}
  - name: changelogd-grpc
    containerPort: {{ int64 .Values.api.port }}
  {{- end }}
  - name: changelogd-hlth
    containerPort: {{ int64 .Values.health.port }}
  {{- if .Values.admin.podListen }}
  - name: changelogd-http
    containerPort: {{ int64 .Values.admin.port }}
  {{- end }}
startupProbe:
  grpc:
    port: {{ int64 .Values.health.port }}
    service: liveness
  periodSeconds: 1
  failureThreshold: 30
livenessProbe:
  grpc:
    port: {{ int64 .Values.health.port }}
    service: liveness
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- if or (eq .Values.probes.readiness "always") (and $standalone (eq .Values.probes.readiness "auto")) }}
readinessProbe:
  grpc:
    port: {{ int64 .Values.health.port }}
    service: readiness
  periodSeconds: 5
  timeoutSeconds: 2
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities:
    drop: ["ALL"]
  seccompProfile:
    type: RuntimeDefault
volumeMounts:
  - name: changelogd-data
    mountPath: /var/lib/changelogd
  {{- if .Values.api.socket }}
  {{- include "changelogd.socketMount" . | nindent 2 }}
  {{- end }}
  {{- if .Values.kafka.propertiesSecret.name }}
  - name: changelogd-kafka
    mountPath: /etc/changelogd/kafka
    readOnly: true
  {{- end }}
  {{- if not $standalone }}
  {{- /* The pod may have a service token for the application; a mount at its place keeps it out of this container. */}}
  - name: changelogd-no-token
    mountPath: /var/run/secrets/kubernetes.io/serviceaccount
    readOnly: true
  {{- end }}
{{- end }}

{{- define "changelogd.sidecar" -}}
{{- include "changelogd.checks" . -}}
{{- if ne .Values.mode "sidecar" }}
{{- fail (print "changelogd: mode: has to be sidecar where changelogd.sidecar is included; "
    "in standalone mode the chart runs a Deployment of its own") }}
{{- end -}}
- {{ include "changelogd.container" . | nindent 2 | trim }}
{{- if eq .Values.sidecar.type "native" }}
  restartPolicy: Always
{{- end }}
{{- end }}

{{- define "changelogd.volumes" -}}
- name: changelogd-data
  {{- if .Values.data.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ .Values.data.existingClaim }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .Values.data.sizeLimit }}
  {{- end }}
{{- if .Values.api.socket }}
- name: changelogd-socket
  emptyDir:
    sizeLimit: 1Mi
{{- end }}
{{- if .Values.kafka.propertiesSecret.name }}
- name: changelogd-kafka
  secret:
    secretName: {{ .Values.kafka.propertiesSecret.name }}
{{- end }}
{{- if eq .Values.mode "sidecar" }}
- name: changelogd-no-token
  emptyDir: {}
{{- end }}
{{- end }}

{{- define "changelogd.socketMount" -}}
{{- if .Values.api.socket -}}
- name: changelogd-socket
  mountPath: /run/changelogd
{{- end }}
{{- end }}
