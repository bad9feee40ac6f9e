"""Where jobs run and what they may use: the typed form of `compute/<name>.yaml`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from nightshift.settings.fields import Model, Name
from nightshift.settings.job_names import ON_GPU, SPREAD

DNS_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
# By digest, or by a tag that is not moved under a running training.
IMAGE = re.compile(r"^[^\s@]+(@sha256:[0-9a-f]{64}|:(?!latest$)[\w][\w.-]{0,127}(@sha256:[0-9a-f]{64})?)$")

SECRET = re.compile(r"(^|_)(PASSWORD|PASSWD|SECRET|TOKEN|KEY|CREDENTIALS?)(_|$)|^AIRFLOW_CONN_", re.IGNORECASE)
LOGIN = re.compile(r"://[^/@\s]+:[^/@\s]+@")
# Tells a local job what its profile allows (GB).
MEMORY_VARIABLE = "NIGHTSHIFT_MEMORY_GB"
OWN_PATHS = {"/scratch", "/tmp", "/dev/shm"}  # noqa: S108  (mounts of every pod)

OutageHours = Annotated[
    float,
    Field(
        ge=0,
        le=168,
        description="longest wait of one try for storage, MLflow or a hub that is down; 0: Airflow's retries alone",
    ),
]
DnsLabel = Annotated[str, Field(pattern=DNS_LABEL)]
Variable = Annotated[str, Field(pattern=VARIABLE)]
Launcher = Literal["job", "trainjob"]


def pinned_image(image: str) -> str:
    """Return the name of an image when it says which one.

    :raises ValueError: it has no digest and no tag, or the tag `latest`.
    """
    if not IMAGE.match(image):
        raise ValueError("name an image by digest (name@sha256:…) or by a tag other than latest, so that tries agree")
    return image


class LocalCompute(Model):
    """Jobs are process groups of the machine on which Airflow's worker runs."""

    name: Name
    backend: Literal["local"] = Field("local", description="a process group of the Airflow worker")
    cpus: int = Field(2, ge=1, le=1024, description="processors of one job")
    memory_gb: float = Field(
        6.0, gt=0, le=16_384, description="memory of one job's process tree; above it the job is stopped"
    )
    pass_environment: list[str] = Field(
        [], description="further environment variables that jobs may see; `*` at the end matches"
    )
    queue: str | None = Field(
        None,
        pattern=r"^[\w.-]+$",
        description="queue whose Airflow workers take the job (Celery); empty: Airflow's own",
    )
    executor: str | None = Field(
        None, pattern=r"^[\w.:-]+$", description="which of Airflow's executors starts the job; empty: the first"
    )
    deadline_hours: float = Field(
        24,
        gt=0,
        le=720,
        description="a job that runs longer is ended, and uses a try; a training goes on from its checkpoint",
    )
    outage_hours: OutageHours = 2


class Volume(Model):
    """A claim that every pod of the profile mounts."""

    claim: DnsLabel = Field(description="name of the PersistentVolumeClaim")
    path: str = Field(pattern=r"^/[^:]*[^/:]$", description="where pods see it; for storage the same path as Airflow's")
    read_only: bool = Field(False)


