{{/* The topic: its configuration, and its names as an object of Strimzi. */}}

{{/*
The configuration that `changelogd topic ensure` sets, with topic.minInsyncReplicas, topic.config and topic.without.
Values are text, because Kafka compares them as text.
*/}}
{{- define "changelogd.v1.topicConfig" -}}
{{- $topic := .Values.topic }}
{{- $config := dict "cleanup.policy" "compact" "compression.type" "snappy" "min.compaction.lag.ms" "60000" }}
{{- if ge (int64 $topic.replicationFactor) 3 }}
{{- $_ := set $config "min.insync.replicas" "2" }}
{{- end }}
{{- if not (kindIs "invalid" $topic.minInsyncReplicas) }}
{{- $_ := set $config "min.insync.replicas" (int64 $topic.minInsyncReplicas | toString) }}
{{- end }}
{{- range $topic.without }}
{{- $_ := unset $config . }}
{{- end }}
{{- range $name, $value := $topic.config }}
{{- $_ := set $config $name (include "changelogd.v1.text" $value) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* The arguments of `changelogd topic ensure`. */}}
{{- define "changelogd.v1.topicArguments" -}}
{{- $topic := .Values.topic }}
{{- $arguments := list "topic" "ensure" (printf "--replication-factor=%d" (int64 $topic.replicationFactor)) }}
{{- if not (kindIs "invalid" $topic.minInsyncReplicas) }}
{{- $arguments = append $arguments (printf "--config=min.insync.replicas=%d" (int64 $topic.minInsyncReplicas)) }}
{{- end }}
{{- range $property, $value := $topic.config }}
{{- $arguments = append $arguments (printf "--config=%s=%s" $property (include "changelogd.v1.text" $value)) }}
{{- end }}
{{- range $topic.without }}
{{- $arguments = append $arguments (printf "--without=%s" .) }}
{{- end }}
{{- toYaml $arguments }}
{{- end }}

{{/*
Named after the topic and not after the release, so that two releases cannot have an object each for one topic. A name
that Kubernetes does not allow ends in a hash.
*/}}
{{- define "changelogd.v1.kafkaTopicName" -}}
{{- $name := .Values.topic.name }}
{{- if .Values.strimzi.topic.name }}
{{- .Values.strimzi.topic.name }}
{{- else if regexMatch "^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*$" $name }}
{{- $name }}
{{- else }}
{{- $allowed := regexReplaceAll "[^a-z0-9]+" (lower $name) "-" | trunc 200 | trimAll "-" }}
{{- printf "%s-%s" $allowed (sha256sum $name | trunc 8) | trimPrefix "-" }}
{{- end }}
{{- end }}

{{- define "changelogd.v1.kafkaUserName" -}}
{{- default (include "changelogd.v1.fullname" .) .Values.strimzi.user.name }}
{{- end }}

{{/* The metadata of an object of Strimzi. It takes a list: the context and a name. */}}
{{- define "changelogd.v1.strimziMetadata" -}}
{{- $context := index . 0 }}
{{- $keep := dict "helm.sh/resource-policy" "keep" }}
{{- $metadata := include "changelogd.v1.metadata" (list $context $keep (index . 1)) | fromYaml }}
{{- $_ := set $metadata "namespace" (default $context.Release.Namespace $context.Values.strimzi.namespace) }}
{{- $_ := set $metadata.labels "strimzi.io/cluster" $context.Values.strimzi.cluster }}
{{- toYaml $metadata }}
{{- end }}
