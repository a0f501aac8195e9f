{{/* Names, labels and the image. */}}

{{/*
The name of the chart, or of the alias under which another chart depends on it: ordersState becomes orders-state. It is
in selectors, which can never change. So a name that Kubernetes allows stays as it is.
*/}}
{{- define "changelogd.v1.longName" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if and (le (len $name) 63) (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $name) }}
{{- $name }}
{{- else }}
{{- include "changelogd.v1.short" (list (kebabcase $name) 63) }}
{{- end }}
{{- end }}

{{/* Of the container, and in the names of volumes and ports. */}}
{{- define "changelogd.v1.name" -}}
{{- include "changelogd.v1.short" (list (include "changelogd.v1.longName" .) 50) }}
{{- end }}

{{/* A name of at most so many characters. A longer one ends in a hash, so that two of them stay different. */}}
{{- define "changelogd.v1.short" -}}
{{- $name := index . 0 | replace "." "-" }}
{{- $name = regexReplaceAll "-+" $name "-" | trimAll "-" }}
{{- $most := index . 1 | int }}
{{- if gt (len $name) $most }}
{{- printf "%s-%s" (trunc (sub $most 5 | int) $name | trimSuffix "-") (sha256sum $name | trunc 4) }}
{{- else }}
{{- $name }}
{{- end }}
{{- end }}

{{/*
As charts do, the name of the release alone if the chart's name is in it. An alias is an exception, unless it is the
release's name: the names of two aliases may both be in that of the release.
*/}}
{{- define "changelogd.v1.fullname" -}}
{{- $name := include "changelogd.v1.longName" . }}
{{- $release := .Release.Name }}
{{- $isAlias := and (not .Values.nameOverride) (ne .Chart.Name "changelogd") }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else if or (eq $name $release) (and (not $isAlias) (contains $name $release)) }}
{{- $release }}
{{- else }}
{{- $full := printf "%s-%s" $release $name }}
{{- le (len $full) 63 | ternary $full (include "changelogd.v1.short" (list $full 63)) }}
{{- end }}
{{- end }}

{{/* A Service's name has no dots. That of the release may have some, and so may names of the other objects. */}}
{{- define "changelogd.v1.serviceName" -}}
{{- include "changelogd.v1.fullname" . | replace "." "-" }}
{{- end }}

{{/* Refuses a name that no Service can have. It takes a list: the name, and the value that wants the Service. */}}
{{- define "changelogd.v1.checkServiceName" -}}
{{- if not (regexMatch "^[a-z]" (index . 0)) }}
{{- fail (printf "changelogd: %s: a Service's name begins with a letter, and %s does not; set fullnameOverride"
    (index . 1) (index . 0)) }}
{{- end }}
{{- end }}

{{/* Its pods have labels with its name and 11 characters more, and a label has at most 63. */}}
{{- define "changelogd.v1.statefulSetName" -}}
{{- include "changelogd.v1.short" (list (include "changelogd.v1.fullname" .) 52) }}
{{- end }}

{{- define "changelogd.v1.headlessName" -}}
{{- include "changelogd.v1.short" (list (include "changelogd.v1.fullname" .) 54) }}-headless
{{- end }}

{{- define "changelogd.v1.topicJobName" -}}
{{- include "changelogd.v1.short" (list (include "changelogd.v1.fullname" .) 57) }}-topic
{{- end }}

{{/* It takes a list: the context, and the command that the pod runs. */}}
{{- define "changelogd.v1.testName" -}}
{{- include "changelogd.v1.short" (list (include "changelogd.v1.fullname" (index . 0)) 54) }}-{{ index . 1 }}
{{- end }}

{{/* What the names of ports begin with. A port's name has at most 15 characters, and is unique in its pod. */}}
{{- define "changelogd.v1.portPrefix" -}}
{{- include "changelogd.v1.short" (list (include "changelogd.v1.name" .) 10) }}
{{- end }}

{{- define "changelogd.v1.selectorLabels" -}}
app.kubernetes.io/name: {{ include "changelogd.v1.longName" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Of each object, and of the pod. */}}
{{- define "changelogd.v1.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{ include "changelogd.v1.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end }}

{{/*
The metadata of an object of this chart. It takes a list: the context, annotations of this object alone, and its name
if that is not the release's. A pod that is no server must not have the labels of the selectors: then its own labels
follow, which may be none.
*/}}
{{- define "changelogd.v1.metadata" -}}
{{- $context := index . 0 -}}
{{- $name := include "changelogd.v1.fullname" $context -}}
{{- if gt (len .) 2 }}
{{- $name = index . 2 }}
{{- end -}}
name: {{ $name | quote }}
namespace: {{ $context.Release.Namespace | quote }}
labels:
  {{- $labels := include "changelogd.v1.labels" $context | fromYaml }}
  {{- if gt (len .) 3 }}
  {{- $_ := set $labels "app.kubernetes.io/name" $name }}
  {{- end }}
  {{- toYaml $labels | nindent 2 }}
  {{- $own := dict }}
  {{- if gt (len .) 3 }}
  {{- $own = default dict (index . 3) }}
  {{- end }}
  {{- with merge dict $own (default dict $context.Values.labels) }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge dict (default dict (index . 1)) (default dict $context.Values.annotations) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "changelogd.v1.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* embedded, kafka or memory: store.type with auto resolved. */}}
{{- define "changelogd.v1.store" -}}
{{- if ne .Values.store.type "auto" }}
{{- .Values.store.type }}
{{- else }}
{{- ternary "kafka" "embedded" (gt (len .Values.kafka.brokers) 0) }}
{{- end }}
{{- end }}

{{/* Not empty if the data is on a PersistentVolumeClaim. */}}
{{- define "changelogd.v1.onClaim" -}}
{{- or .Values.data.existingClaim (ternary "own" "" .Values.data.claim.enabled) }}
{{- end }}