class Toleration(Model):
    """A taint that pods of the profile may be placed in spite of."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    seconds: int | None = Field(None, ge=0, description="how long a NoExecute taint is tolerated")


class KubernetesCompute(Model):
    """Jobs are pods of a Kubernetes cluster: one, or one for each node of a job that divides its work."""

    name: Name
    backend: Literal["kubernetes"] = Field(description="pods of a cluster")
    connection: str = Field(
        "kubernetes_default", min_length=1, description="Airflow connection of the cluster; inside it none is needed"
    )
    namespace: DnsLabel = Field("nightshift", description="namespace of the pods")
    image: Annotated[str, AfterValidator(pinned_image)] | None = Field(
        None,
        description="image of the jobs, by digest or by a tag other than latest; empty: $NIGHTSHIFT_IMAGE of Airflow",
    )
    image_pull_secrets: list[DnsLabel] = Field([], description="secrets with which the image is pulled")
    nodes: int = Field(
        1, ge=1, le=256, description="pods over which ingest, snapshot, train, generate and score are divided"
    )
    launcher: Launcher = Field(
        "job",
        description="what starts the nodes of a job: an indexed Job, or Kubeflow Trainer where the cluster has it",
    )
    gpus: int = Field(0, ge=0, le=64, description="GPUs of one pod, in the jobs that run a language model")
    gpu_resource: str = Field(
        "nvidia.com/gpu", pattern=r"^[a-z0-9.-]+/[\w.-]+$", description="what the cluster calls one"
    )
    cpus: float = Field(2, gt=0, le=1024, description="processors of one pod")
    memory_gb: float = Field(8, gt=0, le=16_384, description="memory of one pod (GB), /dev/shm included")
    shared_memory_gb: float = Field(
        1, gt=0, le=4096, description="shared memory (/dev/shm) of one pod (GB), which NCCL needs"
    )
    scratch_gb: float = Field(30, gt=0, le=65_536, description="disk of one pod (GB) for models, data and checkpoints")
    node_selector: dict[str, str] = Field({}, description="labels of the nodes that may be used")
    tolerations: list[Toleration] = Field([], description="taints in spite of which a node may be used")
    affinity: dict[str, Any] = Field({}, description="affinity as in a pod's spec")
    priority_class: str | None = Field(None, description="priority class of the pods")
    runtime_class: str | None = Field(None, description="runtime class of the pods, such as nvidia")
    service_account: DnsLabel = Field("nightshift-job", description="service account of the pods")
    mount_token: bool = Field(False, description="give pods the token of their service account")
    environment: dict[Variable, str] = Field({}, description="environment variables, for everybody to read")
    secrets: dict[Variable, Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[\w.-]+$")]] = Field(
        {}, description="environment variables from secrets, as name-of-secret/key"
    )
    secret_sets: list[DnsLabel] = Field([], description="secrets whose every key becomes an environment variable")
    volumes: list[Volume] = Field([], description="claims that every pod mounts")
    queue: str | None = Field(
        None, pattern=DNS_LABEL, description="Kueue's local queue; waiting for it counts as waiting for a place"
    )
    spot: bool = Field(False, description="nodes may be taken away: a try that ends so is repeated and not counted")
    price_per_hour: float = Field(0.0, ge=0, description="price of one pod for one hour, in the currency of your books")
    schedule_minutes: float = Field(
        60, gt=0, le=10_080, description="longest wait for a cluster that is down or full, before the task fails"
    )
    outage_hours: OutageHours = 2
    startup_minutes: float = Field(20, gt=0, le=600, description="longest wait for images and volumes of a placed pod")
    deadline_hours: float = Field(24, gt=0, le=720, description="a pod that runs longer is ended by the cluster")
    template: str | None = Field(
        None,
        description="file with a pod (YAML) that is the base of every pod; a relative path starts at the profile's folder",
    )

    @field_validator("environment")
    @classmethod
    def _holds_no_secret(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if SECRET.search(name) or LOGIN.search(text):
                raise ValueError(
                    f"{name} looks like a secret, and this file is for everybody to read; put it in `secrets`"
                )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.shared_memory_gb >= self.memory_gb:
            raise ValueError(
                f"shared_memory_gb ({self.shared_memory_gb:g}) counts as memory and must be less than memory_gb "
                f"({self.memory_gb:g})"
            )
        paths = [volume.path for volume in self.volumes]
        if clash := sorted({path for path in paths if paths.count(path) > 1 or path in OWN_PATHS}):
            raise ValueError(f"something else is mounted at {', '.join(clash)} already; give the volume another path")
        return self

    def nodes_of(self, job: str) -> int:
        """Return the number of pods that a job runs on."""
        return self.nodes if job in SPREAD else 1

    def gpus_of(self, job: str) -> int:
        """Return the number of GPUs of each pod of a job."""
        return self.gpus if job in ON_GPU else 0


Compute = LocalCompute | KubernetesCompute
BACKENDS: dict[str, type[LocalCompute] | type[KubernetesCompute]] = {
    "local": LocalCompute,
    "kubernetes": KubernetesCompute,
}
