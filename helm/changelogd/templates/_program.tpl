{{/*
Refuses what the program would refuse at its start, with exit status 64. Otherwise the container starts again and again.
*/}}

{{- define "changelogd.v1.checkProgram" -}}
{{- include "changelogd.v1.checkDurations" . }}
{{- range .Values.kafka.brokers }}
{{- include "changelogd.v1.checkBroker" . }}
{{- end }}
{{- $refused := include "changelogd.v1.refusedProperties" . | splitList " " }}
{{- range $name, $_ := .Values.kafka.properties }}
{{- if has $name $refused }}
{{- fail (printf "changelogd: kafka.properties: %s: changelogd refuses it; docs/kafka.md has the properties" $name) }}
{{- end }}
{{- end }}
{{- include "changelogd.v1.checkLogFilter" . }}
{{- include "changelogd.v1.checkTraces" . }}
{{- end }}

{{- define "changelogd.v1.checkDurations" -}}
{{- $durations := dict "writeTimeout" .Values.writeTimeout "drainDelay" .Values.drainDelay
    "drainTimeout" .Values.drainTimeout "store.deleteRetention" .Values.store.deleteRetention }}
{{- range $flag, $value := .Values.config }}
{{- if and (kindIs "string" $value) (not (hasSuffix "File" $flag)) }}
{{- $_ := set $durations (printf "config.%s" $flag) $value }}
{{- end }}
{{- end }}
{{- range $path, $duration := $durations }}
{{- if gt (include "changelogd.v1.milliseconds" $duration | int64) 3162240000000 }}
{{- fail (printf "changelogd: %s: %s is too long: it may be a hundred years, 36600d, at most" $path $duration) }}
{{- end }}
{{- end }}
{{- $write := include "changelogd.v1.milliseconds" .Values.writeTimeout | int64 }}
{{- if and (eq (include "changelogd.v1.store" .) "kafka") (gt $write 2147483647) }}
{{- fail (printf "changelogd: writeTimeout: %s is too long: with kafka it may be 2147483647ms, some 24 days, at most"
    .Values.writeTimeout) }}
{{- end }}
{{- end }}

{{/* A host and a port. The schema knows the signs of both. */}}
{{- define "changelogd.v1.checkBroker" -}}
{{- $port := regexFind "[0-9]+$" . | int64 }}
{{- if or (lt $port 1) (gt $port 65535) }}
{{- fail (printf "changelogd: kafka.brokers: %s: a port is a number from 1 to 65535" .) }}
{{- end }}
{{- $host := regexReplaceAll ":[0-9]+$" . "" }}
{{- $octet := "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])" }}
{{- $ipv4 := printf "%s[.]%s[.]%s[.]%s$" $octet $octet $octet $octet }}
{{- if hasPrefix "[" $host }}
{{- /* An IPv4 address at the end stands for the last two of eight groups, and :: for at least one. */}}
{{- $address := regexReplaceAll (printf "(^|:)%s" $ipv4) ($host | trimPrefix "[" | trimSuffix "]") "${1}0:0" }}
{{- $halves := splitList "::" $address }}
{{- $groups := list }}
{{- range compact $halves }}
{{- $groups = concat $groups (splitList ":" .) }}
{{- end }}
{{- $isAddress := or (and (eq (len $halves) 1) (eq (len $groups) 8)) (and (eq (len $halves) 2) (lt (len $groups) 8)) }}
{{- range $groups }}
{{- $isAddress = and $isAddress (regexMatch "^[0-9A-Fa-f]{1,4}$" .) }}
{{- end }}
{{- if not $isAddress }}
{{- fail (printf "changelogd: kafka.brokers: %s: there is no IPv6 address in the brackets" .) }}
{{- end }}
{{- else }}
{{- $labels := trimSuffix "." $host | splitList "." }}
{{- $isName := le (len (trimSuffix "." $host)) 253 }}
{{- range $labels }}
{{- $isName = and $isName (regexMatch "^[A-Za-z0-9_-]{1,63}$" .) }}
{{- end }}
{{- if not $isName }}
{{- fail (printf "changelogd: kafka.brokers: %s: a host has 1 to 63 letters, digits, hyphens and underscores %s" .
    "between dots, and at most 253 in all") }}
{{- end }}
{{- if and (regexMatch "^[0-9]+$" (last $labels)) (not (regexMatch (printf "^%s" $ipv4) $host)) }}
{{- fail (printf "changelogd: kafka.brokers: %s: an IPv4 address has four numbers from 0 to 255" .) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The properties of librdkafka that the program refuses, whatever their value is. A test compares them with it. */}}
{{- define "changelogd.v1.refusedProperties" -}}
{{- $names := `
acks allow.auto.create.topics api.version.fallback.ms api.version.request auto.commit.enable auto.offset.reset
batch.size bootstrap.servers broker.version.fallback check.crcs client.rack client.software.name
client.software.version delivery.report.only.error delivery.timeout.ms enable.auto.commit enable.auto.offset.store
enable.gapless.guarantee enable.idempotence enable.partition.eof enable.sparse.connections enable_sasl_queue
enabled_events group.id group.instance.id group.protocol group.protocol.type group.remote.assignor
internal.termination.signal isolation.level log.queue log_level max.in.flight max.in.flight.requests.per.connection
message.max.bytes message.timeout.ms metadata.broker.list metadata.request.timeout.ms offset.store.method
offset.store.path offset.store.sync.interval.ms partition.assignment.strategy partitioner plugin.library.paths
queued.max.messages.kbytes request.required.acks sasl.jaas.config ssl.engine.id ssl.engine.location
ssl.keystore.certificate.chain ssl.keystore.key ssl.keystore.type ssl.providers ssl.truststore.certificates
ssl.truststore.location ssl.truststore.password ssl.truststore.type test.mock.broker.rtt test.mock.num.brokers
topic.blacklist transactional.id ut_handle_produceresponse
` }}
{{- regexSplit "\\s+" (trim $names) -1 | join " " }}
{{- end }}

