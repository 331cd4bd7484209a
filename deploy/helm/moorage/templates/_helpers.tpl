{{- define "moorage.labels" -}}
{{ include "moorage.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end }}

{{- define "moorage.selector" -}}
app.kubernetes.io/name: moorage
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "moorage.setting" -}}
{{- $values := index . 0 -}}{{- get $values.settings (index . 1) | default (index . 2) -}}
{{- end }}

{{/* Names of what belongs to no namespace: Helm refuses to install over those of another release. */}}
{{- define "moorage.everywhere" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}-everywhere
{{- end }}

{{- define "moorage.users" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}-environments
{{- end }}
