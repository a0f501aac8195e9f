{{/*
The templates that another chart may include. The number is the chart's major version, at least 1: a template of
another major version has another name. Each takes changelogd's own context, as in
`include "changelogd.v1.sidecar" .Subcharts.changelogd`:

  changelogd.v1.pod           a whole pod spec: takes a list, of the context and of your pod spec
  changelogd.v1.sidecar       an item of initContainers (native) or containers (classic)
  changelogd.v1.volumes       items of the pod's volumes
  changelogd.v1.address       what the application dials
  changelogd.v1.socketMount   an item of the application's volumeMounts; empty unless api.socket is on

The others serve this chart.
*/}}

{{- define "changelogd.v1.sidecar" -}}
{{- /* The container runs all checks. */}}
{{- include "changelogd.v1.checkContext" . }}
{{- if ne .Values.mode "sidecar" }}
{{- fail (print "changelogd: mode: has to be sidecar where the templates of this chart are included; "
    "in standalone mode the chart runs a Deployment of its own") }}
{{- end -}}
- {{ include "changelogd.v1.container" . | nindent 2 | trim }}
{{- if eq .Values.sidecar.type "native" }}
  restartPolicy: Always
{{- end }}
{{- end }}

{{- define "changelogd.v1.address" -}}
{{- include "changelogd.v1.checkContext" . }}
{{- if .Values.api.socket -}}
unix:/run/{{ include "changelogd.v1.name" . }}/changelogd.sock
{{- else -}}
127.0.0.1:{{ int64 .Values.api.port }}
{{- end }}
{{- end }}

{{- define "changelogd.v1.socketMount" -}}
{{- include "changelogd.v1.checkContext" . }}
{{- if .Values.api.socket -}}
{{- $name := include "changelogd.v1.name" . -}}
- name: {{ $name }}-socket
  mountPath: /run/{{ $name }}
{{- end }}
{{- end }}

{{/*
The pod spec of an application, with changelogd in it. What the spec has already stays, but for these additions:

- the sidecar, before other init containers (native) or after other containers (classic), and its volumes; by default
  with a resizePolicy, unless the spec has restartPolicy Never, where the API server refuses RestartContainer
- in each container that can reach it: the variable sidecar.addressVariable, and the socket's volume
- enableServiceLinks false and terminationGracePeriodSeconds, and with api.socket the fsGroup, unless the spec has them
*/}}
{{- define "changelogd.v1.pod" -}}
{{- if not (and (kindIs "slice" .) (eq (len .) 2) (kindIs "map" (index . 1))) }}
{{- fail "changelogd: changelogd.v1.pod takes a list: changelogd's context, and your pod spec as an object" }}
{{- end }}
{{- $context := index . 0 }}
{{- $pod := deepCopy (index . 1) }}
{{- $sidecar := include "changelogd.v1.sidecar" $context | fromYamlArray }}
{{- $values := $context.Values }}
{{- $volumes := include "changelogd.v1.volumes" $context | fromYamlArray }}
{{- include "changelogd.v1.checkApplication" (list $context $pod (first $sidecar) $volumes) }}
{{- if and (kindIs "invalid" $values.resizePolicy) (ne (default "" $pod.restartPolicy) "Never") }}
{{- with include "changelogd.v1.resizePolicy" $context | fromYamlArray }}
{{- $_ := set (first $sidecar) "resizePolicy" . }}
{{- end }}
{{- end }}
{{- $native := eq $values.sidecar.type "native" }}
{{- range $kind := ternary (list "initContainers" "containers") (list "containers") $native }}
{{- $containers := list }}
{{- range $container := default list (get $pod $kind) }}
{{- $containers = append $containers (include "changelogd.v1.client" (list $context $container) | fromYaml) }}
{{- end }}
{{- if $containers }}
{{- $_ := set $pod $kind $containers }}
{{- end }}
{{- end }}
{{- if $native }}
{{- $_ := set $pod "initContainers" (concat $sidecar (default list $pod.initContainers)) }}
{{- else }}
{{- $_ := set $pod "containers" (concat (default list $pod.containers) $sidecar) }}
{{- end }}
{{- $_ := set $pod "volumes" (concat (default list $pod.volumes) $volumes) }}
{{- /* A field with null is as a field that is absent. */}}
{{- if kindIs "invalid" $pod.enableServiceLinks }}
{{- $_ := set $pod "enableServiceLinks" false }}
{{- end }}
{{- $grace := int64 $values.terminationGracePeriodSeconds }}
{{- $found := $pod.terminationGracePeriodSeconds }}
{{- if and (not (kindIs "invalid" $found)) (ne (int64 $found) $grace) }}
{{- fail (printf "changelogd: terminationGracePeriodSeconds: the pod has %d, and this value is %d: %s"
    (int64 $found) $grace "set it to the pod's, so that the time of a drain is checked") }}
{{- end }}
{{- $_ := set $pod "terminationGracePeriodSeconds" $grace }}
{{- $group := get (default dict $values.pod.securityContext) "fsGroup" }}
{{- if and $values.api.socket $group }}
{{- $security := default dict $pod.securityContext }}
{{- if kindIs "invalid" $security.fsGroup }}
{{- $_ := set $pod "securityContext" (merge (dict "fsGroup" (int64 $group)) $security) }}
{{- end }}
{{- end }}
{{- toYaml $pod }}
{{- end }}

