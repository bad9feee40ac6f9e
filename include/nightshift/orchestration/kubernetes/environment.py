"""The plain environment variables of a job's pods. Secrets are not among them: the cluster injects those."""

from __future__ import annotations

import re

from nightshift.errors import BadInput
from nightshift.jobs.contract import JobSpec
from nightshift.jobs.ingest import ID_KEY_VARIABLE
from nightshift.orchestration.attempt import (
    ID_KEY_CONNECTION,
    JUDGING,
    MLFLOW_CONNECTION,
    embedder_connections,
    endpoint_connection,
    id_key_of,
    mlflow_connection,
    mlflow_pages,
    sources_of,
    tracking_uri,
    vector_database,
)
from nightshift.settings.compute import KubernetesCompute
from nightshift.settings.project import PACKAGE, PROJECT_VARIABLE, project_folder

LOOPBACK = re.compile(r"//(localhost|127\.|\[::1\]|0\.0\.0\.0)")


def pod_environment(spec: JobSpec, job: str, compute: KubernetesCompute) -> dict[str, str]:
    """Return the plain variables of a job's pods.

    :raises BadInput: a pod could not reach its storage or the tracking server, or lacks a secret that it needs.
    """
    _reaches_storage(spec.storage, compute)
    mlflow = mlflow_connection()
    uri = compute.environment.get("MLFLOW_TRACKING_URI") or tracking_uri(mlflow)
    if LOOPBACK.search(uri):
        raise BadInput(
            f"pods cannot reach MLflow at {uri}, a loopback address: give the connection "
            f"{MLFLOW_CONNECTION!r} a host that the cluster resolves"
        )
    needed = {f"AIRFLOW_CONN_{one.connection.upper()}": one.name for one in sources_of(spec, job) if one.connection}
    if mlflow.login:
        needed |= dict.fromkeys(("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"), MLFLOW_CONNECTION)
    judge = spec.application.judge
    if job in JUDGING and judge and judge.connection:
        needed["NIGHTSHIFT_JUDGE_KEY"] = judge.connection
    if connection := endpoint_connection(spec, job):
        needed["NIGHTSHIFT_ENDPOINT_KEY"] = connection
    needed |= embedder_connections(spec, job)
    if connection := vector_database(spec, job):
        needed[f"AIRFLOW_CONN_{connection.upper()}"] = connection
    if id_key_of(spec, job):
        needed[ID_KEY_VARIABLE] = ID_KEY_CONNECTION
    missing = {} if compute.secret_sets else {key: why for key, why in needed.items() if key not in compute.secrets}
    if missing:
        lacking = ", ".join(f"{key} (for {why})" for key, why in missing.items())
        raise BadInput(
            f"compute profile {compute.name!r} gives its pods no {lacking}: put it into a Secret of the namespace "
            f"{compute.namespace} and name that in `secrets` or `secret_sets`"
        )
    project = project_folder()
    return {
        "MLFLOW_TRACKING_URI": uri,
        **mlflow_pages(mlflow),
        "NIGHTSHIFT_PROGRESS": "text",
        "OMP_NUM_THREADS": str(max(1, int(compute.cpus))),
        **({PROJECT_VARIABLE: str(project)} if project != PACKAGE else {}),
    }


def _reaches_storage(storage: str, compute: KubernetesCompute) -> None:
    if "://" in storage and not storage.startswith("file://"):
        return
    path = storage.removeprefix("file://")
    if not any(path == volume.path or path.startswith(f"{volume.path}/") for volume in compute.volumes):
        raise BadInput(
            f"the storage is a folder, {path}, and no volume of compute profile {compute.name!r} holds it: set the "
            "variable nightshift_storage to an object store (s3://, gs://, abfs://), or mount a ReadWriteMany claim there "
            "in Airflow and in the profile's `volumes`"
        )
