"""
### Janitor

Looks every hour for pods, Jobs and Services in the namespaces of the compute profiles that belong to no task any more,
and keeps the accounts.

1. **sweep** lists what this Airflow asked for. Something active whose task is over is told at once and deleted ten minutes
   after it was made; a pod that ended stays a day for people to look at. What each pod used is written down.
2. **usage** logs pods, hours, GPU-hours and cost of each DAG run to MLflow, and of each training to its own run, by the
   times of the nodes and the price of the compute profile.

By hand: choose *report only* to see what would be deleted.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, task

from nightshift.applications import BadApplication, load_compute, readable_applications
from nightshift.computing import KubernetesCompute
from nightshift.orchestration.job import job

log = logging.getLogger(__name__)


@task
def sweep(profile: str, *, ti: Any, params: Any) -> dict[str, list[str]]:
    """Tell, account for and delete what belongs to no task."""
    from nightshift.orchestration.kubernetes.janitor import sweep as swept

    def state_of(dag_id: str, run_id: str, task_id: str, map_index: int) -> str | None:
        found = ti.get_task_states(dag_id=dag_id, task_ids=[task_id], run_ids=[run_id], map_index=map_index)
        return next(iter(found.get(run_id, {}).values()), None)

    compute = load_compute(profile)
    assert isinstance(compute, KubernetesCompute)  # noqa: S101  (only such profiles are swept)
    told = swept(compute, state_of, delete=not params["report_only"])
    for fate, things in told.items():
        for thing in things:
            log.info("%s: %s", fate, thing)
    return told


applications = {}
namespaces = {}
for app in readable_applications():
    for profile in sorted(set(app.compute.values())):
        try:
            compute = load_compute(profile)
        except BadApplication:
            continue
        if isinstance(compute, KubernetesCompute):
            applications[app.name] = app
            namespaces[compute.connection, compute.namespace] = profile

if namespaces:
    with DAG(
        dag_id="nightshift_janitor",
        description="What pods left behind, and what they cost.",
        schedule=CronTriggerTimetable("17 * * * *", timezone="UTC"),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 2, "retry_delay": timedelta(minutes=1), "pool": "nightshift_jobs"},
        tags=["nightshift"],
        params={
            "report_only": Param(False, type="boolean", description="tell what would be deleted, and delete nothing")
        },
        doc_md=__doc__,
    ):
        sweeps = [sweep.override(task_id=f"sweep_{profile}")(profile) for _, profile in sorted(namespaces.items())]
        for name, app in sorted(applications.items()):
            sweeps >> job("usage", app, {}, task_id=f"usage_{name}")
