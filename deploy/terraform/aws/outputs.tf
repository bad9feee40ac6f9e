output "annotations" {
  description = "Annotations of the service accounts by identity, for the module settings."
  value       = { for who, role in aws_iam_role.identity : who => { "eks.amazonaws.com/role-arn" = role.arn } }
}

output "registry" {
  description = "Where the images go: `make images PUSH=…`."
  value       = split("/", aws_ecr_repository.image["nightshift-airflow"].repository_url)[0]
}

output "storage_uri" {
  description = "What Airflow and jobs share."
  value       = "s3://${aws_s3_bucket.data.bucket}/nightshift"
}

output "artifacts_uri" {
  description = "Where MLflow keeps its artifacts."
  value       = "s3://${aws_s3_bucket.data.bucket}/mlflow"
}

output "logs_uri" {
  description = "Where Airflow keeps the logs of tasks."
  value       = "s3://${aws_s3_bucket.data.bucket}/airflow-logs"
}

output "secrets_role_arn" {
  description = "Role of the operator that copies the secrets into the cluster."
  value       = aws_iam_role.secrets.arn
}
