{{- define "nightshift.labels" -}}
app.kubernetes.io/part-of: nightshift
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "nightshift.airflowImage" -}}
{{ trimSuffix "/" .Values.images.registry }}/nightshift-airflow
{{- end }}

{{- define "nightshift.jobImage" -}}
{{ trimSuffix "/" .Values.images.registry }}/nightshift-trainer:{{ .Values.images.tag }}-{{ .Values.images.variant }}
{{- end }}

{{- define "nightshift.hasShare" -}}
{{- if hasPrefix "file://" .Values.storage.uri }}yes{{ end -}}
{{- end }}

{{- define "nightshift.mountPath" -}}
{{ trimPrefix "file://" .Values.storage.uri }}
{{- end }}

{{- /* The parts of Airflow that start pods: tasks run in the scheduler with the LocalExecutor, in workers otherwise. */ -}}
{{- define "nightshift.starters" -}}
- kind: ServiceAccount
  name: {{ .Values.airflow.release }}-{{ eq .Values.airflow.executor "LocalExecutor" | ternary "scheduler" "worker" }}
  namespace: {{ .Release.Namespace }}
- kind: ServiceAccount
  name: {{ .Values.airflow.release }}-triggerer
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- define "nightshift.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "nightshift.names" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
    # NodeLocal DNSCache, where a cluster has it.
    - ipBlock:
        cidr: 169.254.20.10/32
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{- define "nightshift.objectStorage" -}}
- to:
    {{- range .Values.network.storage.cidrs }}
    - ipBlock:
        cidr: {{ . }}
        {{- if eq . "0.0.0.0/0" }}
        # The node's metadata service gives away the node's identity.
        except: [169.254.0.0/16]
        {{- end }}
    {{- end }}
  ports:
    - {protocol: TCP, port: {{ .Values.network.storage.port }}}
{{- end }}
