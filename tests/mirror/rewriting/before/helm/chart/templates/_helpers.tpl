{{- define "explorer.image" -}}
{{- $registry := .Values.image.registry | default "docker.io" -}}
{{- printf "%s/%s:%s" $registry .Values.image.repository .Values.image.tag -}}
{{- end -}}
{{- define "explorer.fallback" -}}
{{- .Values.fallback | default "docker.io/kuzudb/explorer:0.7.1" -}}
{{- end -}}
