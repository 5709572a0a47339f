{{/* Labels of a component's objects. Nothing in them depends on the release, so that selectors never change. */}}
{{- define "fairlead.labels" -}}
app.kubernetes.io/name: fairlead
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* The image of a component: (list $ "speaker"). */}}
{{- define "fairlead.image" -}}
{{- $root := index . 0 -}}
{{ $root.Values.image.registry }}/{{ index . 1 }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* The forwarding mode: a values file that says on or off without quotes says true or false in YAML. */}}
{{- define "fairlead.forwarding" -}}
{{- if kindIs "bool" .Values.forwarding -}}
{{- ternary "on" "off" .Values.forwarding -}}
{{- else -}}
{{- .Values.forwarding -}}
{{- end -}}
{{- end }}

{{/* Where the API server is, for a cluster in which nothing forwards its ClusterIP before Fairlead does. */}}
{{- define "fairlead.apiServer" -}}
{{- with .Values.apiServer.host -}}
{{- if regexMatch "[/\\[\\]]|^[^:]*:[^:]*$" . }}
{{- fail (printf "apiServer.host: %q is not a host: write an address or a name alone, such as 192.168.1.10, and the port in apiServer.port" .) }}
{{- end -}}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ $.Values.apiServer.port | quote }}
{{- end }}
{{- end }}

{{/* The ranges of `pool`, one a line. The API server checks them again, more thoroughly. */}}
{{- define "fairlead.poolRanges" -}}
{{- $ranges := .Values.pool -}}
{{- if kindIs "string" $ranges -}}
{{- $ranges = regexSplit "[,\\s]+" (trim $ranges) -1 -}}
{{- end -}}
{{- range $index, $range := $ranges }}
{{- if not (regexMatch "^[0-9a-fA-F:.]+(/[0-9]{1,3}|-[0-9a-fA-F:.]+)?$" $range) }}
{{- fail (printf "pool: %q is not a range of addresses: write first-last such as 192.168.1.240-192.168.1.250, or a CIDR such as 192.168.1.240/28 or fd00:1::/112; for several ranges write --set 'pool={RANGE,RANGE}'" $range) }}
{{- end }}
{{- if $index }}{{ "\n" }}{{ end -}}
- {{ $range | quote }}
{{- end }}
{{- end }}
