output "helm_values" {
  description = "Values of the chart deploy/helm/nightshift, as YAML."
  value       = yamlencode(local.helm_values)
}

output "compute_profiles" {
  description = "Compute profiles of the project by name, as YAML for compute/<name>.yaml."
  value       = { for name, profile in local.profiles : name => yamlencode(profile) }
}

output "service_accounts" {
  description = "Service accounts, as namespace:name, by the identity that they have."
  value = {
    job = ["${var.namespace}:nightshift-job"]
    airflow = concat(
      [for part in ["scheduler", "triggerer", "dag-processor"] : "${var.airflow_namespace}:${var.airflow_release}-${part}"],
      local.workers
    )
    api_server = ["${var.airflow_namespace}:${var.airflow_release}-api-server"]
    mlflow     = ["${var.namespace}:mlflow"]
  }
}
