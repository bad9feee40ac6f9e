"""State from Airflow's database: runs and tasks of an application, open approval requests, and housekeeping."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.variable import Variable
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select
from sqlalchemy.orm import Session

from nightshift.access.permissions import DAGS
from nightshift.orchestration.attempt import MLFLOW_CONNECTION, STORAGE_VARIABLE
from nightshift.storage.files import default_storage

log = logging.getLogger(__name__)

RUNNING = ("running", "queued")
# They serve all applications, so every user who sees an application sees whether they run.
HOUSEKEEPING = tuple(f"nightshift_{name}" for name in ("alerts", "audit", "janitor", "usage"))
LATE = timedelta(minutes=20)  # after the time at which housekeeping was due


@dataclass(frozen=True)
class Run:
    """A run of one of an application's DAGs; `tasks` are its running and waiting ones."""

    dag_id: str
    run_id: str
    state: str
    started: datetime | None
    ended: datetime | None = None
    kind: str = ""
    note: str = ""
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskState:
    """A task of a run in its newest try."""

    task_id: str
    map_index: int
    state: str
    tries: int
    operator: str
    started: datetime | None
    ended: datetime | None

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return (self.ended - self.started).total_seconds() if self.started and self.ended else None


@dataclass(frozen=True)
class Waiting:
    """An open approval request."""

    dag_id: str
    run_id: str
    task_id: str
    subject: str
    asked: datetime
    people: tuple[str, ...]


@dataclass(frozen=True)
class Housekeeping:
    """A housekeeping DAG: `on time`, `late`, `paused`, `failed` or `not run yet`, and the trouble if any."""

    dag_id: str
    last: datetime | None
    state: str
    trouble: str


def storage_uri() -> str:
    """Return the URI of the storage, as the jobs use it."""
    return str(Variable.get(STORAGE_VARIABLE, default_var=None) or default_storage())


def mlflow_connection() -> Any:
    """Return the connection of the tracking server.

    :raises AirflowNotFoundException: there is none.
    """
    return Connection.get_connection_from_secrets(MLFLOW_CONNECTION)


def running_by_application(names: Iterable[str]) -> Counter[str]:
    """Return how many runs each application has in progress."""
    owner = {f"{name}_{kind}": name for name in names for kind in DAGS}
    with create_session(scoped=False) as session:
        found = session.scalars(select(DagRun.dag_id).where(DagRun.state.in_(RUNNING)))
        return Counter(owner[dag_id] for dag_id in found if dag_id in owner)


def runs_in_progress(name: str) -> list[Run]:
    """Return the unfinished runs of an application, the oldest first, each with its active tasks."""
    with create_session(scoped=False) as session:
        runs = session.scalars(
            select(DagRun).where(DagRun.dag_id.in_(_dags(name)), DagRun.state.in_(RUNNING)).order_by(DagRun.run_after)
        ).all()
        busy = session.execute(
            select(TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.state)
            .where(TaskInstance.dag_id.in_(_dags(name)))
            .where(TaskInstance.run_id.in_({run.run_id for run in runs}))
            .where(TaskInstance.state.in_(("running", "deferred", "queued", "awaiting_input", "up_for_retry")))
        ).all()
        return [
            _run(
                run, tuple(f"{task} {state}" for dag, of, task, state in busy if (dag, of) == (run.dag_id, run.run_id))
            )
            for run in runs
        ]


def run_of(dag_id: str, run_id: str) -> Run | None:
    """Return one run, or None if it does not exist."""
    with create_session(scoped=False) as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        return _run(run, ()) if run else None


def tasks_of(dag_id: str, run_id: str) -> list[TaskState]:
    """Return the tasks of a run, in the order in which they began; the others follow in the order of the DAG."""
    with create_session(scoped=False) as session:
        places = _places(dag_id, session)
        found = session.scalars(
            select(TaskInstance).where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
        ).all()
        tasks = [
            TaskState(
                task_id=ti.task_id,
                map_index=ti.map_index,
                state=str(ti.state or "not begun"),
                tries=ti.try_number,
                operator=str(ti.operator or ""),
                started=ti.start_date,
                ended=ti.end_date,
            )
            for ti in found
        ]
    return sorted(
        tasks,
        key=lambda task: (
            *(task.started is None, task.started, places.get(task.task_id, len(places))),
            *(task.task_id, task.map_index),
        ),
    )


