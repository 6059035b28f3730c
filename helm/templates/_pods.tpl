{{/*
Template of a pod. Takes (dict "root" $ "role" "head|router|pool" "class" class or "" "spec" the values of its kind).

Probes are written out: what KubeRay would set asks every worker for Serve's own proxy, which no pod has.
*/}}
{{- define "pointsman.pod" -}}
{{- $root := .root -}}
{{- $spec := .spec -}}
{{- $secrets := $root.Values.secrets -}}
{{- $mounts := list (dict "name" "tmp" "mountPath" "/tmp") -}}
{{- $volumes := list (dict "name" "tmp" "emptyDir" dict) -}}
{{- if ne .role "head" -}}
{{- if not $secrets.streamKey -}}
{{- fail "secrets.streamKey: the name of a Secret with the key of the streams is needed" -}}
{{- end -}}
{{- $names := dict "stream" $secrets.streamKey -}}
{{- if eq .role "router" -}}
{{- $_ := set $names "tenants" $secrets.tenants -}}
{{- $_ := set $names "tls" $secrets.tls -}}
{{- end -}}
{{- range $name, $secret := $names -}}
{{- if $secret -}}
{{- $volumes = append $volumes (dict "name" $name "secret" (dict "secretName" $secret "defaultMode" 0o440)) -}}
{{- $mounts = append $mounts (dict "name" $name "mountPath" (printf "/etc/pointsman/%s" $name) "readOnly" true) -}}
{{- end -}}
{{- end -}}
{{- with $root.Values.modelStore.volume -}}
{{- $volumes = append $volumes (merge (dict "name" "models") .) -}}
{{- $mounts = append $mounts (dict "name" "models" "mountPath" $root.Values.modelStore.path "readOnly" true) -}}
{{- end -}}
{{- end -}}
metadata:
  labels:
    {{- include "pointsman.selector" $root | nindent 4 }}
    pointsman.io/role: {{ .role }}
    {{- with .class }}
    pointsman.io/accelerator: {{ . }}
    {{- end }}
  {{- with $spec.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $root.Values.terminationGracePeriodSeconds }}
  securityContext: {{- toYaml $root.Values.podSecurityContext | nindent 4 }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" }}
  {{- with get $spec $key }}
  {{ $key }}: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with $spec.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  volumes: {{- concat $volumes (default list $spec.volumes) | toYaml | nindent 4 }}
  containers:
    - name: ray-{{ ternary "head" "worker" (eq .role "head") }}
      image: {{ $spec.image }}
      securityContext: {{- toYaml $root.Values.securityContext | nindent 8 }}
      env:
        - {name: HOME, value: /tmp}
        - {name: PYTHONDONTWRITEBYTECODE, value: "1"}
        - {name: RAY_USAGE_STATS_ENABLED, value: "0"}
        - {name: RAY_worker_niceness, value: "0"}
        {{- with $spec.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if eq .role "router" }}
      ports:
        - {name: pm-http, containerPort: 8000}
        - {name: pm-grpc, containerPort: 8001}
        - {name: pm-metrics, containerPort: 8002}
      readinessProbe:
        httpGet: {path: /-/healthz, port: pm-http, scheme: {{ ternary "HTTPS" "HTTP" (not (empty $secrets.tls)) }}}
        periodSeconds: 2
        failureThreshold: 1
      # A pod that is deleted leaves the Service while its router still answers; then Ray ends without waiting.
      lifecycle: {preStop: {exec: {command: [sleep, "15"]}}}
      {{- else }}
      readinessProbe:
        httpGet: {path: /api/healthz, port: 52365}
        periodSeconds: 5
        timeoutSeconds: 5
      {{- end }}
      livenessProbe:
        httpGet: {path: /api/healthz, port: 52365}
        initialDelaySeconds: 30
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 24
      resources: {{- include "pointsman.resources" $spec | nindent 8 }}
      volumeMounts: {{- concat $mounts (default list $spec.volumeMounts) | toYaml | nindent 8 }}
{{- end }}

{{/* Requests and limits of a container, with its devices. Takes the values of its kind. */}}
{{- define "pointsman.resources" -}}
{{- $resources := deepCopy (default dict .resources) -}}
{{- with .device -}}
{{- $devices := dict .resource (int (default 1 $.replicasPerPod)) -}}
{{- range $key := list "requests" "limits" -}}
{{- $_ := set $resources $key (merge (deepCopy $devices) (get $resources $key | default dict)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end }}
