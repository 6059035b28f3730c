{{/*
Ray Serve's configuration: an application per pool and one for the routers, built by deployments/chart.py.

`args` hold what takes new replicas to change, and no more: Serve starts an application anew when they differ. Numbers of
replicas are deployment options, and the whole fleet file is the routers' user_config: both change under way.
*/}}
{{- define "pointsman.serveConfig" -}}
{{- $fleet := include "pointsman.fleet" . | fromYaml -}}
{{- $apps := list -}}
{{- range $pool := $fleet.pools -}}
{{- $apps = append $apps (include "pointsman.poolApp" (dict "fleet" $fleet "pool" $pool) | fromYaml) -}}
{{- end -}}
{{- $router := dict "fleet" $fleet "settle" .Values.router.settleSeconds -}}
{{- $apps = append $apps (include "pointsman.routerApp" $router | fromYaml) -}}
{{- toYaml (dict "proxy_location" "Disabled" "applications" $apps) -}}
{{- end }}

{{- define "pointsman.poolApp" -}}
{{- $fleet := .fleet -}}
{{- $models := dict -}}
{{- range $name := .pool.models -}}
{{- $bounds := pick (dig "models" $name dict $fleet) "max_rows" -}}
{{- if $bounds -}}
{{- $_ := set $models $name $bounds -}}
{{- end -}}
{{- end -}}
{{- $part := dict
  "pools" (list (omit .pool "replicas"))
  "accelerators" (pick (default dict $fleet.accelerators) .pool.accelerator)
  "models" $models
  "server" (pick $fleet.server "drain")
  "limits" (pick (default dict $fleet.limits) "queue_bytes_per_pool")
  "stream" $fleet.stream
  "model_store" $fleet.model_store -}}
{{- $replicas := include "pointsman.replicas" .pool | fromYaml -}}
{{- $deployment := dict "name" "PoolReplica" -}}
{{- if eq (int $replicas.min) (int $replicas.max) -}}
{{- $_ := set $deployment "num_replicas" $replicas.max -}}
{{- else -}}
{{- $_ := set $deployment "autoscaling_config" (dict "min_replicas" $replicas.min "max_replicas" $replicas.max) -}}
{{- end -}}
{{- toYaml (dict
  "name" (printf "pool-%s" .pool.name)
  "route_prefix" nil
  "import_path" "deployments.chart:pool"
  "args" (dict "fleet" $part)
  "deployments" (list $deployment)) -}}
{{- end }}

{{- define "pointsman.routerApp" -}}
{{- $fleet := .fleet -}}
{{- $pools := list -}}
{{- range $pool := $fleet.pools -}}
{{- $pools = append $pools (omit $pool "replicas") -}}
{{- end -}}
{{- $part := pick $fleet "accelerators" "limits" "stream" "model_store" -}}
{{- $_ := set $part "pools" $pools -}}
{{- $_ := set $part "server" (omit $fleet.server "routers" "anonymous") -}}
{{- $deployment := dict
  "name" "RouterReplica"
  "num_replicas" (dig "server" "routers" 1 $fleet)
  "user_config" (dict "fleet" $fleet) -}}
{{- toYaml (dict
  "name" "router"
  "route_prefix" nil
  "import_path" "deployments.chart:router"
  "args" (dict "fleet" $part "metrics_dir" "/tmp/pointsman/metrics" "settle_s" .settle)
  "deployments" (list $deployment)) -}}
{{- end }}