def _places(dag_id: str, session: Session) -> dict[str, int]:
    """The places of tasks in their DAG; none if Airflow cannot read its stored form, which another version may have written."""
    try:
        dag = SerializedDagModel.get_dag(dag_id, session=session)
        return {node.node_id: place for place, node in enumerate(dag.task_group.topological_sort())} if dag else {}
    except Exception as error:  # the order of tasks is not worth the page
        log.warning("the stored form of %s cannot be read: %s", dag_id, error)
        return {}


def results_of_tasks(dag_id: str, run_id: str) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the results of a run's tasks, by task id and map index."""
    with create_session(scoped=False) as session:
        rows = session.execute(
            select(XComModel.task_id, XComModel.map_index, XComModel.value).where(
                XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.key == "return_value"
            )
        ).all()
        values = ((task, index, _plain(value)) for task, index, value in rows)
        return {(task, index): value for task, index, value in values if isinstance(value, dict)}


def waiting_for_people(names: Iterable[str]) -> dict[str, list[Waiting]]:
    """Return the open requests by application, the oldest first."""
    owner = {f"{name}_{kind}": name for name in names for kind in DAGS}
    found: dict[str, list[Waiting]] = {}
    with create_session(scoped=False) as session:
        rows = session.execute(
            select(HITLDetail, TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id)
            .join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
            .where(HITLDetail.responded_at.is_(None), TaskInstance.state == "awaiting_input")
            .order_by(HITLDetail.created_at)
        ).all()
        for detail, dag_id, run_id, task_id in rows:
            if dag_id in owner:
                people = tuple(user["name"] for user in detail.assigned_users)
                waiting = Waiting(dag_id, run_id, task_id, detail.subject, detail.created_at, people)
                found.setdefault(owner[dag_id], []).append(waiting)
    return found


def housekeeping(now: datetime) -> list[Housekeeping]:
    """Return the housekeeping DAGs with their state."""
    with create_session(scoped=False) as session:
        dags = session.scalars(select(DagModel).where(DagModel.dag_id.in_(HOUSEKEEPING), ~DagModel.is_stale)).all()
        found = []
        for dag in sorted(dags, key=lambda dag: dag.dag_id):
            last = session.execute(
                select(DagRun.state, DagRun.end_date)
                .where(DagRun.dag_id == dag.dag_id, DagRun.end_date.is_not(None))
                .order_by(DagRun.end_date.desc())
                .limit(1)
            ).first()
            due = dag.next_dagrun_create_after
            if dag.is_paused:
                state, trouble = "paused", "does not run until it is unpaused"
            elif due and now - due > LATE:
                state, trouble = "late", f"was due at {due:%Y-%m-%d %H:%M} UTC: check that the scheduler runs"
            elif last and last.state == "failed":
                state, trouble = "failed", "its last run failed"
            else:
                state, trouble = "on time" if last else "not run yet", ""
            found.append(Housekeeping(dag.dag_id, last.end_date if last else None, state, trouble))
        return found


def _run(run: DagRun, tasks: tuple[str, ...]) -> Run:
    note = run.dag_run_note.content if run.dag_run_note else ""
    return Run(
        run.dag_id, run.run_id, str(run.state), run.start_date or run.queued_at, run.end_date, str(run.run_type),
        note or "", tasks,
    )  # fmt: skip


def _dags(name: str) -> list[str]:
    return [f"{name}_{kind}" for kind in DAGS]


def _plain(value: Any) -> Any:
    """A returned value as plain JSON: pages do not instantiate classes that a task's result names."""
    if isinstance(value, str):
        with suppress(ValueError):
            return json.loads(value)
    return value