{{/* Each part is a level, or target[span{field=value}]=level of which one of target and span has to be there. */}}
{{- define "changelogd.v1.checkLogFilter" -}}
{{- $span := "\\[[^\\]{,\\s]*({[^{}=,]+(=[^{},]*)?})?\\]" }}
{{- $target := "[\\pL\\pN_:-][^=\\[,\\s]*" }}
{{- $level := "(=((?i)off|error|warn|info|debug|trace|[0-5])?)?" }}
{{- $part := printf "^(%s(%s)?|%s)%s$" $target $span $span $level }}
{{- range splitList "," .Values.log.filter | compact }}
{{- if not (regexMatch $part .) }}
{{- fail (printf "changelogd: log.filter: %s: must be a level or target=level, separated by commas without blanks" .) }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Variables of OpenTelemetry in extraEnv, as YAML. A value from elsewhere is $(), as the value of another variable begins.
*/}}
{{- define "changelogd.v1.telemetry" -}}
{{- $found := dict }}
{{- range .Values.extraEnv }}
{{- if hasPrefix "OTEL_" .name }}
{{- $_ := set $found .name (ternary "$()" (default "" .value) (hasKey . "valueFrom")) }}
{{- end }}
{{- end }}
{{- toYaml $found }}
{{- end }}

{{/* Where traces go, as extraEnv has it. Empty if they go nowhere. */}}
{{- define "changelogd.v1.collector" -}}
{{- $variables := include "changelogd.v1.telemetry" . | fromYaml }}
{{- $isOff := or (eq (get $variables "OTEL_SDK_DISABLED" | lower) "true")
    (eq (get $variables "OTEL_TRACES_EXPORTER") "none") }}
{{- if not $isOff }}
{{- or $variables.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT $variables.OTEL_EXPORTER_OTLP_ENDPOINT | default "" }}
{{- end }}
{{- end }}

{{- define "changelogd.v1.checkTraces" -}}
{{- $collector := include "changelogd.v1.collector" . }}
{{- $variables := include "changelogd.v1.telemetry" . | fromYaml }}
{{- $exporter := $variables.OTEL_TRACES_EXPORTER }}
{{- $protocol := or $variables.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL $variables.OTEL_EXPORTER_OTLP_PROTOCOL }}
{{- if $collector }}
{{- if not (or (hasPrefix "http://" $collector) (hasPrefix "$(" $collector)) }}
{{- fail (print "changelogd: extraEnv: OTEL_EXPORTER_OTLP_ENDPOINT: it must be http://host:port, because TLS to a "
    "collector is not in this version") }}
{{- end }}
{{- if and $exporter (ne $exporter "otlp") (not (hasPrefix "$(" $exporter)) }}
{{- fail (printf "changelogd: extraEnv: OTEL_TRACES_EXPORTER: %s is not in this version; use otlp or none" $exporter) }}
{{- end }}
{{- if and $protocol (ne $protocol "grpc") (not (hasPrefix "$(" $protocol)) }}
{{- fail (printf "changelogd: extraEnv: OTEL_EXPORTER_OTLP_PROTOCOL: %s is not in this version; use grpc" $protocol) }}
{{- end }}
{{- end }}
{{- /* Turned off they need no collector. Variables of envFrom are not known here. */}}
{{- $mayBe := or $collector $exporter (hasKey $variables "OTEL_SDK_DISABLED") .Values.envFrom }}
{{- if and .Values.config.traceContextInRecords (not $mayBe) }}
{{- fail "changelogd: config.traceContextInRecords: needs traces; set OTEL_EXPORTER_OTLP_ENDPOINT in extraEnv" }}
{{- end }}
{{- $policy := .Values.networkPolicy }}
{{- $isOutside := and $collector (not (regexMatch "^http://(localhost|127[.][0-9.]+|\\[::1\\])(:|/|$)" $collector)) }}
{{- if and $policy.enabled $isOutside (not $policy.extraEgress) }}
{{- fail (print "changelogd: networkPolicy.extraEgress: nothing lets traces reach the collector, which extraEnv names; "
    "add a rule for it") }}
{{- end }}
{{- end }}
