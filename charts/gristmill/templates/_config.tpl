{{/* The values -> the configuration file. Nothing here ever holds a secret: keys are references or paths. */}}

{{/* Sets one key of the configuration; refuses to overwrite another value. Takes config, path, value, from. */}}
{{- define "gristmill.fill" -}}
{{- $node := .config -}}
{{- range initial .path -}}
{{- if not (kindIs "map" (get $node .)) }}{{ $_ := set $node . dict }}{{ end -}}
{{- $node = get $node . -}}
{{- end -}}
{{- $key := last .path -}}
{{- $old := get $node $key -}}
{{- if and (hasKey $node $key) (not (kindIs "invalid" $old)) (ne (toString $old) "") (ne (toString $old) (toString .value)) -}}
{{- fail (printf "config.%s and %s both say it: keep %s" (join "." .path) .from .from) -}}
{{- end -}}
{{- $_ := set $node $key .value -}}
{{- end -}}

{{/* The configuration file. */}}
{{- define "gristmill.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if not (hasKey $config "version") }}{{ $_ := set $config "version" 1 }}{{ end -}}
{{- include "gristmill.config.storage" (dict "root" . "config" $config) -}}
{{- include "gristmill.config.postgres" (dict "root" . "config" $config) -}}
{{- if and .Values.metrics.enabled (not (dig "metrics" "listen" "" $config)) -}}
{{- include "gristmill.fill" (dict "config" $config "path" (list "metrics" "listen") "value" (printf "0.0.0.0:%d" (int .Values.metrics.port)) "from" "metrics.port") -}}
{{- end -}}
{{- if not (dig "stopping" "grace_seconds" "" $config) -}}
{{- $grace := div (mul 3 (int .Values.terminationGracePeriodSeconds)) 4 -}}
{{- include "gristmill.fill" (dict "config" $config "path" (list "stopping" "grace_seconds") "value" $grace "from" "terminationGracePeriodSeconds") -}}
{{- end -}}
{{- include "gristmill.config.complete" (dict "root" . "config" $config) -}}
{{- toYaml $config -}}
{{- end -}}

{{- define "gristmill.config.storage" -}}
{{- $config := .config -}}
{{- with .root.Values.s3 -}}
{{- $prefix := trimAll "/" .prefix -}}
{{- $style := get (dict "path" true "virtual" false) .addressingStyle -}}
{{- $facts := list
  (dict "path" (list "storage" "url") "value" (ternary (printf "s3://%s%s" .bucket (ternary (printf "/%s" $prefix) "" (ne $prefix ""))) "" (ne .bucket "")) "from" "s3.bucket")
  (dict "path" (list "storage" "endpoint") "value" .endpoint "from" "s3.endpoint")
  (dict "path" (list "storage" "region") "value" .region "from" "s3.region")
  (dict "path" (list "storage" "path_style") "value" (ternary $style "" (ne .addressingStyle "auto")) "from" "s3.addressingStyle")
  (dict "path" (list "storage" "allow_http") "value" (ternary true "" .allowHttp) "from" "s3.allowHttp")
  (dict "path" (list "storage" "ca_file") "value" (include "gristmill.caFile" (dict "of" "s3" "ca" .ca)) "from" "s3.ca")
-}}
{{- if .existingSecret -}}
{{- if eq $.root.Values.secretsAs "files" -}}
{{- $facts = concat $facts (list
  (dict "path" (list "storage" "access_key_file") "value" "/etc/gristmill/secrets/s3/access_key" "from" "s3.existingSecret")
  (dict "path" (list "storage" "secret_key_file") "value" "/etc/gristmill/secrets/s3/secret_key" "from" "s3.existingSecret")) -}}
{{- else -}}
{{- $facts = concat $facts (list
  (dict "path" (list "storage" "access_key") "value" "${S3_ACCESS_KEY}" "from" "s3.existingSecret")
  (dict "path" (list "storage" "secret_key") "value" "${S3_SECRET_KEY}" "from" "s3.existingSecret")) -}}
{{- end -}}
{{- end -}}
{{- range $facts -}}
{{- if ne (toString .value) "" }}{{ include "gristmill.fill" (merge (dict "config" $config) .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "gristmill.config.postgres" -}}
{{- $config := .config -}}
{{- with .root.Values.postgres -}}
{{- if or .host (dig "target" "postgres" "host" "" $config) -}}
{{- $facts := list
  (dict "path" (list "target" "postgres" "host") "value" .host "from" "postgres.host")
  (dict "path" (list "target" "postgres" "port") "value" (int .port) "from" "postgres.port")
  (dict "path" (list "target" "postgres" "database") "value" .database "from" "postgres.database")
  (dict "path" (list "target" "postgres" "schema") "value" .schema "from" "postgres.schema")
  (dict "path" (list "target" "postgres" "ssl_mode") "value" .sslMode "from" "postgres.sslMode")
  (dict "path" (list "target" "postgres" "ca_file") "value" (include "gristmill.caFile" (dict "of" "postgres" "ca" .ca)) "from" "postgres.ca")
-}}
{{- if .existingSecret -}}
{{- $facts = append $facts (dict "path" (list "target" "postgres" "user") "value" "${POSTGRES_USER}" "from" "postgres.existingSecret") -}}
{{- if eq $.root.Values.secretsAs "files" -}}
{{- $facts = append $facts (dict "path" (list "target" "postgres" "password_file") "value" "/etc/gristmill/secrets/postgres/password" "from" "postgres.existingSecret") -}}
{{- else -}}
{{- $facts = append $facts (dict "path" (list "target" "postgres" "password") "value" "${POSTGRES_PASSWORD}" "from" "postgres.existingSecret") -}}
{{- end -}}
{{- end -}}
{{- range $facts -}}
{{- if ne (toString .value) "" }}{{ include "gristmill.fill" (merge (dict "config" $config) .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Path of the mounted authorities, or nothing. Takes of, ca. */}}
{{- define "gristmill.caFile" -}}
{{- if or .ca.existingConfigMap .ca.existingSecret }}{{ printf "/etc/gristmill/ca/%s/ca.crt" .of }}{{ end -}}
{{- end -}}

{{/* What the program would refuse at its start is refused here already, in the words of the values. */}}
{{- define "gristmill.config.complete" -}}
{{- $config := .config -}}
{{- $missing := list -}}
{{- if not (dig "organization" "org_id" "" $config) }}{{ $missing = append $missing "config.organization.org_id" }}{{ end -}}
{{- if get $config "sources" -}}
{{- if get $config "source" }}{{ fail "config.source and config.sources: keep one of the two" }}{{ end -}}
{{- else -}}
{{- if not (dig "source" "uuid" "" $config) }}{{ $missing = append $missing "config.source.uuid" }}{{ end -}}
{{- if not (dig "source" "cluster_id" "" $config) }}{{ $missing = append $missing "config.source.cluster_id" }}{{ end -}}
{{- end -}}
{{- if not (get $config "period") }}{{ $missing = append $missing "config.period, such as {last_days: 3}" }}{{ end -}}
{{- if not (dig "storage" "url" "" $config) }}{{ $missing = append $missing "s3.bucket" }}{{ end -}}
{{- if eq (dig "target" "kind" "postgres" $config) "postgres" -}}
{{- if not (dig "target" "postgres" "host" "" $config) }}{{ $missing = append $missing "postgres.host" }}{{ end -}}
{{- if not (dig "target" "postgres" "database" "" $config) }}{{ $missing = append $missing "postgres.database" }}{{ end -}}
{{- if not (dig "target" "postgres" "user" "" $config) }}{{ $missing = append $missing "postgres.existingSecret" }}{{ end -}}
{{- end -}}
{{- if $missing }}{{ fail (printf "missing: %s" (join "; " $missing)) }}{{ end -}}
{{- if ge (int (dig "stopping" "grace_seconds" 0 $config)) (int .root.Values.terminationGracePeriodSeconds) -}}
{{- fail "config.stopping.grace_seconds must be less than terminationGracePeriodSeconds: the pod is killed before it has stopped" -}}
{{- end -}}
{{- end -}}

{{/* Values that contradict each other, whatever the configuration is. */}}
{{- define "gristmill.refuse" -}}
{{- with .Values -}}
{{- if .existingConfigMap -}}
{{- range list "organization" "source" "sources" "period" "storage" "target" "reference" -}}
{{- if get $.Values.config . }}{{ fail (printf "existingConfigMap and config.%s: the configuration comes from one place" .) }}{{ end -}}
{{- end -}}
{{- range $key, $value := dict "s3.bucket" .s3.bucket "s3.prefix" .s3.prefix "s3.endpoint" .s3.endpoint "s3.region" .s3.region "postgres.host" .postgres.host "postgres.database" .postgres.database "postgres.schema" .postgres.schema -}}
{{- if $value }}{{ fail (printf "existingConfigMap and %s: write it into the ConfigMap" $key) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- range $of, $ca := dict "s3" .s3.ca "postgres" .postgres.ca -}}
{{- if and $ca.existingConfigMap $ca.existingSecret }}{{ fail (printf "%s.ca: either existingConfigMap or existingSecret" $of) }}{{ end -}}
{{- end -}}
{{- if and (eq .mode "indexedJob") (gt (int .parallelism) (int .completions)) -}}
{{- fail "parallelism must not exceed completions: the pods beyond would have no index" -}}
{{- end -}}
{{- if and .metrics.podMonitor.enabled (not .metrics.enabled) -}}
{{- fail "metrics.podMonitor.enabled needs metrics.enabled" -}}
{{- end -}}
{{- end -}}
{{- end -}}
