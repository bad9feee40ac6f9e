# An EKS cluster with a pool for processors and one of spot GPUs. Copy it, put in your names and prices, then:
#   terraform init && terraform apply
#   terraform output -raw helm_values > mine.yaml
terraform {
  required_version = ">= 1.6"
}

provider "aws" {
  region = "eu-central-1"
}

locals {
  pools = {
    cpu  = { machine = "m7i.2xlarge", cpus = 7, memory_gb = 26, price_per_hour = 0.48 }
    gpus = { machine = "g6e.12xlarge", cpus = 44, memory_gb = 340, gpus = 4, spot = true, price_per_hour = 5.3 }
  }
}

module "aws" {
  source = "../../aws"

  name              = "example-nightshift"
  cluster_name      = "example"
  oidc_provider_arn = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE"
  subnet_ids        = ["subnet-00000000000000001", "subnet-00000000000000002"]
  pools             = local.pools
  service_accounts  = module.settings.service_accounts
}

module "settings" {
  source = "../../settings"

  image_tag     = "0123456789ab"
  pools         = local.pools
  registry      = module.aws.registry
  storage_uri   = module.aws.storage_uri
  artifacts_uri = module.aws.artifacts_uri
  logs_uri      = module.aws.logs_uri
  annotations   = module.aws.annotations
}

output "helm_values" {
  description = "Values of the chart deploy/helm/nightshift."
  value       = module.settings.helm_values
}

output "compute_profiles" {
  description = "Compute profiles for compute/<name>.yaml of the project."
  value       = module.settings.compute_profiles
}
