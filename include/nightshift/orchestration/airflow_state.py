"""What Airflow says about the DAGs of all applications and of housekeeping, asked once a look through its REST API."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from airflow.sdk.exceptions import AirflowNotFoundException

from nightshift.alerts.global_alerts import ALL_APPLICATIONS, BrokenFile, FailedHousekeeping
from nightshift.alerts.of_runs import Run
from nightshift.alerts.watch import LONG, Dag, Task
from nightshift.orchestration.airflow_rest import AirflowRest
from nightshift.orchestration.telling import run_of

LOOKED_BACK = timedelta(hours=24)  # at failed runs; an alert that was kept is not repeated
# The callback of a failed run has more details and goes first; it has this long.
CALLBACK_TIME = timedelta(minutes=2)
UNFINISHED = ["queued", "running", "deferred", "awaiting_input", "up_for_retry", "up_for_reschedule", "scheduled"]
HOUSEKEEPING = "nightshift_"  # prefix of the DAGs that belong to no application
NEWEST = 10  # runs of a DAG
AT_ONCE = 40  # ids of DAGs in one question: an address of 4,000 characters is short enough for every proxy


@dataclass
class AirflowState:
    """DAGs, runs and tasks of Airflow by application; housekeeping is under `ALL_APPLICATIONS`.

    :param failed_housekeeping: housekeeping DAGs whose newest run failed.
    :param works: end of the newest run of each housekeeping DAG whose newest run succeeded.
    """

    began: datetime
    failed: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    unfinished: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    tasks: dict[str, list[Task]] = field(default_factory=lambda: defaultdict(list))
    dags: dict[str, list[Dag]] = field(default_factory=lambda: defaultdict(list))
    broken: list[BrokenFile] = field(default_factory=list)
    failed_housekeeping: list[FailedHousekeeping] = field(default_factory=list)
    works: dict[str, datetime] = field(default_factory=dict)


def read_airflow_state(rest: AirflowRest, names: Iterable[str]) -> AirflowState:
    """Read the state of our DAGs, page by page; other DAGs of a shared Airflow are left out.

    :param names: of the applications.
    :raises AirflowException: Airflow does not answer, or refuses.
    """
    now, known = datetime.now(UTC), set(names)
    state, owner = AirflowState(began=now), {}
    for dag in rest.all("dags", "dags", tags="nightshift"):
        name = next((tag["name"] for tag in dag["tags"] if tag["name"] in known), None)
        if name or dag["dag_id"].startswith(HOUSEKEEPING):
            owner[dag["dag_id"]] = name or ALL_APPLICATIONS
            state.dags[name or ALL_APPLICATIONS].append(Dag.model_validate(dag))
    since = {"end_date_gte": (now - LOOKED_BACK).isoformat(), "end_date_lte": (now - CALLBACK_TIME).isoformat()}
    for run in _of_dags(rest, owner, "dags/~/dagRuns", "dag_runs", state="failed", **since):
        state.failed[owner[run["dag_id"]]].append(run_of(run))
    for run in _of_dags(rest, owner, "dags/~/dagRuns", "dag_runs", state=["queued", "running"]):
        state.unfinished[owner[run["dag_id"]]].append(run_of(run))
    for task in _of_dags(rest, owner, "dags/~/dagRuns/~/taskInstances", "task_instances", state=UNFINISHED):
        state.tasks[owner[task["dag_id"]]].append(_with_history(rest, Task.model_validate(task), now))
    state.broken = [BrokenFile.model_validate(error) for error in rest.all("importErrors", "import_errors")]
    for dag_id in [dag.dag_id for dag in state.dags[ALL_APPLICATIONS]]:
        _read_housekeeping(rest, dag_id, state)
    return state


def failed_tasks(rest: AirflowRest, run: Run) -> list[str]:
    """Return the ids of the tasks of a run that failed."""
    path = f"{_runs(run.dag_id)}/{quote(run.run_id, safe='')}/taskInstances"
    return sorted({task["task_id"] for task in rest.all(path, "task_instances", state="failed")})


def run_now(rest: AirflowRest, dag_id: str, run_id: str) -> Run | None:
    """Return the current state of a run; None: it was deleted."""
    try:
        return run_of(rest.get(f"{_runs(dag_id)}/{quote(run_id, safe='')}"))
    except AirflowNotFoundException:
        return None


def newest_runs(rest: AirflowRest, dag_id: str, *states: str, most: int = NEWEST) -> list[Run]:
    """Return the runs of a DAG that ended last in one of these states, the newest first."""
    answer = rest.get(_runs(dag_id), state=list(states), order_by="-end_date", limit=most)
    return [run_of(run) for run in answer["dag_runs"]]


def _of_dags(
    rest: AirflowRest, dag_ids: Iterable[str], path: str, key: str, **filters: Any
) -> Iterator[dict[str, Any]]:
    """Yield the entries of a listing that belong to these DAGs.

    By prefix, because a listing with a cursor takes no list of ids. The one that does (POST …/list) pages by offset, misses
    entries that move between two pages, and writes each request into Airflow's audit log.
    """
    ordered = sorted(dag_ids)
    for some in (set(ordered[start : start + AT_ONCE]) for start in range(0, len(ordered), AT_ONCE)):
        for entry in rest.all(path, key, dag_id_prefix_pattern="|".join(sorted(some)), **filters):
            if entry["dag_id"] in some:  # a prefix also matches longer ids
                yield entry


def _read_housekeeping(rest: AirflowRest, dag_id: str, state: AirflowState) -> None:
    newest = next(iter(newest_runs(rest, dag_id, "success", "failed", most=1)), None)
    if newest is None or newest.end_date is None:
        return
    if newest.state == "success":
        state.works[dag_id] = newest.end_date
        return
    last_success = next((run.run_id for run in newest_runs(rest, dag_id, "success", most=1)), "")
    state.failed_housekeeping.append(
        FailedHousekeeping(dag_id=dag_id, run=newest.run_id, ended=newest.end_date, last_success=last_success)
    )


def _with_history(rest: AirflowRest, task: Task, now: datetime) -> Task:
    """A long-running task, with the durations of its earlier runs."""
    if task.waits or task.waits_by_design or task.state == "awaiting_input" or task.lasts(now) < LONG:
        return task
    query = {"task_id": task.task_id, "state": "success", "order_by": "-start_date", "limit": NEWEST}
    tries = rest.get(f"{_runs(task.dag_id)}/~/taskInstances", **query)["task_instances"]
    durations = [one["duration"] for one in tries if one["duration"] is not None]
    return task.model_copy(update={"longest": timedelta(seconds=max(durations)) if durations else None})


def _runs(dag_id: str) -> str:
    return f"dags/{quote(dag_id, safe='')}/dagRuns"
