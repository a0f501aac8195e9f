{{/* The pods of this chart's own objects. */}}

{{/* The template of the pod, of a Deployment and of a StatefulSet. */}}
{{- define "changelogd.v1.podTemplate" -}}
metadata:
  labels:
    {{- include "changelogd.v1.labels" . | nindent 4 }}
    {{- with .Values.pod.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.pod.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with include "changelogd.v1.serviceAccountName" . }}
  serviceAccountName: {{ . | quote }}
  {{- end }}
  {{- include "changelogd.v1.podFields" . | nindent 2 }}
  terminationGracePeriodSeconds: {{ int64 .Values.terminationGracePeriodSeconds }}
  {{- with .Values.pod.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.pod.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - {{ include "changelogd.v1.container" . | nindent 6 | trim }}
    {{- with .Values.pod.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with include "changelogd.v1.volumes" . | trim }}
  volumes:
    {{- . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* What a Deployment and a StatefulSet have of the replacement of pods. */}}
{{- define "changelogd.v1.rollout" -}}
{{- range $field := list "minReadySeconds" "revisionHistoryLimit" }}
{{- $value := get $.Values $field }}
{{- if include "changelogd.v1.isSet" $value }}
{{ $field }}: {{ int64 $value }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Fields of every pod that this chart makes: also of the topic's Job and of the test. Their pods end. So they have no
spread, and annotations and labels of their own: those of the server might add a proxy that never ends.
*/}}
{{- define "changelogd.v1.podFields" -}}
automountServiceAccountToken: false
# A Service named changelogd would otherwise set CHANGELOGD_PORT and the like.
enableServiceLinks: false
{{- with .Values.pod.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  {{- if kindIs "map" . }}
  - name: {{ .name | quote }}
  {{- else }}
  - name: {{ . | quote }}
  {{- end }}
  {{- end }}
{{- end }}
{{- range $name := list "priorityClassName" "runtimeClassName" "dnsPolicy" }}
{{- with get $.Values.pod $name }}
{{ $name }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- with include "changelogd.v1.withoutEmpty" .Values.pod.securityContext | fromYaml }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $name := list "dnsConfig" "hostAliases" "nodeSelector" "tolerations" "affinity" }}
{{- with get $.Values.pod $name }}
{{ $name }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "changelogd.v1.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "changelogd.v1.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/*
A container that runs one command of the program. It takes a list: the context, a name, the arguments, the resources.
*/}}
{{- define "changelogd.v1.command" -}}
{{- $context := index . 0 -}}
name: {{ index . 1 }}
image: {{ include "changelogd.v1.image" $context | quote }}
imagePullPolicy: {{ $context.Values.image.pullPolicy }}
args: {{ index . 2 | toJson }}
resources:
  {{- include "changelogd.v1.withoutEmpty" (index . 3) | nindent 2 }}
{{- with include "changelogd.v1.withoutEmpty" $context.Values.securityContext | fromYaml }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}
