{{- define "sightline.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* 52 characters leave room for "-operator" and for what Deployments add. */}}
{{- define "sightline.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "sightline.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "sightline.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What selects a component's pods; never changed, for a Deployment's selector cannot be. */}}
{{- define "sightline.selector" -}}
app.kubernetes.io/name: {{ include "sightline.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "sightline.labels" -}}
{{ include "sightline.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sightline.image" -}}
{{- $image := .root.Values.image -}}
{{- printf "%s/%s%s:%s" (trimSuffix "/" $image.registry) $image.repositoryPrefix .component ($image.tag | default .root.Chart.AppVersion) }}
{{- end }}

{{- define "sightline.keysSecret" -}}
{{- .Values.keys.existingSecret | default (printf "%s-keys" (include "sightline.fullname" .)) }}
{{- end }}

{{/* Fields of a pod's spec that every component has. */}}
{{- define "sightline.podSpec" -}}
{{- $values := get .root.Values .component -}}
serviceAccountName: {{ .serviceAccount | default (printf "%s-%s" (include "sightline.fullname" .root) .component) }}
# Service links would put SIGHTLINE_API_PORT=tcp://... and the like among the settings.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "sightline.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Fields of a container that every component has. */}}
{{- define "sightline.container" -}}
name: {{ .component }}
image: {{ include "sightline.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
{{ include "sightline.containerSecurity" . }}
ports:
  - name: http
    containerPort: 8080
    protocol: TCP
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 2
resources:
  {{- toYaml (get .root.Values .component).resources | nindent 2 }}
{{- end }}

{{/* Replicas of a component go to different nodes where they can, and a drain takes one at a time. */}}
{{- define "sightline.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "sightline.selector" . | nindent 8 }}
{{- end }}

{{- define "sightline.budget" -}}
{{- if gt (int (get .root.Values .component).replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "sightline.fullname" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "sightline.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "sightline.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* Settings of the front door, as the JSON file that it reads. */}}
{{- define "sightline.apiConfig" -}}
{{- $api := .Values.api -}}
{{- if and $api.dev.staticUsers (not $api.dev.enabled) }}
{{- fail "api.dev.staticUsers are fixed tokens for development: set api.dev.enabled to allow them, or leave them out" }}
{{- end }}
{{- $oidc := list -}}
{{- range $api.oidc }}
{{- $issuer := dict -}}
{{- range $key, $value := . }}
{{- $_ := set $issuer (snakecase $key) $value }}
{{- end }}
{{- $oidc = append $oidc $issuer }}
{{- end }}
{{- $config := dict
      "namespaces" .Values.watchNamespaces
      "oidc" $oidc
      "kubernetes" $api.kubernetes
      "dev_mode" $api.dev.enabled
      "static_users" $api.dev.staticUsers
      "trusted_proxies" $api.trustedProxies
      "cors_origins" $api.corsOrigins
      "frame_ancestors" $api.frameAncestors
      "ice_servers" $api.iceServers
      "quota" (dict "rate_per_second" $api.quota.ratePerSecond "burst" $api.quota.burst "concurrent" $api.quota.concurrent)
      "keep_alive" $api.keepAliveSeconds
      "shutdown_delay" $api.shutdownDelaySeconds
      "shutdown_grace" $api.shutdownGraceSeconds
      "log_format" $api.logFormat -}}
{{- if $api.publicUrl }}
{{- $_ := set $config "public_url" $api.publicUrl }}
{{- end }}
{{- toPrettyJson $config }}
{{- end }}
