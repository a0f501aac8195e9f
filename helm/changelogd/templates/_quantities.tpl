{{/* Durations and quantities as numbers. Numbers from values are floats, so nothing is printed without int64. */}}

{{/* Not empty if a value is set. null and empty text are not, and 0 is. */}}
{{- define "changelogd.v1.isSet" -}}
{{- if not (or (kindIs "invalid" .) (eq (toString .) "")) }}yes{{ end }}
{{- end }}

{{/*
A map without the keys that are null or empty text. Helm 4 merges the default into a key that is null in the values.yaml
of another chart, so there only text can remove a key.
*/}}
{{- define "changelogd.v1.withoutEmpty" -}}
{{- $left := dict }}
{{- range $name, $value := . }}
{{- if kindIs "map" $value }}
{{- with include "changelogd.v1.withoutEmpty" $value | fromYaml }}
{{- $_ := set $left $name . }}
{{- end }}
{{- else if include "changelogd.v1.isSet" $value }}
{{- $_ := set $left $name $value }}
{{- end }}
{{- end }}
{{- toYaml $left }}
{{- end }}

{{- define "changelogd.v1.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 }}
{{- mul (regexFind "^[0-9]+" . | int64) (get $units (regexFind "[a-z]+$" .)) }}
{{- end }}

{{/* A duration in whole seconds, rounded up. */}}
{{- define "changelogd.v1.seconds" -}}
{{- div (add (include "changelogd.v1.milliseconds" . | int64) 999) 1000 }}
{{- end }}

{{/*
A quantity of Kubernetes as a decimal number, in its unit: 100m is 0.1, 256Mi is 268435456, 1e3 is 1000. It may be a
number already.
*/}}
{{- define "changelogd.v1.number" -}}
{{- $units := dict "" 1 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18
    "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 }}
{{- if not (kindIs "string" .) }}
{{- printf "%.9f" (float64 .) }}
{{- else if regexMatch "[eE][+-]?[0-9]+$" . }}
{{- printf "%.9f" (float64 .) }}
{{- else }}
{{- $unit := regexFind "[A-Za-z]*$" . }}
{{- printf "%.9f" (mulf (trimSuffix $unit . | float64) (get $units $unit)) }}
{{- end }}
{{- end }}

{{/* A quantity of memory in bytes, rounded up as Kubernetes does. */}}
{{- define "changelogd.v1.bytes" -}}
{{- include "changelogd.v1.number" . | float64 | ceil | int64 }}
{{- end }}

{{/*
--data-limit in bytes, or empty. The kubelet ends a pod whose emptyDir has more than its sizeLimit, so a sixteenth of it
stays free. A claim may grow, and the store itself sees how much of it is free.
*/}}
{{- define "changelogd.v1.dataLimit" -}}
{{- if not (kindIs "invalid" .Values.data.limit) }}
{{- include "changelogd.v1.bytes" .Values.data.limit }}
{{- else if not (include "changelogd.v1.onClaim" .) }}
{{- include "changelogd.v1.fifteenSixteenths" .Values.data.sizeLimit }}
{{- end }}
{{- end }}

{{- define "changelogd.v1.fifteenSixteenths" -}}
{{- $size := include "changelogd.v1.bytes" . | int64 }}
{{- sub $size (div $size 16) }}
{{- end }}

{{/* --memory-limit in bytes: the program takes 60 % of its container's limit, unless a value says otherwise. */}}
{{- define "changelogd.v1.memoryLimit" -}}
{{- if kindIs "invalid" .Values.config.memoryLimit }}
{{- mulf (include "changelogd.v1.bytes" .Values.resources.limits.memory | float64) 0.6 | floor | int64 }}
{{- else }}
{{- int64 .Values.config.memoryLimit }}
{{- end }}
{{- end }}

{{/* The least of it that changelogd starts with, in bytes, as src/config/memory.rs has it. */}}
{{- define "changelogd.v1.neededMemory" -}}
{{- $value := int64 .Values.store.maxValueBytes }}
{{- $mib := 1048576 }}
{{- $record := 65536 }}
{{- $producers := default 2 .Values.config.producers | int64 }}
{{- $queues := ternary $producers 1 (eq (include "changelogd.v1.store" .) "kafka") }}
{{- $request := max (add (mul 6 $value) $record) (mul 4 $mib) }}
{{- $answer := add (max $value (mul 4 $mib)) $record }}
{{- $conversions := max (add (mul 7 (div $value 2)) 16384) 262144 }}
{{- $replays := default (mul 2 $mib) .Values.config.replayMemory | int64 }}
{{- /* Small requests and small answers 4 MiB each, lists 4 MiB, probes 2 MiB. */}}
{{- add (mul 14 $mib) $replays (mul $queues 2 (add $value $record)) $request $answer $conversions }}
{{- end }}
