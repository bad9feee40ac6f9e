# Nightshift's parts in AWS, for an EKS cluster that is there already.
terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0, < 7.0"
    }
  }
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  bucket_arn = "arn:${data.aws_partition.current.partition}:s3:::${var.name}"
  root       = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root"
}

module "policies" {
  source = "./policies"

  bucket_arn        = local.bucket_arn
  key_arn           = aws_kms_key.nightshift.arn
  oidc_provider_arn = var.oidc_provider_arn
  service_accounts  = merge(var.service_accounts, { secrets = [var.secrets_reader] })
}

resource "aws_kms_key" "nightshift" {
  description             = "Data, models, images and secrets of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AccountDecides"
      Effect    = "Allow"
      Principal = { AWS = local.root }
      Action    = "kms:*"
      Resource  = "*"
    }]
  })
  tags = var.tags
}

resource "aws_iam_role" "identity" {
  for_each = module.policies.policies

  name               = "${var.name}-${replace(each.key, "_", "-")}"
  assume_role_policy = module.policies.trusts[each.key]
  tags               = var.tags
}

resource "aws_iam_role_policy" "identity" {
  for_each = module.policies.policies

  name   = "storage"
  role   = aws_iam_role.identity[each.key].id
  policy = each.value
}
