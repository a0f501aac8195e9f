{{/* The container, in every mode the same way: what wraps it adds restartPolicy or nothing. */}}
{{- define "changelogd.v1.container" -}}
{{- include "changelogd.v1.checks" . -}}
{{- $name := include "changelogd.v1.name" . -}}
{{- $port := include "changelogd.v1.portPrefix" . -}}
name: {{ $name | quote }}
image: {{ include "changelogd.v1.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: {{ concat (list "serve") (default list .Values.extraArgs) | toJson }}
env:
  {{- $ownMalloc := false }}
  {{- range .Values.extraEnv }}
  {{- $ownMalloc = or $ownMalloc (eq .name "MALLOC_MMAP_THRESHOLD_") }}
  {{- end }}
  {{- if not $ownMalloc }}
  # Otherwise glibc keeps the freed memory of large values, and the container may exceed its memory limit.
  - name: MALLOC_MMAP_THRESHOLD_
    value: "131072"
  {{- end }}
  {{- /* Before the others, so that kafka.properties may name one of them, as $(POD_NAME). */}}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- include "changelogd.v1.env" . | nindent 2 }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- /* Ports on loopback are for the pod only, and have no names. */}}
ports:
  {{- if .Values.api.insecureListen }}
  - name: {{ $port }}-grpc
    containerPort: {{ int64 .Values.api.port }}
  {{- end }}
  - name: {{ $port }}-hlth
    containerPort: {{ int64 .Values.health.port }}
  {{- if .Values.admin.podListen }}
  - name: {{ $port }}-http
    containerPort: {{ int64 .Values.admin.port }}
  {{- end }}
{{- with .Values.lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
startupProbe:
  grpc:
    port: {{ int64 .Values.health.port }}
    service: liveness
  periodSeconds: 1
  failureThreshold: {{ include "changelogd.v1.seconds" .Values.probes.startupWindow | int64 }}
livenessProbe:
  grpc:
    port: {{ int64 .Values.health.port }}
    service: liveness
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- $standalone := eq .Values.mode "standalone" }}
{{- if or (eq .Values.probes.readiness "always") (and $standalone (eq .Values.probes.readiness "auto")) }}
readinessProbe:
  grpc:
    port: {{ int64 .Values.health.port }}
    {{- /* If Kafka is down, all replicas would leave the Service, and clients would not get the cause. */}}
    service: {{ eq .Values.probes.readiness "always" | ternary "readiness" "serving" }}
  periodSeconds: 5
  timeoutSeconds: 2
{{- end }}
resources:
  {{- include "changelogd.v1.withoutEmpty" .Values.resources | nindent 2 }}
{{- if or (eq .Values.mode "standalone") (not (kindIs "invalid" .Values.resizePolicy)) }}
{{- with include "changelogd.v1.resizePolicy" . | fromYamlArray }}
resizePolicy:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with include "changelogd.v1.withoutEmpty" .Values.securityContext | fromYaml }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
# The last lines of the log say why it could not start.
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - name: {{ $name }}-data
    mountPath: /var/lib/changelogd
  {{- if .Values.api.socket }}
  {{- include "changelogd.v1.socketMount" . | nindent 2 }}
  {{- end }}
  {{- if not $standalone }}
  {{- /* The pod may have a service token for the application; a mount at its place keeps it out of this container. */}}
  - name: {{ $name }}-no-token
    mountPath: /var/run/secrets/kubernetes.io/serviceaccount
    readOnly: true
  {{- end }}
  {{- with include "changelogd.v1.sharedMounts" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* What the chart sets of the program's settings. */}}
{{- define "changelogd.v1.env" -}}
{{- $store := include "changelogd.v1.store" . -}}
- name: CHANGELOGD_LISTEN
  {{- $insecure := printf "%s:%d" .Values.bindAddress (int64 .Values.api.port) }}
  value: {{ ternary $insecure (include "changelogd.v1.address" .) .Values.api.insecureListen | quote }}
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
- name: CHANGELOGD_DATA_DIR
  value: /var/lib/changelogd
{{- if eq $store "kafka" }}
{{ include "changelogd.v1.kafkaEnv" . }}
- name: CHANGELOGD_CREATE_TOPIC
  value: {{ .Values.topic.create | quote }}
- name: CHANGELOGD_CREATE_TOPIC_REPLICATION_FACTOR
  value: {{ .Values.topic.replicationFactor | quote }}
{{- else if .Values.topic.partitions }}
- name: CHANGELOGD_PARTITIONS
  value: {{ int64 .Values.topic.partitions | quote }}
{{- end }}
- name: CHANGELOGD_VALUES
  value: {{ .Values.store.values }}
- name: CHANGELOGD_MAX_VALUE_BYTES
  value: {{ int64 .Values.store.maxValueBytes | quote }}
{{- if ne $store "kafka" }}
- name: CHANGELOGD_DELETE_RETENTION
  value: {{ .Values.store.deleteRetention | quote }}
{{- end }}
{{- if eq $store "embedded" }}
{{- with include "changelogd.v1.dataLimit" . }}
- name: CHANGELOGD_DATA_LIMIT
  value: {{ . | quote }}
{{- end }}
{{- end }}
- name: CHANGELOGD_WRITE_TIMEOUT
  value: {{ .Values.writeTimeout | quote }}
- name: CHANGELOGD_DRAIN_DELAY
  value: {{ .Values.drainDelay | quote }}
- name: CHANGELOGD_DRAIN_TIMEOUT
  value: {{ .Values.drainTimeout | quote }}
{{- with .Values.log.filter }}
- name: CHANGELOGD_LOG
  value: {{ . | quote }}
{{- end }}
- name: CHANGELOGD_LOG_FORMAT
  value: {{ .Values.log.format }}
{{- range $flag, $value := .Values.config }}
{{- if not (kindIs "invalid" $value) }}
- name: CHANGELOGD_{{ snakecase $flag | upper }}
  value: {{ include "changelogd.v1.text" $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the topic's commands read, too. */}}
{{- define "changelogd.v1.kafkaEnv" -}}
- name: KAFKA_BROKERS
  value: {{ join "," .Values.kafka.brokers | quote }}
- name: KAFKA_CHANGELOG_TOPIC
  value: {{ .Values.topic.name | quote }}
- name: KAFKA_CHANGELOG_GROUP_ID
  value: {{ .Values.kafka.groupId | quote }}
- name: CHANGELOGD_PARTITIONS
  value: {{ int64 .Values.topic.partitions | quote }}
{{- if .Values.kafka.propertiesSecret.name }}
- name: CHANGELOGD_KAFKA_PROPERTIES_FILE
  value: {{ printf "/etc/changelogd/kafka/%s" .Values.kafka.propertiesSecret.key | quote }}
{{- end }}
{{- with .Values.kafka.properties }}
- name: CHANGELOGD_KAFKA_PROPERTY
  value: {{ include "changelogd.v1.kafkaProperties" . | quote }}
{{- end }}
{{- end }}

{{/* A value as text. Numbers from a file of values are floats. */}}
{{- define "changelogd.v1.text" -}}
{{- ternary (int64 . | toString) (toString .) (and (kindIs "float64" .) (eq (toString (floor .)) (toString .))) }}
{{- end }}

{{/*
Properties as lines of name=value. A backslash at the end of a line would continue it, so it is written as two. PEM text
goes on to its last line.
*/}}
{{- define "changelogd.v1.kafkaProperties" -}}
{{- $lines := list }}
{{- range $name, $value := . }}
{{- $text := include "changelogd.v1.text" $value | trimSuffix "\n" }}
{{- $lines = append $lines (printf "%s=%s" $name (regexReplaceAll "(\\\\+)$" $text "$1$1")) }}
{{- end }}
{{- join "\n" $lines }}
{{- end }}

{{- define "changelogd.v1.volumes" -}}
{{- include "changelogd.v1.checkContext" . }}
{{- $name := include "changelogd.v1.name" . -}}
{{- if not .Values.data.claim.enabled }}
- name: {{ $name }}-data
  {{- if .Values.data.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ .Values.data.existingClaim | quote }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ include "changelogd.v1.text" .Values.data.sizeLimit | quote }}
  {{- end }}
{{- end }}
{{- if .Values.api.socket }}
- name: {{ $name }}-socket
  emptyDir:
    sizeLimit: 1Mi
{{- end }}
{{- if eq .Values.mode "sidecar" }}
- name: {{ $name }}-no-token
  emptyDir: {}
{{- end }}
{{- include "changelogd.v1.sharedVolumes" . }}
{{- end }}

{{/* What the topic's Job mounts, too. Begins with a new line, or is empty. */}}
{{- define "changelogd.v1.sharedVolumes" -}}
{{- if .Values.kafka.propertiesSecret.name }}
- name: {{ include "changelogd.v1.name" . }}-kafka
  secret:
    secretName: {{ .Values.kafka.propertiesSecret.name | quote }}
{{- end }}
{{- /* A volume each: two Secrets may have entries of the same name, such as ca.crt. */}}
{{- range $index, $secret := .Values.kafka.secrets }}
- name: {{ include "changelogd.v1.name" $ }}-secret-{{ $index }}
  secret:
    secretName: {{ $secret.name | quote }}
    {{- if $secret.optional }}
    optional: true
    {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "changelogd.v1.sharedMounts" -}}
{{- if .Values.kafka.propertiesSecret.name }}
- name: {{ include "changelogd.v1.name" . }}-kafka
  mountPath: /etc/changelogd/kafka
  readOnly: true
{{- end }}
{{- range $index, $secret := .Values.kafka.secrets }}
- name: {{ include "changelogd.v1.name" $ }}-secret-{{ $index }}
  mountPath: {{ printf "/etc/changelogd/secrets/%s" $secret.name | quote }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
The value, or the default for a pod that may start a container again. Before 1.33 an API server drops the field, or with
a feature gate may refuse it in an init container.
*/}}
{{- define "changelogd.v1.resizePolicy" -}}
{{- if semverCompare "<1.33.0-0" .Capabilities.KubeVersion.Version }}
[]
{{- else if kindIs "invalid" .Values.resizePolicy }}
- resourceName: memory
  restartPolicy: RestartContainer
- resourceName: cpu
  restartPolicy: NotRequired
{{- else }}
{{- toYaml .Values.resizePolicy }}
{{- end }}
{{- end }}
