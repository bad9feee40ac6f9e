variable "namespace" {
  description = "Kubernetes namespace of jobs and MLflow (the chart's `namespace`)."
  type        = string
  default     = "nightshift"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "A namespace is lower-case letters, digits and dashes, at most 63 of them."
  }
}

variable "airflow_namespace" {
  description = "Kubernetes namespace of Airflow, where the chart is installed."
  type        = string
  default     = "airflow"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.airflow_namespace))
    error_message = "A namespace is lower-case letters, digits and dashes, at most 63 of them."
  }
}

variable "airflow_release" {
  description = "Name of the release of Airflow's chart; its service accounts are called after it."
  type        = string
  default     = "airflow"
}

variable "executor" {
  description = "Airflow's executor."
  type        = string
  default     = "LocalExecutor"

  validation {
    condition     = contains(["LocalExecutor", "KubernetesExecutor", "CeleryExecutor"], var.executor)
    error_message = "The executor is LocalExecutor, KubernetesExecutor or CeleryExecutor."
  }
}

variable "image_tag" {
  description = "Tag of the images, the commit that `make images` printed."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]*$", var.image_tag)) && var.image_tag != "latest"
    error_message = "The tag names one commit; `latest` names another one every day."
  }
}

variable "pools" {
  description = <<-TEXT
    Node pools of jobs, by name; each becomes a compute profile of the project, compute/<name>.yaml.
    `machine` is the cloud's name of the machine; `cpus`, `memory_gb` and `gpus` are what one pod asks of a node.
    `price_per_hour` is what one pod costs in an hour, in your currency: the price of its node, where it takes all of it.
    Nightshift counts the cost of runs by it and no price is looked up: take the cloud's list or your contract, and for
    spot nodes what you pay on average.
  TEXT
  type = map(object({
    machine        = string
    cpus           = number
    memory_gb      = number
    gpus           = optional(number, 0)
    spot           = optional(bool, false)
    min_nodes      = optional(number, 0)
    max_nodes      = optional(number, 4)
    price_per_hour = number
  }))
  default = {}

  validation {
    condition     = alltrue([for name, pool in var.pools : can(regex("^[a-z0-9_]{1,40}$", name))])
    error_message = "A pool's name is lower-case letters, digits and underscores: it names a file."
  }
  validation {
    condition     = alltrue([for pool in values(var.pools) : pool.cpus > 0 && pool.memory_gb > 0 && pool.gpus >= 0])
    error_message = "A pod asks for processors and memory, and for no negative number of GPUs."
  }
  validation {
    condition     = alltrue([for pool in values(var.pools) : pool.min_nodes >= 0 && pool.max_nodes >= max(pool.min_nodes, 1)])
    error_message = "max_nodes is at least 1 and at least min_nodes."
  }
  validation {
    condition     = alltrue([for pool in values(var.pools) : pool.price_per_hour > 0])
    error_message = "Give each pool a price above 0: without it no budget of GPU cost holds."
  }
}

# What the module of a cloud made.

variable "registry" {
  description = "Where the images are, without their names."
  type        = string
}

variable "storage_uri" {
  description = "What Airflow and jobs share: s3://bucket/prefix, gs://… or abfs://…"
  type        = string

  validation {
    condition     = can(regex("^(s3|gs|abfs)://[^/]+/.+[^/]$", var.storage_uri))
    error_message = "The storage is a bucket with a prefix and no slash at the end, such as s3://bucket/nightshift."
  }
}

variable "artifacts_uri" {
  description = "Where MLflow keeps its artifacts."
  type        = string
}

variable "logs_uri" {
  description = "Where Airflow keeps the logs of tasks; empty: in the scheduler's pod."
  type        = string
  default     = ""
}

variable "annotations" {
  description = "Annotations of the service accounts by identity: job, airflow, api_server, mlflow."
  type        = map(map(string))

  validation {
    condition     = toset(keys(var.annotations)) == toset(["job", "airflow", "api_server", "mlflow"])
    error_message = "There are four identities: job, airflow, api_server and mlflow."
  }
}
