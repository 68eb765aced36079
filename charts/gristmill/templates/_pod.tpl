{{/* The pod that runs, prepares the database or checks: one image, one place for its security. */}}

{{/* Labels and annotations of a pod. Takes root, component, configText. */}}
{{- define "gristmill.podMeta" -}}
labels:
  {{- include "gristmill.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or .configText .root.Values.podAnnotations }}
annotations:
  {{- if .configText }}
  checksum/config: {{ sha256sum .configText }}
  {{- end }}
  {{- with .root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Takes root, component (run, init-db, check), arguments, configMap, serviceAccount, databaseSecret. */}}
{{- define "gristmill.podSpec" -}}
{{- $values := .root.Values -}}
restartPolicy: Never
serviceAccountName: {{ .serviceAccount | quote }}
automountServiceAccountToken: {{ $values.serviceAccount.automountToken }}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ int $values.terminationGracePeriodSeconds }}
{{- with $values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . | quote }}
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
{{- with $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- /* What is always on comes last, so that no value switches it off. No uid, gid or fsGroup: OpenShift assigns its own. */}}
securityContext:
  {{- toYaml (mergeOverwrite (deepCopy $values.podSecurityContext) (dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault"))) | nindent 2 }}
containers:
  - name: gristmill
    image: {{ include "gristmill.image" .root | quote }}
    imagePullPolicy: {{ $values.image.pullPolicy }}
    args:
      {{- toYaml .arguments | nindent 6 }}
    terminationMessagePolicy: File
    securityContext:
      runAsNonRoot: true
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
    {{- with include "gristmill.env" . }}
    env:
      {{- . | nindent 6 }}
    {{- end }}
    {{- with $values.extraEnvFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- if and $values.metrics.enabled (eq .component "run") }}
    ports:
      - name: metrics
        containerPort: {{ int $values.metrics.port }}
        protocol: TCP
    {{- if $values.metrics.probes }}
    # The port opens a moment after the start; who asks before that only leaves a warning behind.
    readinessProbe:
      httpGet: {path: /readyz, port: metrics}
      initialDelaySeconds: 5
      periodSeconds: 10
      timeoutSeconds: 5
    # Five minutes without an answer is a process that hangs: it never computes where it answers.
    livenessProbe:
      httpGet: {path: /livez, port: metrics}
      initialDelaySeconds: 30
      periodSeconds: 30
      timeoutSeconds: 10
      failureThreshold: 10
    {{- end }}
    {{- end }}
    volumeMounts:
      - name: config
        mountPath: /etc/gristmill/config
        readOnly: true
      {{- range $of := list "s3" "postgres" }}
      {{- $section := get $values $of }}
      {{- if or $section.ca.existingConfigMap $section.ca.existingSecret }}
      - name: {{ $of }}-ca
        mountPath: /etc/gristmill/ca/{{ $of }}
        readOnly: true
      {{- end }}
      {{- if and $section.existingSecret (eq $values.secretsAs "files") }}
      - name: {{ $of }}-secret
        mountPath: /etc/gristmill/secrets/{{ $of }}
        readOnly: true
      {{- end }}
      {{- end }}
      {{- with $values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: config
    configMap:
      name: {{ .configMap | quote }}
      items:
        - key: {{ ternary $values.existingConfigMapKey "config.yaml" (ne $values.existingConfigMap "") | quote }}
          path: config.yaml
  {{- range $of := list "s3" "postgres" }}
  {{- with get $values $of }}
  {{- if .ca.existingConfigMap }}
  - name: {{ $of }}-ca
    configMap:
      name: {{ .ca.existingConfigMap | quote }}
      items: [{key: {{ .ca.key | quote }}, path: ca.crt}]
  {{- else if .ca.existingSecret }}
  - name: {{ $of }}-ca
    secret:
      secretName: {{ .ca.existingSecret | quote }}
      items: [{key: {{ .ca.key | quote }}, path: ca.crt}]
  {{- end }}
  {{- end }}
  {{- end }}
  {{- if eq $values.secretsAs "files" }}
  {{- /* 0440: the program runs with group 0, or with the group that OpenShift gives to volumes. */}}
  {{- with $values.s3 }}
  {{- if .existingSecret }}
  - name: s3-secret
    secret:
      secretName: {{ .existingSecret | quote }}
      defaultMode: 0440
      items: [{key: {{ .accessKeyKey | quote }}, path: access_key}, {key: {{ .secretKeyKey | quote }}, path: secret_key}]
  {{- end }}
  {{- end }}
  {{- with .databaseSecret }}
  {{- if .existingSecret }}
  - name: postgres-secret
    secret:
      secretName: {{ .existingSecret | quote }}
      defaultMode: 0440
      items: [{key: {{ .passwordKey | quote }}, path: password}]
  {{- end }}
  {{- end }}
  {{- end }}
  {{- with $values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The container's environment. */}}
{{- define "gristmill.env" -}}
{{- $values := .root.Values -}}
{{- $env := list -}}
{{- /* The program's limits where no cgroup tells them. */ -}}
{{- if or (dig "requests" "cpu" "" $values.resources) (dig "limits" "cpu" "" $values.resources) -}}
{{- $env = append $env (dict "name" "GRISTMILL_CPU_REQUEST" "valueFrom" (dict "resourceFieldRef" (dict "containerName" "gristmill" "resource" "requests.cpu" "divisor" "1m"))) -}}
{{- end -}}
{{- if dig "limits" "memory" "" $values.resources -}}
{{- $env = append $env (dict "name" "GRISTMILL_MEMORY_LIMIT" "valueFrom" (dict "resourceFieldRef" (dict "containerName" "gristmill" "resource" "limits.memory" "divisor" "1"))) -}}
{{- end -}}
{{- if and (eq $values.mode "indexedJob") (eq .component "run") -}}
{{- $env = append $env (dict "name" "JOB_COMPLETION_COUNT" "value" (toString (int $values.completions))) -}}
{{- end -}}
{{- if and $values.s3.existingSecret (eq $values.secretsAs "env") -}}
{{- $env = append $env (include "gristmill.fromSecret" (list "S3_ACCESS_KEY" $values.s3.existingSecret $values.s3.accessKeyKey) | fromYaml) -}}
{{- $env = append $env (include "gristmill.fromSecret" (list "S3_SECRET_KEY" $values.s3.existingSecret $values.s3.secretKeyKey) | fromYaml) -}}
{{- end -}}
{{- with .databaseSecret -}}
{{- if .existingSecret -}}
{{- $env = append $env (include "gristmill.fromSecret" (list "POSTGRES_USER" .existingSecret .userKey) | fromYaml) -}}
{{- if eq $values.secretsAs "env" -}}
{{- $env = append $env (include "gristmill.fromSecret" (list "POSTGRES_PASSWORD" .existingSecret .passwordKey) | fromYaml) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with concat $env $values.extraEnv }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{- define "gristmill.fromSecret" -}}
{{- toYaml (dict "name" (index . 0) "valueFrom" (dict "secretKeyRef" (dict "name" (index . 1) "key" (index . 2)))) -}}
{{- end -}}

{{/* What Kubernetes does with each exit code (docs/operations.md); nothing on clusters that cannot. Takes root, indexed. */}}
{{- define "gristmill.podFailurePolicy" -}}
{{- if include "gristmill.has" (list .root "1.29.0-0" "1.31.0-0") }}
podFailurePolicy:
  rules:
    # The node was drained or the pod preempted: not the pod's fault.
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
    # 64 command line, 70 defect, 78 configuration or rights: the same again changes nothing.
    - action: FailJob
      onExitCodes:
        containerName: gristmill
        operator: In
        values: [64, 70, 78]
    # 65: the data is bad, or some days are; only mending them helps.
    - action: {{ ternary "FailIndex" "FailJob" .indexed }}
      onExitCodes:
        containerName: gristmill
        operator: In
        values: [65]
    # 75: storage or database out of reach: try again, with back-off.
    - action: Count
      onExitCodes:
        containerName: gristmill
        operator: In
        values: [75]
{{- end }}
{{- end -}}

{{/* Whether a field may be used. Takes root, the version where it is switched on, the version where it is stable. */}}
{{- define "gristmill.has" -}}
{{- $root := index . 0 -}}
{{- $since := get (dict "always" (index . 1) "auto" (index . 2)) $root.Values.podFailurePolicy -}}
{{- if $since }}{{ if semverCompare (printf ">=%s" $since) $root.Capabilities.KubeVersion.Version }}yes{{ end }}{{ end -}}
{{- end -}}

{{/* The specification of the Job, whoever makes it. */}}
{{- define "gristmill.jobSpec" -}}
{{- $values := .Values -}}
{{- $indexed := eq $values.mode "indexedJob" -}}
{{- $perIndex := and $indexed (eq (include "gristmill.has" (list . "1.29.0-0" "1.33.0-0")) "yes") -}}
{{- $configText := "" -}}
{{- $arguments := list "run" "--config" "/etc/gristmill/config/config.yaml" -}}
{{- if $values.existingConfigMap -}}
{{- if $values.metrics.enabled }}{{ $arguments = concat $arguments (list "--set" (printf "metrics.listen=0.0.0.0:%d" (int $values.metrics.port))) }}{{ end -}}
{{- else -}}
{{- $configText = include "gristmill.config" . -}}
{{- end -}}
{{- $arguments = concat $arguments $values.extraArgs -}}
activeDeadlineSeconds: {{ int $values.activeDeadlineSeconds }}
ttlSecondsAfterFinished: {{ int $values.ttlSecondsAfterFinished }}
{{- if $perIndex }}
backoffLimitPerIndex: {{ int $values.backoffLimitPerIndex }}
{{- if not (kindIs "invalid" $values.maxFailedIndexes) }}
maxFailedIndexes: {{ int $values.maxFailedIndexes }}
{{- end }}
{{- else }}
backoffLimit: {{ int $values.backoffLimit }}
{{- end }}
{{- if $indexed }}
completionMode: Indexed
completions: {{ int $values.completions }}
parallelism: {{ int $values.parallelism }}
{{- end }}
{{- include "gristmill.podFailurePolicy" (dict "root" . "indexed" $perIndex) }}
template:
  metadata:
    {{- include "gristmill.podMeta" (dict "root" . "component" "run" "configText" $configText) | nindent 4 }}
  spec:
    {{- include "gristmill.podSpec" (dict "root" . "component" "run" "arguments" $arguments "configMap" (include "gristmill.configMapName" .) "serviceAccount" (include "gristmill.serviceAccountName" .) "databaseSecret" $values.postgres) | nindent 4 }}
{{- end -}}
