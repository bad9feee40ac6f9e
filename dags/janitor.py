"""
### Janitor

Every ten minutes: finds pods, Jobs, TrainJobs and Services in the namespaces of the compute profiles that no longer belong to
a task.

An active object whose task is over is reported at once, and deleted by the next look that finds it again, if it is older than
ten minutes: one wrong answer of Airflow deletes no training. Tasks that a person ends delete their pods themselves. A pod that
ended is kept for a day.
The usage of each pod is recorded, also of those that ended unobserved; the DAG `nightshift_usage` logs it.

Only objects that this Airflow created are touched. By hand: choose *report only* to see what would be deleted.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import Param, task
from airflow.sdk.exceptions import AirflowException

from nightshift.orchestration.application_dag import housekeeping_dag
from nightshift.settings.applications import clusters, load_compute
from nightshift.settings.compute import KubernetesCompute

log = logging.getLogger(__name__)


@task(multiple_outputs=False)
def sweep(profile: str, *, ti: Any, params: Any) -> dict[str, list[str]]:
    """Report, account for and delete objects without a task; an unreachable cluster fails the task with a message."""
    from nightshift.orchestration.kubernetes.cluster import trouble
    from nightshift.orchestration.kubernetes.janitor import sweep as swept

    def state_of(dag_id: str, run_id: str, task_id: str, map_index: int) -> str | None:
        found = ti.get_task_states(dag_id=dag_id, task_ids=[task_id], run_ids=[run_id], map_index=map_index)
        return next(iter(found.get(run_id, {}).values()), None)

    compute = load_compute(profile)
    assert isinstance(compute, KubernetesCompute)  # noqa: S101  (only such profiles are swept)
    try:
        told = swept(compute, state_of, delete=not params["report_only"])
    except Exception as error:
        if found := trouble(error, compute, f"look for leftovers in namespace {compute.namespace}"):
            raise AirflowException(found.text) from error
        raise
    for fate, things in told.items():
        for thing in things:
            log.info("%s: %s", fate, thing)
    return told


if profiles := [compute.name for compute, _ in clusters()]:
    with housekeeping_dag(
        "janitor",
        "Clean up leftover pods and Jobs.",
        "*/10 * * * *",
        params={
            "report_only": Param(False, type="boolean", description="report what would be deleted, without deleting it")
        },
        doc_md=__doc__,
    ):
        for profile in profiles:
            sweep.override(task_id=f"sweep_{profile}")(profile)
