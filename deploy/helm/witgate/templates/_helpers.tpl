{{- define "witgate.name" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "witgate.selector" -}}
app.kubernetes.io/name: witgate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "witgate.labels" -}}
{{ include "witgate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "witgate.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "witgate.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "witgate.adminServerName" -}}
{{- default (printf "%s-admin.%s.svc" (include "witgate.name" .) .Release.Namespace) .Values.admin.serverName -}}
{{- end -}}

{{- define "witgate.isMtls" -}}
{{- if eq .Values.admin.mode "mtls" }}yes{{ end -}}
{{- end -}}

{{/* witgate.yaml: the operator's part, and the chart's. */}}
{{- define "witgate.config" -}}
{{- $own := list "listen" "tls" "admin" "drain" -}}
{{- range $own -}}
{{- if hasKey $.Values.config . -}}
{{- fail (printf "`config.%s` is the chart's to set: leave it out (values.yaml says which value it follows)" .) -}}
{{- end -}}
{{- end -}}
{{- $plugins := default dict .Values.config.plugins -}}
{{- range list "directory" "cacheDirectory" -}}
{{- if hasKey $plugins . -}}
{{- fail (printf "`config.plugins.%s` is the chart's to set: leave it out" .) -}}
{{- end -}}
{{- end -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "listen" "0.0.0.0:7007" -}}
{{- if .Values.tls.secretName -}}
{{- $tls := dict "certFile" "tls/tls.crt" "keyFile" "tls/tls.key" -}}
{{- if .Values.tls.clientCaKey -}}
{{- $_ := set $tls "clientCaFile" "tls/client-ca.crt" -}}
{{- end -}}
{{- $_ := set $config "tls" $tls -}}
{{- end -}}
{{- if include "witgate.isMtls" . -}}
{{- $tls := dict "certFile" "admin/tls.crt" "keyFile" "admin/tls.key" "clientCaFile" "admin/ca.crt" -}}
{{- $_ := set $config "admin" (dict "listen" "0.0.0.0:7008" "tls" $tls) -}}
{{- else -}}
{{- $_ := set $config "admin" "127.0.0.1:7008" -}}
{{- end -}}
{{- $_ := set $config "drain" (dict "delayMs" (int .Values.drain.delayMs) "deadlineMs" (int .Values.drain.deadlineMs)) -}}
{{- $_ := set $config "plugins" (merge (dict "directory" "/var/lib/witgate/plugins" "cacheDirectory" "/var/cache/witgate/plugins") (deepCopy $plugins)) -}}
{{- toYaml $config -}}
{{- end -}}
