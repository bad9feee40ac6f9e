"""The environment variables of a job: the allow-list, and those that only take effect when a process starts."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from pathlib import Path

NO_GPU = not Path("/dev/nvidiactl").exists()

# What a job may see of the worker's environment. Airflow's own settings and secrets are not among them.
PASSED = (
    "PATH", "HOME", "USER", "LANG", "LC_*", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE",
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN", "CUDA_*", "NVIDIA_*", "NCCL_*", "LD_LIBRARY_PATH", "OPENBLAS_*",
    "NVPL_*", "OTEL_EXPORTER_OTLP_*", "OTEL_METRIC_EXPORT_*",
    "NIGHTSHIFT_CACHE", "NIGHTSHIFT_GIT_SHA", "NIGHTSHIFT_MODELS", "NIGHTSHIFT_PROJECT",
)  # fmt: skip

# And of those that open an object store, only where its data lies there: by the protocol of storage and sources.
CREDENTIALS = {
    ("s3", "s3a"): ("AWS_*",),
    ("gs", "gcs"): ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"),
    ("abfs", "abfss", "az", "adl"): ("AZURE_*",),
}

# Threads that wait sleep, since jobs share their processors, and the allocator keeps its pages, since a training step
# allocates and frees gigabytes (a quarter of the speed).
FOR_MODELS = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "GLIBC_TUNABLES": ":".join(
        f"glibc.malloc.{name}={value}"
        for name, value in {"mmap_max": 0, "trim_threshold": 2**34, "top_pad": 2**28, "hugetlb": 1}.items()
    ),
    # oneDNN makes and keeps code for each shape of a product in bf16, and batches are seldom alike: with the default of 1,024
    # a process grew by 35 MB a step. What a step repeats is far fewer.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    "LRU_CACHE_CAPACITY": "64",
    "TOKENIZERS_PARALLELISM": "true",
    "TQDM_DISABLE": "1",  # a bar that redraws itself is noise in a log
    "HF_HUB_DISABLE_TELEMETRY": "1",
    **({"DS_ACCELERATOR": "cpu"} if NO_GPU else {}),
}

# Libraries read all other variables when they are imported, or the dynamic linker does before.
READ_WHEN_USED = (
    "HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "MLFLOW_TRACKING_*", "NIGHTSHIFT_*",
    "AIRFLOW_CONN_*", "AWS_*", "GOOGLE_*", "AZURE_*", "OTEL_*", "OMP_NUM_THREADS",
)  # fmt: skip


def allowed(environment: Mapping[str, str], patterns: Iterable[str] = PASSED) -> dict[str, str]:
    """Return the variables whose names match one of the patterns (`*` matches anything)."""
    names = tuple(patterns)
    return {key: value for key, value in environment.items() if _matches(key, names)}


def read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a process must have when it starts."""
    return {key: value for key, value in environment.items() if not _matches(key, READ_WHEN_USED)}


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)
