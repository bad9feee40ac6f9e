"""The page of a DAG run: its tasks with their results, and the pods that they used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from nightshift.dashboard import airflow_state
from nightshift.dashboard.airflow_state import Run, TaskState
from nightshift.dashboard.mlflow_rest import Mlflow, Training
from nightshift.dashboard.pages import REPORTS, report_path
from nightshift.dashboard.panels import Panel, panel
from nightshift.dashboard.spending import account
from nightshift.dashboard.stored import Store
from nightshift.errors import BadInput
from nightshift.jobs.contract import ResultFile
from nightshift.ledger.pod_accounts import PodUsage, run_key
from nightshift.orchestration.attempt import results_of
from nightshift.settings.application import Application
from nightshift.settings.applications import BadApplication, load_compute
from nightshift.settings.compute import KubernetesCompute

LOOK_BACK_DAYS = 31  # for accounts of a run that Airflow no longer knows
LONGEST_VALUE = 80  # characters of a result's text, except reasons and addresses


@dataclass(frozen=True)
class Answer:
    """The result of a task's newest try: verdict and reasons, values by name, links to MLflow, and reports.

    Only jobs have `seconds` and `memory_gb`.
    """

    verdict: str
    reasons: Sequence[str]
    values: Mapping[str, float | int | str]
    links: Mapping[str, str]
    reports: Mapping[str, str]  # title -> path below the dashboard
    seconds: float | None = None
    memory_gb: float | None = None


@dataclass(frozen=True)
class Done:
    """A task with its result; None if it has none (yet)."""

    task: TaskState
    answer: Answer | None
    trouble: str = ""


@dataclass(frozen=True)
class Page:
    """The parts of the page."""

    run: Run
    tasks: Sequence[Done]
    pods: Panel[list[PodUsage]]
    training: Panel[Training | None] | None  # None: the run trains nothing


def gather(app: Application, storage: str, dag_id: str, run_id: str) -> Page | None:
    """Read all parts of a run's page; None if Airflow does not know the run."""
    run = airflow_state.run_of(dag_id, run_id)
    if run is None:
        return None
    store = Store(storage, app.name)
    results = airflow_state.results_of_tasks(dag_id, run_id)
    tasks = [
        _done(store, run, task, results.get((task.task_id, task.map_index)))
        for task in airflow_state.tasks_of(dag_id, run_id)
    ]
    trains = [one for one in tasks if one.task.task_id == "train" and one.task.started]
    return Page(
        run=run,
        tasks=tasks,
        pods=panel(lambda: pods_of(store, run)),
        training=panel(lambda: _training(app, trains[0])) if trains else None,
    )


def pods_of(store: Store, run: Run) -> list[PodUsage]:
    """Return the accounts of a run's ended pods, in order of time."""
    key = run_key(run.dag_id, run.run_id)
    now = datetime.now(UTC)
    first = (run.started or now - timedelta(days=LOOK_BACK_DAYS)).astimezone(UTC).date()
    last = ((run.ended or now) + timedelta(days=1)).astimezone(UTC).date()
    found = []
    for back in range((last - first).days + 1):
        day = (first + timedelta(days=back)).isoformat()
        for name in store.names("usage", day):
            if name.startswith(f"{key}-") and (pod := account(store, day, name)):
                found.append(pod)
    return sorted(found, key=lambda pod: (pod.started, pod.pod))


def namespace_of(app: Application, pod: PodUsage) -> str:
    """Return the namespace of a pod; if its account has none, that of the job's current compute profile."""
    if pod.namespace:
        return pod.namespace
    try:
        compute = load_compute(app.profile_of(pod.job))
    except BadApplication:
        return ""
    return compute.namespace if isinstance(compute, KubernetesCompute) else ""


def _training(app: Application, done: Done) -> Training | None:
    """The training of a run: the one in its result, or while it runs the newest one, if it started after the run."""
    mlflow = Mlflow(airflow_state.mlflow_connection())
    if done.answer and (named := done.answer.values.get("run_id")):
        return mlflow.training(str(named))
    newest, began = mlflow.newest_training(app.name), done.task.started
    return newest if newest and began and newest.started >= began else None


def _done(store: Store, run: Run, task: TaskState, result: Mapping[str, Any] | None) -> Done:
    """The result of a task's job, or the return value of a light task."""
    folder = results_of(run.dag_id, run.run_id, task.task_id, task.map_index)
    try:
        for name in sorted(store.names(*folder), key=_try_number, reverse=True):
            if name.startswith("try-") and (file := store.model(ResultFile, *folder, name, "result.json")):
                seconds = (file.ended - file.started).total_seconds()
                return Done(task, _answer(store, file.result, seconds=seconds, memory_gb=file.peak_memory_gb))
    except BadInput as error:
        return Done(task, None, str(error))
    return Done(task, _answer(store, result) if result else None)


def _answer(store: Store, result: Mapping[str, Any], **work: float) -> Answer:
    links, reports, values = {}, {}, {}
    for name, value in _flat(result):
        title = name.replace("_", " ")
        if isinstance(value, str) and value.startswith(("http://", "https://")):
            links[title] = value
        elif isinstance(value, str) and "://" in value:
            if path := _report(store, value):
                reports[title] = path
        elif name in {"verdict", "reason", "digest"} or name.endswith("_digest"):
            continue
        elif not isinstance(value, str) or 0 < len(value) <= LONGEST_VALUE:
            values[name] = value
    reasons = result.get("reasons") or ([result["reason"]] if result.get("reason") else [])
    return Answer(
        verdict=str(result.get("verdict") or ""),
        reasons=[str(reason) for reason in reasons],
        values=values,
        links=links,
        reports=reports,
        **work,
    )


def _flat(result: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """The values of a result under flat names; the names of nested ones have their parents as prefix."""
    found: list[tuple[str, Any]] = []
    for name, value in result.items():
        key = f"{before} {name}".strip()
        if isinstance(value, dict):
            found += _flat(value, key)
        elif isinstance(value, list):
            for one in value:
                if isinstance(one, dict):
                    found += _flat(one, str(one.get("night") or key))
        elif value is not None and not isinstance(value, bool):
            found.append((key, value))
    return found


def _report(store: Store, uri: str) -> str:
    """The dashboard's path of the report at, or in the partition at, a URI; "" if there is none."""
    parts = store.parts_of(uri)
    if parts[0] not in REPORTS or len(parts) <= REPORTS[parts[0]]:
        return ""
    return report_path(store.application, parts[0], parts[1 : REPORTS[parts[0]] + 1])


def _try_number(name: str) -> int:
    number = name.removeprefix("try-")
    return int(number) if number.isdigit() else 0
