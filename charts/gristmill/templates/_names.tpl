{{/* Names, labels and the image. */}}

{{- define "gristmill.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters: a CronJob's name may have 52, and suffixes of ours and of Kubernetes follow. */}}
{{- define "gristmill.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "gristmill.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "gristmill.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "gristmill.selectorLabels" -}}
app.kubernetes.io/name: {{ include "gristmill.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "gristmill.labels" -}}
{{- $own := include "gristmill.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- $_ := set $own "app.kubernetes.io/version" (.Chart.AppVersion | toString) -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- toYaml (merge $own .Values.commonLabels) -}}
{{- end -}}

{{- define "gristmill.image" -}}
{{- $name := .Values.image.repository -}}
{{- if .Values.image.registry }}{{ $name = printf "%s/%s" .Values.image.registry $name }}{{ end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "gristmill.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "gristmill.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "gristmill.configMapName" -}}
{{- default (include "gristmill.fullname" .) .Values.existingConfigMap -}}
{{- end -}}

{{/* A filter for jq: the Jobs of the runs -> a Job that verifies what they wrote. Probes would ask a port that only a run opens, and
a label of its own keeps its pod out of metrics and alerts. */}}
{{- define "gristmill.verifyFilter" -}}
.items[-1].spec.template | {apiVersion: "batch/v1", kind: "Job", metadata: {name: "{{ include "gristmill.fullname" . }}-verify"}, spec: {backoffLimit: 0, ttlSecondsAfterFinished: 3600, template: {metadata: {labels: (.metadata.labels | with_entries(select(.key | test("controller-uid|job-name|completion-index") | not)) + {"app.kubernetes.io/component": "verify"})}, spec: (.spec | .containers[0] |= (del(.readinessProbe, .livenessProbe, .ports) | .args = ["verify"] + .args[1:3] + ["--against", "recompute"]))}}}
{{- end -}}
