{{- define "nightshift.airflowValues" -}}
{{- $airflow := .Values.airflow }}
{{- $local := eq $airflow.executor "LocalExecutor" }}
{{- $simple := hasSuffix "SimpleAuthManager" $airflow.authManager }}
{{- $share := include "nightshift.hasShare" . }}
{{- $git := .Values.project.git.repository -}}
airflowVersion: {{ $airflow.version }}
defaultAirflowRepository: {{ include "nightshift.airflowImage" . }}
defaultAirflowTag: {{ .Values.images.tag | quote }}
{{- with .Values.images.pullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}

# Tasks start pods and then wait in the triggerer. The chart's own role for launching pods would be for this namespace, where
# nothing of Nightshift runs.
executor: {{ $airflow.executor }}
# Images are of amd64.
nodeSelector: {kubernetes.io/arch: amd64}
allowPodLaunching: false

# Without these the chart makes new keys at an upgrade: sessions, and the token of housekeeping, would end.
fernetKeySecretName: {{ $airflow.secret }}
apiSecretKeySecretName: {{ $airflow.secret }}
jwtSecretName: {{ $airflow.secret }}

env:
  - name: AIRFLOW_VAR_NIGHTSHIFT_STORAGE
    value: {{ .Values.storage.uri | quote }}
  # Where jobs reach MLflow, and where people see its pages (an ingress, or kubectl port-forward).
  - name: AIRFLOW_CONN_NIGHTSHIFT_MLFLOW
    value: {{ include "nightshift.mlflowConnection" . | quote }}
  # What job pods run where a compute profile names no image.
  - name: NIGHTSHIFT_IMAGE
    value: {{ include "nightshift.jobImage" . }}
{{- if $git }}
  - {name: NIGHTSHIFT_PROJECT, value: /opt/nightshift/project/current}
{{- end }}
{{- with .Values.monitoring.otlp }}
  - {name: AIRFLOW__METRICS__OTEL_ON, value: "True"}
  # Legacy names of metrics hold those of DAGs and tasks.
  - {name: AIRFLOW__METRICS__LEGACY_NAMES_ON, value: "False"}
  - {name: OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, value: {{ . | quote }}}
# The parts send metrics of the same names.
extraEnv: |
  - name: OTEL_SERVICE_NAME
    valueFrom: {fieldRef: {fieldPath: "metadata.labels['component']"}}
{{- end }}
{{- with $airflow.storageSecret }}
extraEnvFrom: |
  - secretRef: {name: {{ . }}}
{{- end }}
{{- if or $share $git }}
volumes:
  {{- if $share }}
  - name: storage
    persistentVolumeClaim: {claimName: {{ .Values.storage.share.claim }}}
  {{- end }}
  {{- if $git }}
  - {name: project, emptyDir: {}}
  {{- end }}
volumeMounts:
  {{- if $share }}
  - {name: storage, mountPath: {{ include "nightshift.mountPath" . }}}
  {{- end }}
  {{- if $git }}
  - {name: project, mountPath: /opt/nightshift/project, readOnly: true}
  {{- end }}
{{- end }}

scheduler:
  {{- include "nightshift.component" (list . "scheduler") | nindent 2 }}
  {{- if $local }}
  {{- include "nightshift.taskSecrets" . | nindent 2 }}
  resources:
    requests: {cpu: "1", memory: 4Gi}
    limits: {memory: 4Gi}
  # A restart ends the tasks that are being submitted or collected; they are tried again.
  terminationGracePeriodSeconds: 60
  {{- end }}
{{- if not $local }}

workers:
  {{- include "nightshift.component" (list . "workers") | nindent 2 }}
  {{- include "nightshift.taskSecrets" . | nindent 2 }}
{{- end }}

triggerer:
  enabled: true
  {{- include "nightshift.component" (list . "triggerer") | nindent 2 }}
  resources:
    requests: {cpu: 500m, memory: 1Gi}
    limits: {memory: 1Gi}

# Calls what tells people that a run failed: it writes alerts.
dagProcessor:
  enabled: true
  {{- include "nightshift.component" (list . "dagProcessor") | nindent 2 }}

# Serves Nightshift's pages: it reads storage, and writes reviews.
apiServer:
  {{- include "nightshift.component" (list . "apiServer") | nindent 2 }}
  # Opens /nightshift/metrics; a Secret from before there was such a key goes on without: docs/metrics.md.
  env:
    - name: NIGHTSHIFT_METRICS_TOKEN
      valueFrom:
        secretKeyRef: {name: {{ $airflow.secret }}, key: metrics-token, optional: true}
  {{- if $simple }}
  extraVolumes:
    - name: users
      secret:
        secretName: {{ $airflow.secret }}
        items: [{key: passwords.json, path: passwords.json}]
    - {name: passwords, emptyDir: {}}
  extraVolumeMounts:
    - {name: passwords, mountPath: /opt/nightshift/passwords}
  {{- end }}

config:
  core:
    auth_manager: {{ $airflow.authManager }}
    {{- if $simple }}
    # Four fixed roles and passwords in a file, for trying things out: docs/roles.md has people's own logins.
    simple_auth_manager_users: viewer:viewer,approver:user,operator:op,admin:admin,housekeeping:viewer
    simple_auth_manager_passwords_file: /opt/nightshift/passwords/passwords.json
    {{- end }}
    dags_are_paused_at_creation: "True"
    dagbag_import_timeout: "180"
  api:
    expose_config: "False"
    expose_stacktrace: "False"
  {{- with $airflow.remoteLogs }}
  logging:
    remote_logging: "True"
    remote_base_log_folder: {{ . }}
    delete_local_logs: "True"
  {{- end }}
createUserJob:
  enabled: false
webserver:
  defaultUser:
    enabled: false

{{- if $airflow.databaseSecret }}
data:
  metadataSecretName: {{ $airflow.databaseSecret }}
{{- end }}
postgresql:
  enabled: {{ not $airflow.databaseSecret }}
redis:
  enabled: {{ eq $airflow.executor "CeleryExecutor" }}
statsd:
  enabled: false
{{- end }}

{{- define "nightshift.mlflowConnection" -}}
{{- if .Values.mlflow.enabled -}}
{{ dict "conn_type" "http" "host" (printf "mlflow.%s.svc.cluster.local" .Values.namespace) "port" 5000 "extra" (dict "public_url" .Values.mlflow.publicUrl) | toJson }}
{{- else -}}
{{ .Values.mlflow.connection }}
{{- end }}
{{- end }}

{{- /* What every part of Airflow has: its identity, and the project before it starts. */ -}}
{{- define "nightshift.component" -}}
{{- $root := index . 0 }}{{ $name := index . 1 -}}
serviceAccount:
  annotations: {{ get $root.Values.identities $name | toJson }}
{{- with $root.Values.identities.podLabels }}
labels: {{ toJson . }}
{{- end }}
{{- $git := $root.Values.project.git }}
{{- $passwords := and (eq $name "apiServer") (hasSuffix "SimpleAuthManager" $root.Values.airflow.authManager) }}
{{- if or $git.repository $passwords }}
extraInitContainers:
  {{- if $git.repository }}
  - name: project-init
    args: [--one-time]
    {{- include "nightshift.gitSync" $root | nindent 4 }}
  {{- end }}
  {{- if $passwords }}
  # Airflow opens the file for writing at each login, and a Secret cannot be written to.
  - name: passwords
    image: {{ include "nightshift.airflowImage" $root }}:{{ $root.Values.images.tag }}
    command: [install, -m, "0600", /users/passwords.json, /passwords/passwords.json]
    volumeMounts:
      - {name: users, mountPath: /users, readOnly: true}
      - {name: passwords, mountPath: /passwords}
    resources:
      requests: {cpu: 20m, memory: 32Mi}
      limits: {memory: 64Mi}
    securityContext: {{- include "nightshift.restricted" $root | nindent 6 }}
      runAsUser: 50000
  {{- end }}
{{- end }}
{{- if $git.repository }}
extraContainers:
  - name: project
    {{- include "nightshift.gitSync" $root | nindent 4 }}
{{- end }}
{{- end }}

{{- define "nightshift.gitSync" -}}
image: {{ .Values.project.git.image }}
env:
  - {name: GITSYNC_REPO, value: {{ .Values.project.git.repository | quote }}}
  - {name: GITSYNC_REF, value: {{ .Values.project.git.ref | quote }}}
  - {name: GITSYNC_ROOT, value: /git}
  - {name: GITSYNC_LINK, value: current}
  - {name: GITSYNC_PERIOD, value: 60s}
  {{- with .Values.project.git.secret }}
  - {name: GITSYNC_USERNAME, valueFrom: {secretKeyRef: {name: {{ . }}, key: username}}}
  - {name: GITSYNC_PASSWORD, valueFrom: {secretKeyRef: {name: {{ . }}, key: password}}}
  {{- end }}
volumeMounts:
  - {name: project, mountPath: /git}
resources:
  requests: {cpu: 20m, memory: 64Mi}
  limits: {memory: 256Mi}
securityContext:
  runAsNonRoot: true
  runAsUser: 65533
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* Where tasks run: the key of the audit log, and the user or token of housekeeping. */ -}}
{{- define "nightshift.taskSecrets" -}}
env:
  - name: NIGHTSHIFT_AUDIT_KEY
    valueFrom:
      secretKeyRef: {name: {{ .Values.airflow.secret }}, key: audit-key}
  # Optional: a token can be made only when Airflow runs.
  - name: AIRFLOW_CONN_NIGHTSHIFT_AIRFLOW
    valueFrom:
      secretKeyRef: {name: {{ .Values.airflow.secret }}, key: rest-connection, optional: true}
{{- end }}
