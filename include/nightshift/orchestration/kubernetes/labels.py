"""The labels and annotations by which pods, Jobs and Services are known as ours, and as whose."""

from __future__ import annotations

import hashlib
from typing import Any

# They select everything of ours in a namespace.
OURS = {"app.kubernetes.io/name": "nightshift", "app.kubernetes.io/managed-by": "airflow"}
OWNER = "nightshift/airflow"
GROUP = "nightshift/group"
JOB = "nightshift/job"


def labels_of(job: str, application: str, context: Any) -> dict[str, str]:
    """Return the labels of a task's pods: Airflow's own, ours, and whose Airflow it is."""
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    return {
        **KubernetesPodOperator._get_ti_pod_labels(context),
        **OURS,
        OWNER: airflow_id(),
        "nightshift/application": application,
        JOB: job,
    }


def airflow_id() -> str:
    """Return what tells this Airflow from another that uses the same namespace: a digest of its base URL."""
    from airflow.sdk.configuration import conf

    return hashlib.sha256(conf.get("api", "base_url", fallback="").encode()).hexdigest()[:10]


def annotations_of(context: Any, result_uri: str) -> dict[str, str]:
    """Return the task's full identity, which labels are too short for, and where its result will lie."""
    ti = context["ti"]
    return {
        "nightshift/dag-id": ti.dag_id,
        "nightshift/run-id": ti.run_id,
        "nightshift/task-id": ti.task_id,
        "nightshift/map-index": str(ti.map_index if ti.map_index is not None else -1),
        "nightshift/result": result_uri,
    }