{{/*
Refuses a pod spec that cannot have this sidecar. It takes a list: the context, the spec, the sidecar and its volumes.
*/}}
{{- define "changelogd.v1.checkApplication" -}}
{{- $context := index . 0 }}
{{- $pod := index . 1 }}
{{- $sidecar := index . 2 }}
{{- if hasKey $pod "Error" }}
{{- fail (printf "changelogd: the pod spec is no YAML: %s" (get $pod "Error")) }}
{{- end }}
{{- if not $pod.containers }}
{{- fail "changelogd: the pod spec has no containers" }}
{{- end }}
{{- range $name := list "initContainers" "containers" "volumes" }}
{{- if not (kindIs "slice" (default list (get $pod $name))) }}
{{- fail (printf "changelogd: the pod spec's %s are no list" $name) }}
{{- end }}
{{- end }}
{{- if and $pod.hostNetwork (not $context.Values.api.socket) }}
{{- fail (print "changelogd: api.socket: the pod has hostNetwork, so that the API would be on the node's loopback; "
    "set it to true") }}
{{- end }}
{{- $listens := list "CHANGELOGD_LISTEN" "CHANGELOGD_HEALTH_LISTEN" "CHANGELOGD_ADMIN_LISTEN" }}
{{- $own := list }}
{{- range $sidecar.env }}
{{- if and (has .name $listens) (not (hasPrefix "unix:" .value)) }}
{{- $own = append $own (regexFind "[0-9]+$" .value) }}
{{- end }}
{{- end }}
{{- $variable := $context.Values.sidecar.addressVariable }}
{{- $others := false }}
{{- range concat (default list $pod.initContainers) $pod.containers }}
{{- if eq .name $sidecar.name }}
{{- fail (printf "changelogd: the pod has a container %s already; give each sidecar an alias" .name) }}
{{- end }}
{{- range .env }}
{{- if has .name $listens }}
{{- $others = true }}
{{- if and (not (hasPrefix "unix:" .value)) (has (regexFind "[0-9]+$" .value) $own) }}
{{- fail (printf "changelogd: port %s: another sidecar of the pod has it too; give each its own ports"
    (regexFind "[0-9]+$" .value)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if $others }}
{{- range $pod.containers }}
{{- range .env }}
{{- if eq .name $variable }}
{{- fail (printf "changelogd: sidecar.addressVariable: the containers have %s already; use another" .name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- $names := list }}
{{- range index . 3 }}
{{- $names = append $names .name }}
{{- end }}
{{- range $pod.volumes }}
{{- if has .name $names }}
{{- fail (printf "changelogd: the pod has a volume %s already; give each sidecar an alias" .name) }}
{{- end }}
{{- end }}
{{- range $pod.volumes }}
{{- $names = append $names .name }}
{{- end }}
{{- /* The claims of a StatefulSet stand outside the pod spec. Then a container of the application may mount one. */}}
{{- range concat (default list $pod.initContainers) $pod.containers }}
{{- range .volumeMounts }}
{{- $names = append $names .name }}
{{- end }}
{{- end }}
{{- range $context.Values.extraVolumeMounts }}
{{- if not (has .name $names) }}
{{- fail (printf "changelogd: extraVolumeMounts: %s is no volume of the pod; add it to extraVolumes or to the pod spec"
    .name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* A container of the application, with address and socket. It takes a list: the context and the container. */}}
{{- define "changelogd.v1.client" -}}
{{- $context := index . 0 }}
{{- $container := index . 1 }}
{{- $variable := $context.Values.sidecar.addressVariable }}
{{- $names := list }}
{{- range default list $container.env }}
{{- $names = append $names .name }}
{{- end }}
{{- /* Another changelogd in the same pod is no client. */}}
{{- if not (has "CHANGELOGD_LISTEN" $names) }}
{{- if not (has $variable $names) }}
{{- $address := dict "name" $variable "value" (include "changelogd.v1.address" $context) }}
{{- /* Before the others, so that they may name it, as $(CHANGELOGD_ADDR). */}}
{{- $_ := set $container "env" (prepend (default list $container.env) $address) }}
{{- end }}
{{- with include "changelogd.v1.socketMount" $context }}
{{- $_ := set $container "volumeMounts" (concat (default list $container.volumeMounts) (fromYamlArray .)) }}
{{- end }}
{{- end }}
{{- toYaml $container }}
{{- end }}
