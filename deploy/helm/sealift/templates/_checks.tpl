{{/* What cannot work is refused here, in one line: what is wrong, where, what to do. */}}
{{- define "sealift.check" -}}
{{- $v := .Values }}
{{- if not $v.image.repository }}
{{- fail "image.repository is not set: build deploy/Dockerfile, push it, and name the repository" }}
{{- end }}
{{- include "sealift.checkRedis" . }}
{{- include "sealift.checkFleet" . }}
{{- include "sealift.checkReceivers" . }}
{{- include "sealift.checkSettings" (dict "where" "settings" "settings" $v.settings) }}
{{- include "sealift.checkRegions" . }}
{{- if and $v.flower.ingress.enabled (not $v.flower.enabled) }}
{{- fail "flower.ingress is enabled and flower is not: set flower.enabled=true" }}
{{- end }}
{{- if and $v.flower.ingress.enabled (not $v.flower.auth.existingSecret) }}
{{- fail "flower.ingress without authentication: Flower can stop workers; name a Secret with USER:PASSWORD in flower.auth.existingSecret" }}
{{- end }}
{{- if and $v.flower.ingress.enabled (not $v.flower.ingress.host) }}
{{- fail "flower.ingress.host is not set: give the name under which Flower is to be found" }}
{{- end }}
{{- include "sealift.checkServe" . }}
{{- range $v.flower.env }}
{{- if eq .name "FLOWER_URL_PREFIX" }}
{{- fail "flower.env: FLOWER_URL_PREFIX would leave probe and Ingress behind: use flower.urlPrefix" }}
{{- end }}
{{- if or (eq .name "FLOWER_BASIC_AUTH" "FLOWER_AUTH" "FLOWER_AUTH_PROVIDER") (hasPrefix "FLOWER_OAUTH2_" .name) }}
{{- fail (printf "flower.env: %s: the chart's Flower knows only logins by USER:PASSWORD; name their Secret in flower.auth.existingSecret, or put a proxy that logs in before it" .name) }}
{{- end }}
{{- end }}
{{- range $what := list "serviceMonitor" "prometheusRule" }}
{{- if and (get $v.monitoring $what).enabled (not $v.exporter.enabled) }}
{{- fail (printf "monitoring.%s is enabled and exporter is not: set exporter.enabled=true, or monitor the release that has it" $what) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sealift.checkServe" -}}
{{- $ingress := .Values.serve.ingress }}
{{- if and $ingress.enabled (not .Values.serve.enabled) }}
{{- fail "serve.ingress is enabled and serve is not: set serve.enabled=true" }}
{{- end }}
{{- if and $ingress.enabled (not $ingress.host) }}
{{- fail "serve.ingress.host is not set: give the name that senders are told" }}
{{- end }}
{{- if and $ingress.enabled (not $ingress.tlsSecret) }}
{{- fail "serve.ingress without TLS: senders' secrets travel in addresses and headers; name a Secret of type kubernetes.io/tls in serve.ingress.tlsSecret" }}
{{- end }}
{{- end }}

{{- define "sealift.checkRedis" -}}
{{- $v := .Values }}
{{- if and $v.valkey.enabled $v.redis.existingSecret }}
{{- fail "redis.existingSecret and valkey.enabled exclude each other: a fleet has one server" }}
{{- end }}
{{- if and $v.valkey.enabled $v.redis.keda.sentinelMaster }}
{{- fail "redis.keda.sentinelMaster: the server of valkey.enabled has no Sentinels; leave it out" }}
{{- end }}
{{- if and $v.valkey.enabled $v.exporter.redisKey }}
{{- fail "exporter.redisKey: the server of valkey.enabled has one account; leave it out" }}
{{- end }}
{{- if not (or $v.valkey.enabled $v.redis.existingSecret) }}
{{- fail "no Redis: name the Secret that holds its URL in redis.existingSecret, or set valkey.enabled=true for a trial" }}
{{- end }}
{{- end }}

{{- define "sealift.checkSettings" -}}
{{- $elsewhere := dict "redis_url" "redis.existingSecret" "fleet_file" "fleetFile" "soft_shutdown_s" "worker.softShutdownSeconds" "worker_processes" "worker.processes" }}
{{- range $name, $value := .settings }}
{{- if hasKey $elsewhere $name }}
{{- fail (printf "%s.%s is not set here: use %s" $.where $name (get $elsewhere $name)) }}
{{- end }}
{{- if has $name (list "heartbeat_file" "state_dir") }}
{{- fail (printf "%s.%s is the chart's own: leave it out" $.where $name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Nothing in the fleet file may be a secret: it stands in a ConfigMap. */}}
{{- define "sealift.checkFleet" -}}
{{- if and .Values.fleetFile .Values.existingFleetConfigMap }}
{{- fail "fleetFile and existingFleetConfigMap exclude each other: leave one of them out" }}
{{- end }}
{{- $fleet := .Values.fleetFile | fromYaml }}
{{- with $fleet.Error }}
{{- fail (printf "fleetFile is not YAML: %s" .) }}
{{- end }}
{{- if $fleet.redis_url }}
{{- fail "fleetFile: redis_url: leave it out, a URL may hold a password; the chart takes it from redis.existingSecret" }}
{{- end }}
{{- include "sealift.checkWebhooks" ($fleet.webhooks | default list) }}
{{- $registries := $fleet.registries | default dict }}
{{- if not (kindIs "map" $registries) }}
{{- fail "fleetFile: registries is no mapping: write each as HOST: {username: …, password: env:NAME}" }}
{{- end }}
{{- range $host, $registry := $registries }}
{{- if not (kindIs "map" ($registry | default dict)) }}
{{- fail (printf "fleetFile: registries.%s is no mapping: write {username: …, password: env:NAME}, or {} for nothing" $host) }}
{{- end }}
{{- $accounts := get ($registry | default dict) "accounts" | default list }}
{{- if not (kindIs "slice" $accounts) }}
{{- fail (printf "fleetFile: registries.%s.accounts is no list: write [{username: …, password: env:NAME}, …]" $host) }}
{{- end }}
{{- range $account := concat (list $registry) $accounts }}
{{- if not (kindIs "map" ($account | default dict)) }}
{{- fail (printf "fleetFile: registries.%s.accounts holds what is no mapping: write [{username: …, password: env:NAME}, …]" $host) }}
{{- end }}
{{- range $key := list "password" "listing_token" }}
{{- $value := toString (get ($account | default dict) $key | default "env:") }}
{{- if not (regexMatch "^(env|file):" $value) }}
{{- fail (printf "fleetFile: registries.%s.%s holds a secret: write env:NAME or file:PATH" $host $key) }}
{{- end }}
{{- end }}
{{- if contains "@" (toString (get ($account | default dict) "proxy" | default "")) }}
{{- fail (printf "fleetFile: registries.%s.proxy holds an account: write env:NAME" $host) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sealift.checkReceivers" -}}
{{- $receivers := (.Values.fleetFile | fromYaml).notify | default list }}
{{- if not (kindIs "slice" $receivers) }}
{{- fail "fleetFile: notify is no list: write [{name: team, to: env:NAME}]" }}
{{- end }}
{{- range $receiver := $receivers }}
{{- if not (kindIs "map" ($receiver | default dict)) }}
{{- fail "fleetFile: notify holds what is no mapping: write [{name: team, to: env:NAME}]" }}
{{- end }}
{{- $to := toString (get ($receiver | default dict) "to" | default "env:") }}
{{- if not (or (regexMatch "^(env|file):" $to) (regexMatch "^(json|form|xml)s?://[^@?]+$" $to)) }}
{{- fail (printf "fleetFile: notify: the address of %q may hold a secret: write env:NAME or file:PATH" (toString (get $receiver "name"))) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sealift.checkWebhooks" -}}
{{- if not (kindIs "slice" .) }}
{{- fail "fleetFile: webhooks is no list: write [{name: …, kind: …, secret: env:NAME}, …]" }}
{{- end }}
{{- range $place, $webhook := . }}
{{- if not (regexMatch "^(env|file):" (toString (get ($webhook | default dict) "secret" | default "env:"))) }}
{{- fail (printf "fleetFile: webhooks[%d].secret holds a secret: write env:NAME or file:PATH" $place) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sealift.checkRegions" -}}
{{- if not .Values.regions }}
{{- fail "regions is empty: name at least one, as in regions: {eu: {}}" }}
{{- end }}
{{- $served := false }}
{{- range $name, $_ := .Values.regions }}
{{- include "sealift.checkRegionName" (dict "root" $ "name" $name) }}
{{- $region := include "sealift.region" (dict "root" $ "name" $name) | fromYaml }}
{{- include "sealift.checkSettings" (dict "where" (printf "regions.%s.settings" $name) "settings" $region.settings) }}
{{- if hasKey $region.settings "redis_prefix" }}
{{- fail (printf "regions.%s.settings.redis_prefix: a fleet has one; use settings.redis_prefix" $name) }}
{{- end }}
{{- $scale := $region.autoscaling }}
{{- if not (has $scale.mode (list "fixed" "keda" "hpa")) }}
{{- fail (printf "regions.%s.autoscaling.mode: %q is not known; use fixed, keda or hpa" $name $scale.mode) }}
{{- end }}
{{- if and (ne $scale.mode "fixed") (lt (int $scale.maxReplicas) (max 1 (int $scale.minReplicas))) }}
{{- fail (printf "regions.%s.autoscaling: maxReplicas %d is below minReplicas %d" $name (int $scale.maxReplicas) (int $scale.minReplicas)) }}
{{- end }}
{{- if and (eq $scale.mode "hpa") (lt (int $scale.minReplicas) 1) }}
{{- fail (printf "regions.%s.autoscaling.minReplicas: 0 needs mode keda" $name) }}
{{- end }}
{{- if and (eq $scale.mode "keda") (not $.Values.valkey.enabled) (not $.Values.redis.keda.existingSecret) }}
{{- fail (printf "regions.%s.autoscaling.mode is keda, which reads no URL: name a Secret with %s in redis.keda.existingSecret" $name (join ", " $.Values.redis.keda.keys)) }}
{{- end }}
{{- if ge (int (ternary $scale.replicas $scale.minReplicas (eq $scale.mode "fixed"))) 1 }}
{{- $served = true }}
{{- end }}
{{- end }}
{{- if and (not $served) .Values.beat.enabled }}
{{- fail "every region may have 0 workers: nobody would take what belongs to no region (the control queue); give one of them a minReplicas of 1" }}
{{- end }}
{{- end }}

{{- define "sealift.checkRegionName" -}}
{{- if not (regexMatch "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$" .name) }}
{{- fail (printf "regions: %q cannot name a Deployment; use small letters, digits and '-', a letter or digit at both ends" .name) }}
{{- end }}
{{- if has .name (list "control" "unacked") }}
{{- fail (printf "regions: %q is a name of Sealift's own queues; choose another" .name) }}
{{- end }}
{{- $object := printf "%s-worker-%s" (include "sealift.fullname" .root) .name }}
{{- if gt (len $object) 54 }}
{{- fail (printf "regions: %s has %d characters, 54 are allowed (KEDA puts keda-hpa- in front); shorten the release's or the region's name" $object (len $object)) }}
{{- end }}
{{- end }}
