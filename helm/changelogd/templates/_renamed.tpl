{{/* Old names of the templates for other charts. They are kept until 1.0, and say the new name. */}}

{{- define "changelogd.sidecar" -}}
{{- fail "changelogd: changelogd.sidecar: renamed to changelogd.v1.sidecar" }}
{{- end }}

{{- define "changelogd.volumes" -}}
{{- fail "changelogd: changelogd.volumes: renamed to changelogd.v1.volumes" }}
{{- end }}

{{- define "changelogd.address" -}}
{{- fail "changelogd: changelogd.address: renamed to changelogd.v1.address" }}
{{- end }}

{{- define "changelogd.socketMount" -}}
{{- fail "changelogd: changelogd.socketMount: renamed to changelogd.v1.socketMount" }}
{{- end }}
