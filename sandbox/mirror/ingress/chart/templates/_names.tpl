{{/* Names as the real chart makes them, so that whoever refers to one finds it here too. */}}

{{- define "stand-in.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "stand-in.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $made := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $made .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "stand-in.controller" -}}
{{- printf "%s-%s" (include "stand-in.fullname" .) .Values.controller.name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "stand-in.service" -}}
{{- default (include "stand-in.controller" .) .Values.serviceNameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "stand-in.config" -}}
{{- default (default (include "stand-in.fullname" .) .Values.controller.config.name) .Values.controller.customConfigMap -}}
{{- end -}}

{{- define "stand-in.account" -}}
{{- default (include "stand-in.fullname" .) .Values.controller.serviceAccount.name -}}
{{- end -}}

{{- define "stand-in.selector" -}}
{{- with .Values.controller.selectorLabels -}}
{{ toYaml . }}
{{- else -}}
app.kubernetes.io/name: {{ include "stand-in.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- end -}}

{{- define "stand-in.labels" -}}
{{ include "stand-in.selector" . }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "stand-in.image" -}}
{{- with .Values.controller.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "stand-in.arguments" -}}
{{- $c := .Values.controller -}}
- -nginx-configmaps=$(POD_NAMESPACE)/{{ include "stand-in.config" . }}
- -ingress-class={{ $c.ingressClass.name }}
- -default-http-listener-port={{ $c.defaultHTTPListenerPort }}
- -default-https-listener-port={{ $c.defaultHTTPSListenerPort }}
- -disable-ipv6={{ $c.disableIPV6 }}
- -nginx-reload-timeout={{ $c.nginxReloadTimeout | int }}
- -ready-status={{ $c.readyStatus.enable }}
- -ready-status-port={{ $c.readyStatus.port }}
- -health-status={{ $c.healthStatus }}
- -health-status-uri={{ $c.healthStatusURI }}
- -enable-prometheus-metrics={{ .Values.prometheus.create }}
- -prometheus-metrics-listen-port={{ .Values.prometheus.port }}
- -enable-telemetry-reporting={{ $c.telemetryReporting.enable }}
- -enable-custom-resources={{ $c.enableCustomResources }}
- -enable-snippets={{ $c.enableSnippets }}
- -nginx-plus={{ $c.nginxplus }}
- -enable-app-protect={{ $c.appprotect.enable }}
- -enable-oidc={{ $c.enableOIDC }}
- -enable-cert-manager={{ $c.enableCertManager }}
{{- with $c.watchNamespace }}
- -watch-namespace={{ . }}
{{- end }}
{{- with $c.defaultTLS.secret }}
- -default-server-tls-secret={{ . }}
{{- end }}
{{- if $c.reportIngressStatus.enable }}
- -report-ingress-status
{{- if $c.reportIngressStatus.externalService }}
- -external-service={{ $c.reportIngressStatus.externalService }}
{{- else if and $c.service.create (eq $c.service.type "LoadBalancer") }}
- -external-service={{ include "stand-in.service" . }}
{{- end }}
{{- end }}
{{- end -}}
