# What each identity may do with the bucket, as IAM's JSON; docs/storage-rights.md says why. It has no provider, so that a test
# can evaluate what a plan of it says.
terraform {
  required_version = ">= 1.6"
}

variable "bucket_arn" {
  description = "ARN of the bucket."
  type        = string
}

variable "key_arn" {
  description = "ARN of the KMS key by which the bucket is encrypted."
  type        = string
}

variable "oidc_provider_arn" {
  description = "ARN of the cluster's OIDC provider in IAM."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/.+$", var.oidc_provider_arn))
    error_message = "This is no ARN of an OIDC provider (arn:aws:iam::…:oidc-provider/…)."
  }
}

variable "service_accounts" {
  description = "Service accounts, as namespace:name, by identity (the output of the module settings)."
  type        = map(list(string))
}

locals {
  storage   = "${var.bucket_arn}/nightshift"
  logs      = "${var.bucket_arn}/airflow-logs"
  artifacts = "${var.bucket_arn}/mlflow"
  # What only Airflow writes.
  kept   = [for path in ["*/ledger", "*/reviews", "*/alerts", "*/usage", "audit", "janitor"] : "${local.storage}/${path}/*"]
  read   = ["s3:GetObject"]
  write  = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
  issuer = regex("oidc-provider/(.+)$", var.oidc_provider_arn)[0]

  list    = { Effect = "Allow", Action = "s3:ListBucket", Resource = var.bucket_arn }
  encrypt = { Effect = "Allow", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = var.key_arn }

  statements = {
    job = [
      local.list,
      local.encrypt,
      { Effect = "Allow", Action = local.write, Resource = "${local.storage}/*" },
      { Effect = "Deny", Action = ["s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"], Resource = local.kept },
    ]
    airflow = [
      local.list,
      local.encrypt,
      { Effect = "Allow", Action = local.write, Resource = ["${local.storage}/*", "${local.logs}/*"] },
    ]
    api_server = [
      local.list,
      local.encrypt,
      { Effect = "Allow", Action = local.read, Resource = ["${local.storage}/*", "${local.logs}/*"] },
      # What people say on the review page, and that it was said.
      { Effect = "Allow", Action = "s3:PutObject", Resource = ["${local.storage}/*/reviews/*", "${local.storage}/*/arrivals/*"] },
    ]
    mlflow = [
      local.list,
      local.encrypt,
      { Effect = "Allow", Action = local.write, Resource = "${local.artifacts}/*" },
    ]
  }
}

output "policies" {
  description = "IAM policies by identity, as JSON."
  value       = { for who, statements in local.statements : who => jsonencode({ Version = "2012-10-17", Statement = statements }) }
}

output "trusts" {
  description = "Trust policies by identity, as JSON: only its service accounts of this cluster take the role."
  value = {
    for who, accounts in var.service_accounts : who => jsonencode({
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Action    = "sts:AssumeRoleWithWebIdentity"
        Principal = { Federated = var.oidc_provider_arn }
        Condition = {
          StringEquals = {
            "${local.issuer}:aud" = "sts.amazonaws.com"
            "${local.issuer}:sub" = [for account in accounts : "system:serviceaccount:${account}"]
          }
        }
      }]
    })
  }
}
