{{/* Labels and checks of the monitors. */}}

{{/*
Labels of a pod whose metrics the PodMonitor of this chart scrapes. In sidecar mode you put them on your pods. Two
sidecars of one pod have different labels.
*/}}
{{- define "changelogd.v1.monitorLabels" -}}
{{- include "changelogd.v1.checkContext" . -}}
{{ include "changelogd.v1.name" . }}-metrics: {{ include "changelogd.v1.fullname" . | quote }}
{{- end }}

{{- define "changelogd.v1.checkScraped" -}}
{{- $context := index . 0 }}
{{- if not $context.Values.admin.podListen }}
{{- fail (printf "changelogd: monitoring.%s.enabled: nothing outside the pod reaches metrics without admin.podListen"
    (index . 1)) }}
{{- end }}
{{- end }}

{{- define "changelogd.v1.metricsServiceName" -}}
{{- include "changelogd.v1.short" (list (include "changelogd.v1.fullname" .) 55) }}-metrics
{{- end }}

{{/*
The metadata of an object that another program selects by labels. It takes a list: the context, labels, annotations, and
its name.
*/}}
{{- define "changelogd.v1.monitorMetadata" -}}
{{- $metadata := include "changelogd.v1.metadata" (list (index . 0) (index . 2) (index . 3)) | fromYaml }}
{{- $_ := set $metadata "labels" (merge dict (index . 1) $metadata.labels) }}
{{- toYaml $metadata }}
{{- end }}
