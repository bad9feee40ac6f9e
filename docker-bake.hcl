# The images, for plain BuildKit: `docker buildx bake airflow trainer`. `make images` gives the variables the commit's values.
# A node of a cluster is amd64, whatever builds: on Apple Silicon the platform would otherwise be arm64.
variable "REGISTRY" { default = "" }
variable "GIT_SHA" { default = "unknown" }
variable "VERSION" { default = "unknown" }
variable "SOURCE" { default = "unknown" }
# More packages for the airflow image, such as an auth manager.
variable "EXTRA" { default = "" }

group "default" {
  targets = ["airflow", "trainer"]
}

target "_common" {
  context   = "."
  platforms = ["linux/amd64"]
  args = {
    GIT_SHA = GIT_SHA
    VERSION = VERSION
    SOURCE  = SOURCE
  }
}

target "airflow" {
  inherits   = ["_common"]
  dockerfile = "docker/airflow/Dockerfile"
  tags       = ["${REGISTRY}nightshift-airflow:${GIT_SHA}"]
  args       = { EXTRA = EXTRA }
}

target "trainer" {
  inherits   = ["_common"]
  dockerfile = "docker/trainer/Dockerfile"
  tags       = ["${REGISTRY}nightshift-trainer:${GIT_SHA}-cpu"]
}

target "trainer-cuda" {
  inherits   = ["_common"]
  dockerfile = "docker/trainer/Dockerfile"
  tags       = ["${REGISTRY}nightshift-trainer:${GIT_SHA}-cuda"]
  args       = { VARIANT = "cuda" }
}

target "vllm" {
  inherits   = ["_common"]
  dockerfile = "docker/vllm/Dockerfile"
  tags       = ["${REGISTRY}nightshift-vllm:${GIT_SHA}-cpu"]
}

target "vllm-cuda" {
  inherits   = ["_common"]
  dockerfile = "docker/vllm/Dockerfile"
  tags       = ["${REGISTRY}nightshift-vllm:${GIT_SHA}-cuda"]
  args       = { VARIANT = "cuda" }
}
