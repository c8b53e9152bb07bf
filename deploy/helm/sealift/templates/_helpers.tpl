{{- define "sealift.fullname" -}}
{{- if contains "sealift" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-sealift{{ end }}
{{- end }}

{{/* A value as text. Numbers of a values file are floats, which Go writes as 2.592e+06. */}}
{{- define "sealift.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* What the trial server may fill: 60 % of its memory limit, in bytes; the rest is for rewriting its
     append-only file and for clients. Empty without a limit. */}}
{{- define "sealift.maxmemory" -}}
{{- with (.Values.valkey.resources.limits | default dict).memory }}
{{- $text := include "sealift.text" . }}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- if not (regexMatch "^[0-9]+([.][0-9]+)?([kMGT]|[KMGT]i)?$" $text) }}
{{- fail (printf "valkey.resources.limits.memory: %q is not understood; write it as in 1Gi or 512Mi" $text) }}
{{- end }}
{{- mulf (regexFind "^[0-9.]+" $text | float64) (get $units (regexFind "[A-Za-z]*$" $text)) 0.6 | floor | int64 }}
{{- end }}
{{- end }}

{{/* The labels that select the Pods of one part: dict "root" $ "part" NAME ["region" NAME]. */}}
{{- define "sealift.selector" -}}
app.kubernetes.io/name: sealift
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .part }}
{{- with .region }}
sealift/region: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "sealift.labels" -}}
{{ include "sealift.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "sealift.image" -}}
{{- $image := .Values.image }}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}
{{- else }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "sealift.serviceAccount" -}}
{{- $account := .Values.serviceAccount }}
{{- $account.name | default (ternary (include "sealift.fullname" .) "default" $account.create) }}
{{- end }}

{{- define "sealift.fleetConfigMap" -}}
{{- if .Values.existingFleetConfigMap }}{{ .Values.existingFleetConfigMap }}
{{- else if .Values.fleetFile }}{{ include "sealift.fullname" . }}-fleet{{ end }}
{{- end }}

{{/* What a region says, on top of what all workers are told, as YAML: dict "root" $ "name" NAME. */}}
{{- define "sealift.region" -}}
{{- $own := index .root.Values.regions .name | default dict }}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.worker) (deepCopy $own)) }}
{{- end }}

{{/* A Pod's annotations: it is started anew when its configuration changes. */}}
{{- define "sealift.checksum" -}}
checksum/config: {{ printf "%s%s" (toJson .Values.settings) .Values.fleetFile | sha256sum }}
{{- end }}

{{- define "sealift.pod" -}}
serviceAccountName: {{ include "sealift.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "sealift.container" -}}
image: {{ include "sealift.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* The Secret of the trial server: keys address, password, url and auth.conf. */}}
{{- define "sealift.valkeySecret" -}}
{{- .Values.valkey.existingSecret | default (printf "%s-valkey" (include "sealift.fullname" .)) }}
{{- end }}

{{/* dict "root" $ ["key" of the Secret]. */}}
{{- define "sealift.redisUrl" -}}
{{- $redis := .root.Values.redis }}
- name: SEALIFT_REDIS_URL
  valueFrom:
    secretKeyRef:
      {{- if .root.Values.valkey.enabled }}
      name: {{ include "sealift.valkeySecret" .root }}
      key: url
      {{- else }}
      name: {{ $redis.existingSecret }}
      key: {{ .key | default $redis.key }}
      {{- end }}
{{- end }}

{{- define "sealift.heartbeat" -}}
- {name: SEALIFT_HEARTBEAT_FILE, value: /tmp/heartbeat}
{{- end }}

{{/* Of the heartbeat file: an outage of Redis restarts nobody. */}}
{{- define "sealift.probes" -}}
startupProbe:
  exec: {command: [python, -P, -m, workers.probe, started]}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
readinessProbe:
  exec: {command: [python, -P, -m, workers.probe, ready]}
  periodSeconds: 10
  timeoutSeconds: 5
livenessProbe:
  exec: {command: [python, -P, -m, workers.probe, live]}
  periodSeconds: 30
  timeoutSeconds: 10
  failureThreshold: 2
{{- end }}

{{- define "sealift.settings" -}}
- configMapRef:
    name: {{ include "sealift.fullname" . }}-settings
{{- end }}

{{/* What receivers of notifications are reached by, for whoever may tell them. */}}
{{- define "sealift.notify" -}}
{{- with .Values.notify.existingSecret }}
- secretRef:
    name: {{ . }}
{{- end }}
{{- end }}

{{/* An egress rule to .cidrs and .ports; nothing where one of them is empty, which would mean all. */}}
{{- define "sealift.egress" -}}
{{- if and .cidrs .ports }}
- to:
    {{- range .cidrs }}
    - ipBlock:
        cidr: {{ . | quote }}
        {{- if eq . "0.0.0.0/0" }}
        except: [169.254.0.0/16]
        {{- else if eq . "::/0" }}
        except: ["fe80::/10", "fd00:ec2::254/128"]
        {{- end }}
    {{- end }}
  ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- end }}

{{- define "sealift.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if include "sealift.fleetConfigMap" . }}
- {name: fleet, mountPath: /etc/sealift, readOnly: true}
{{- end }}
{{- if .Values.redis.tlsSecret }}
- {name: redis-tls, mountPath: /etc/redis-tls, readOnly: true}
{{- end }}
{{- end }}

{{- define "sealift.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
{{- with include "sealift.fleetConfigMap" . }}
- name: fleet
  configMap: {name: {{ . }}}
{{- end }}
{{- with .Values.redis.tlsSecret }}
- name: redis-tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{- define "sealift.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* Pods of one part on several nodes, where there are several: as "sealift.selector". */}}
{{- define "sealift.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "sealift.selector" . | nindent 8 }}
{{- end }}
