"""The labels and annotations that mark pods, Jobs, TrainJobs and Services as Nightshift's, and name their owner."""

from __future__ import annotations

import hashlib
from typing import Any

from nightshift.orchestration.attempt import storage_uri
from nightshift.settings.compute import KubernetesCompute

# They select everything of ours in a namespace.
OURS = {"app.kubernetes.io/name": "nightshift", "app.kubernetes.io/managed-by": "airflow"}
OWNER = "nightshift/airflow"
GROUP = "nightshift/group"
APPLICATION = "nightshift/application"
JOB = "nightshift/job"
# Annotations: labels are too short for them.
DAG_ID, RUN_ID, TASK_ID = "nightshift/dag-id", "nightshift/run-id", "nightshift/task-id"
MAP_INDEX, RESULT = "nightshift/map-index", "nightshift/result"
GPUS, PRICE = "nightshift/gpus", "nightshift/price-per-hour"


def labels_of(job: str, application: str, context: Any) -> dict[str, str]:
    """Return the labels of a task's pods: Airflow's own, Nightshift's, and the id of this Airflow."""
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    return {
        **KubernetesPodOperator._get_ti_pod_labels(context),
        **OURS,
        OWNER: airflow_id(),
        APPLICATION: application,
        JOB: job,
    }


def airflow_id() -> str:
    """Return the id of this Airflow among those that share a namespace: a digest of its base URL and storage."""
    from airflow.sdk.configuration import conf

    identity = [conf.get("api", "base_url", fallback=""), storage_uri()]
    return hashlib.sha256("|".join(identity).encode()).hexdigest()[:10]


def annotations_of(context: Any, result_uri: str, job: str, compute: KubernetesCompute) -> dict[str, str]:
    """Return the annotations of a task's pods: its full identity (labels are too short), result URI, GPUs and price."""
    ti = context["ti"]
    return {
        GPUS: str(compute.gpus_of(job)),
        PRICE: str(compute.price_per_hour),
        DAG_ID: ti.dag_id,
        RUN_ID: ti.run_id,
        TASK_ID: ti.task_id,
        MAP_INDEX: str(ti.map_index if ti.map_index is not None else -1),
        RESULT: result_uri,
    }
