# What does not depend on the cloud: who needs an identity, the values of the chart, and the compute profiles. It has no
# provider, so that it can be planned anywhere.
terraform {
  required_version = ">= 1.6"
}

locals {
  workers = var.executor == "LocalExecutor" ? [] : ["${var.airflow_namespace}:${var.airflow_release}-worker"]

  helm_values = {
    namespace = var.namespace
    images = {
      registry = var.registry
      tag      = var.image_tag
      variant  = anytrue([for pool in values(var.pools) : pool.gpus > 0]) ? "cuda" : "cpu"
    }
    storage = { uri = var.storage_uri }
    identities = {
      job          = var.annotations["job"]
      scheduler    = var.annotations["airflow"]
      triggerer    = var.annotations["airflow"]
      dagProcessor = var.annotations["airflow"]
      workers      = var.annotations["airflow"]
      apiServer    = var.annotations["api_server"]
      mlflow       = var.annotations["mlflow"]
    }
    airflow = {
      release    = var.airflow_release
      executor   = var.executor
      remoteLogs = var.logs_uri
    }
    mlflow = { artifacts = var.artifacts_uri }
  }

  profiles = {
    for name, pool in var.pools : name => merge(
      {
        backend        = "kubernetes"
        namespace      = var.namespace
        cpus           = pool.cpus
        memory_gb      = pool.memory_gb
        node_selector  = { "nightshift/pool" = name }
        tolerations    = [{ key = "nightshift/pool", operator = "Equal", value = name, effect = "NoSchedule" }]
        spot           = pool.spot
        price_per_hour = pool.price_per_hour
      },
      pool.gpus > 0 ? { gpus = pool.gpus } : {}
    )
  }
}
