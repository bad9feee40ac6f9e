"""Metrics from Airflow's database: unfinished tasks and runs, heartbeats, housekeeping, and durations of jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from airflow.jobs.job import Job
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import func, select

from nightshift.access.permissions import DAGS
from nightshift.dashboard.airflow_state import housekeeping
from nightshift.metrics.families import Sample
from nightshift.orchestration.job_task import WORK
from nightshift.settings.job_names import JOBS

COMPONENTS = {"SchedulerJob": "scheduler", "DagProcessorJob": "dag_processor", "TriggererJob": "triggerer"}
TASK_STATES = ("scheduled", "queued", "running", "deferred", "up_for_retry", "awaiting_input")
RUN_STATES = ("queued", "running")
# The start of a task's wait, by its state.
WAITING = {"scheduled": TaskInstance.scheduled_dttm, "queued": TaskInstance.queued_dttm}


def samples_of_airflow(names: list[str], now: datetime) -> Iterator[Sample]:
    """Yield the samples from Airflow's database; its tables are read by indexes, independent of the history.

    :param names: of the applications.
    """
    owner = {f"{name}_{kind}": name for name in names for kind in DAGS}
    yield from _tasks(names, owner)
    yield from _runs(names, owner)
    yield from _jobs(owner)
    yield from _components()
    for dag in housekeeping(now):
        yield Sample("nightshift_housekeeping_works", (dag.dag_id,), float(dag.state == "on time"))
        if dag.last:
            yield Sample("nightshift_housekeeping_ended_timestamp_seconds", (dag.dag_id,), dag.last.timestamp())


def _tasks(names: list[str], owner: Mapping[str, str]) -> Iterator[Sample]:
    counted = {(name, state): 0 for name in names for state in TASK_STATES}
    since: dict[tuple[str, str], datetime] = {}
    began = [func.min(column).label(state) for state, column in WAITING.items()]
    with create_session(scoped=False) as session:
        rows = session.execute(
            select(TaskInstance.dag_id, TaskInstance.state, func.count(), *began)
            .where(TaskInstance.state.in_(TASK_STATES))
            .group_by(TaskInstance.dag_id, TaskInstance.state)
        ).all()
    for dag_id, state, number, *waited in rows:
        key = (owner.get(dag_id, ""), str(state))
        if key[0]:
            counted[key] += number
            moment = dict(zip(WAITING, waited, strict=True)).get(key[1])
            if moment:
                since[key] = min(moment, since.get(key, moment))
    yield from (Sample("nightshift_tasks", key, number) for key, number in counted.items())
    for key, moment in since.items():
        yield Sample("nightshift_task_waiting_since_timestamp_seconds", key, moment.timestamp())


def _runs(names: list[str], owner: Mapping[str, str]) -> Iterator[Sample]:
    counted = {(name, state): 0 for name in names for state in RUN_STATES}
    with create_session(scoped=False) as session:
        rows = session.execute(
            select(DagRun.dag_id, DagRun.state, func.count())
            .where(DagRun.state.in_(RUN_STATES))
            .group_by(DagRun.dag_id, DagRun.state)
        ).all()
    for dag_id, state, number in rows:
        if dag_id in owner:
            counted[owner[dag_id], str(state)] += number
    yield from (Sample("nightshift_dag_runs", key, number) for key, number in counted.items())


def _jobs(owner: Mapping[str, str]) -> Iterator[Sample]:
    """Durations of jobs in the newest successful run of each DAG; for a job of two DAGs the newer run counts."""
    with create_session(scoped=False) as session:
        newest = session.scalars(
            select(func.max(DagRun.id))
            .where(DagRun.state == "success", DagRun.dag_id.in_(owner))
            .group_by(DagRun.dag_id)
        ).all()
        rows = session.execute(
            select(XComModel.dag_id, XComModel.value)
            .where(XComModel.dag_run_id.in_(newest), XComModel.key == WORK)
            .order_by(XComModel.timestamp)
        ).all()
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for dag_id, value in rows:
        work = _plain(value)
        if work.get("job") in JOBS:
            found[owner[dag_id], work["job"]] = work
    for key, work in found.items():
        yield Sample("nightshift_job_seconds", key, float(work["seconds"]))
        yield Sample("nightshift_job_peak_memory_bytes", key, float(work["peak_memory_gb"]) * 1e9)
        if speed := work.get("tokens_per_second"):
            yield Sample("nightshift_job_tokens_per_second", key, float(speed))


def _components() -> Iterator[Sample]:
    with create_session(scoped=False) as session:
        rows = session.execute(
            select(Job.job_type, func.max(Job.latest_heartbeat))
            .where(Job.job_type.in_(COMPONENTS))
            .group_by(Job.job_type)
        ).all()
    for job_type, beat in rows:
        if beat:
            yield Sample("nightshift_airflow_heartbeat_timestamp_seconds", (COMPONENTS[job_type],), beat.timestamp())


def _plain(value: Any) -> dict[str, Any]:
    """An XCom of a task, which Airflow stores as JSON."""
    with suppress(ValueError, TypeError):
        value = json.loads(value)
    return value if isinstance(value, dict) else {}
