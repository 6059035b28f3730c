{{- define "pointsman.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "pointsman.selector" -}}
app.kubernetes.io/name: pointsman
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "pointsman.labels" -}}
{{ include "pointsman.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* The fleet file: the values' own, and what the chart sets: hosts, paths, the certificate. */}}
{{- define "pointsman.fleet" -}}
{{- $own := .Values.fleet -}}
{{- $stream := default dict $own.stream -}}
{{- if not $stream.beyond_loopback -}}
{{- fail "fleet.stream.beyond_loopback: streams between pods are proven by a key but not encrypted; say true where you trust the network between your pods" -}}
{{- end -}}
{{- $any := dict "host" "0.0.0.0" -}}
{{- $http := $any -}}
{{- if .Values.secrets.tls -}}
{{- $tls := dict "certificate" "/etc/pointsman/tls/tls.crt" "key" "/etc/pointsman/tls/tls.key" -}}
{{- $http = dict "host" "0.0.0.0" "tls" $tls -}}
{{- end -}}
{{- $set := dict
  "server" (dict "http" $http "grpc" $any "metrics" $any)
  "stream" (dict "key_file" "/etc/pointsman/stream/stream.key")
  "model_store" .Values.modelStore.path -}}
{{- if .Values.secrets.tenants -}}
{{- $_ := set $set "tenants_file" "/etc/pointsman/tenants/tenants.yaml" -}}
{{- end -}}
{{- toYaml (mergeOverwrite (deepCopy $own) $set) -}}
{{- end }}

{{/* Class of the pods that hold a pool: its own, or x86-cpu where it is emulated or another server. Takes (dict "root" $ "pool" $p). */}}
{{- define "pointsman.classOf" -}}
{{- $type := dig "backend" "type" "onnx" .pool -}}
{{- $name := .pool.accelerator -}}
{{- if has $type (list "emulated" "oip_upstream") -}}
{{- $name = "x86-cpu" -}}
{{- end -}}
{{- if not (hasKey .root.Values.classes $name) -}}
{{- fail (printf "classes.%s: is needed by the pool %q" $name .pool.name) -}}
{{- end -}}
{{- $name -}}
{{- end }}

{{/* Replicas of a pool as (dict "min" n "max" n), in YAML. */}}
{{- define "pointsman.replicas" -}}
{{- $given := default 1 .replicas -}}
{{- if kindIs "map" $given -}}
{{- toYaml $given -}}
{{- else -}}
{{- toYaml (dict "min" (int $given) "max" (int $given)) -}}
{{- end -}}
{{- end }}

{{/* How many pods a class has. Takes (dict "root" $ "class" $name). */}}
{{- define "pointsman.pods" -}}
{{- $class := get .root.Values.classes .class -}}
{{- if hasKey $class "pods" -}}
{{- int $class.pods -}}
{{- else -}}
{{- $replicas := 0 -}}
{{- $root := .root -}}
{{- $name := .class -}}
{{- range $pool := .root.Values.fleet.pools -}}
{{- if eq $name (include "pointsman.classOf" (dict "root" $root "pool" $pool)) -}}
{{- $replicas = add $replicas (include "pointsman.replicas" $pool | fromYaml).max -}}
{{- end -}}
{{- end -}}
{{- $per := int (default 1 $class.replicasPerPod) -}}
{{- div (add $replicas $per -1) $per -}}
{{- end -}}
{{- end }}
