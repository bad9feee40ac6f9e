variable "name" {
  description = "Prefix of everything that is made, and the bucket's name: unique in all of S3."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,40}[a-z0-9]$", var.name))
    error_message = "The name is 3 to 42 lower-case letters, digits and dashes, as S3 and IAM take it."
  }
}

variable "cluster_name" {
  description = "Name of the EKS cluster, which is there already."
  type        = string
}

variable "oidc_provider_arn" {
  description = "ARN of the cluster's OIDC provider in IAM."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets in which nodes start."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "Nodes need a subnet."
  }
}

variable "service_accounts" {
  description = "Service accounts, as namespace:name, by identity (the output of the module settings)."
  type        = map(list(string))
}

variable "pools" {
  description = "Node pools of jobs (the variable of the module settings): `machine` is an EC2 instance type."
  type = map(object({
    machine   = string
    gpus      = optional(number, 0)
    spot      = optional(bool, false)
    min_nodes = optional(number, 0)
    max_nodes = optional(number, 4)
  }))
}

variable "disk_gb" {
  description = "Size of a node's disk: images, scratch of jobs, models."
  type        = number
  default     = 200

  validation {
    condition     = var.disk_gb >= 50
    error_message = "The trainer's image for GPUs alone has 7 GB; give a node at least 50."
  }
}

variable "secrets_reader" {
  description = "Service account, as namespace:name, of the operator that copies the secrets into the cluster."
  type        = string
  default     = "external-secrets:external-secrets"
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
}
