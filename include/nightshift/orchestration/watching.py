"""Looks after what nobody tells, for the DAG `nightshift_alerts`: through Airflow's REST API, the ledger and the accounts."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from pydantic import ValidationError
from upath import UPath

from nightshift.alerts import watch
from nightshift.alerts.alert import Alert
from nightshift.alerts.of_runs import Run, failed, late
from nightshift.alerts.outbox import Outbox
from nightshift.config import Application
from nightshift.jobs.usage import PodUsage, total
from nightshift.monitoring.policy import Answer
from nightshift.monitoring.published_nights import names_in
from nightshift.monitoring.records import Records
from nightshift.orchestration.airflow_rest import AirflowRest
from nightshift.orchestration.telling import late_after, run_links, run_of, tell

LOOKED_BACK = timedelta(hours=24)  # at failed runs; what was told is not told again
# A failed run's own callback knows more of it, and has this long to tell.
CALLBACK_TIME = timedelta(minutes=2)
UNFINISHED = ["queued", "running", "deferred", "awaiting_input", "up_for_retry", "up_for_reschedule", "scheduled"]
WEEK = 7  # days
HOUSEKEEPING = "nightshift_"  # how the ids of the DAGs begin that are nobody's and everybody's

log = logging.getLogger(__name__)


@dataclass
class Seen:
    """What Airflow says about the DAGs of all applications, those of one application by its name."""

    began: datetime
    failed: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    unfinished: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    tasks: dict[str, list[watch.Task]] = field(default_factory=lambda: defaultdict(list))
    dags: dict[str, list[watch.Dag]] = field(default_factory=lambda: defaultdict(list))
    broken: list[watch.BrokenFile] = field(default_factory=list)
    unkept: list[watch.Unkept] = field(default_factory=list)


def see(rest: AirflowRest, names: Iterable[str]) -> Seen:
    """Ask Airflow for everything that is looked at, a page at a time.

    :param names: of the applications.
    :raises AirflowException: Airflow does not answer, or refuses.
    """
    now, known = datetime.now(UTC), set(names)
    seen, owner, everybodys = Seen(began=now), {}, set()
    for dag in rest.all("dags", "dags", tags="nightshift"):
        if name := next((tag["name"] for tag in dag["tags"] if tag["name"] in known), None):
            owner[dag["dag_id"]] = name
            seen.dags[name].append(watch.Dag.model_validate(dag))
        elif dag["dag_id"].startswith(HOUSEKEEPING):
            everybodys.add(dag["dag_id"])
    fails: dict[str, Run] = {}
    since = {"end_date_gte": (now - LOOKED_BACK).isoformat(), "end_date_lte": (now - CALLBACK_TIME).isoformat()}
    for run in rest.all("dags/~/dagRuns", "dag_runs", state="failed", **since):
        if run["dag_id"] in owner:
            seen.failed[owner[run["dag_id"]]].append(run_of(run))
        elif run["dag_id"] in everybodys:
            fails[run["dag_id"]] = max(run_of(run), fails.get(run["dag_id"], run_of(run)), key=_ended)
    seen.unkept = [one for run in fails.values() if (one := _unkept(rest, run))]
    for run in rest.all("dags/~/dagRuns", "dag_runs", state=["queued", "running"]):
        if run["dag_id"] in owner:
            seen.unfinished[owner[run["dag_id"]]].append(run_of(run))
    for task in rest.all("dags/~/dagRuns/~/taskInstances", "task_instances", state=UNFINISHED):
        if task["dag_id"] in owner:
            seen.tasks[owner[task["dag_id"]]].append(_with_history(rest, watch.Task.model_validate(task), now))
    seen.broken = [watch.BrokenFile.model_validate(error) for error in rest.all("importErrors", "import_errors")]
    return seen


def look_after(app: Application, storage: str, rest: AirflowRest, seen: Seen) -> int:
    """Tell what is to be told of one application, and what is over; return how much of it is news.

    :raises OSError: storage cannot be read or written.
    """
    outbox, now = Outbox(storage, app.name), seen.began
    found = [*_failures(app, outbox, rest, seen), *_lost(app, storage, now)]
    watched = [*_of_airflow(app, seen), *_of_budget(app, storage, now)]
    waiting, reminders, answers = _of_approvals(app, storage, seen)
    still = {alert.condition for alert in watched} | waiting
    over = watch.over(outbox.held(), still, answers, now=now)
    news = tell(app, [*found, *watched, *reminders, *over], storage)
    outbox.looked(datetime.now(UTC))
    return news


def _unkept(rest: AirflowRest, fails: Run) -> watch.Unkept | None:
    """A housekeeping DAG that failed, unless a later run of it succeeded."""
    path = f"dags/{quote(fails.dag_id, safe='')}/dagRuns"
    runs = [run_of(run) for run in rest.get(path, state="success", order_by="-end_date", limit=1)["dag_runs"]]
    if runs and _ended(runs[0]) > _ended(fails):
        return None
    return watch.Unkept(dag_id=fails.dag_id, run=fails.run_id, ended=_ended(fails), well=runs[0].run_id if runs else "")


def _ended(run: Run) -> datetime:
    return run.end_date or datetime.min.replace(tzinfo=UTC)


def _with_history(rest: AirflowRest, task: watch.Task, now: datetime) -> watch.Task:
    """A task that runs long, with how long it ever took."""
    if task.waits or task.state == "awaiting_input" or task.lasts(now) < watch.LONG:
        return task
    path = f"dags/{quote(task.dag_id, safe='')}/dagRuns/~/taskInstances"
    query = {"task_id": task.task_id, "state": "success", "order_by": "-start_date", "limit": 10}
    durations = [one["duration"] for one in rest.get(path, **query)["task_instances"] if one["duration"] is not None]
    return task.model_copy(update={"longest": timedelta(seconds=max(durations)) if durations else None})


def _failures(app: Application, outbox: Outbox, rest: AirflowRest, seen: Seen) -> list[Alert]:
    """Failed runs that nobody told: their callback was lost, or never called."""
    found = []
    for run in seen.failed[app.name]:
        links = run_links(app.name, run.dag_id, run.run_id)
        alert = failed(app.name, run, tasks=[], links=links, now=seen.began)
        if outbox.knows(alert.id):
            continue
        path = f"dags/{quote(run.dag_id, safe='')}/dagRuns/{quote(run.run_id, safe='')}/taskInstances"
        tasks = sorted({task["task_id"] for task in rest.all(path, "task_instances", state="failed")})
        found.append(failed(app.name, run, tasks=tasks, links=links, now=seen.began))
    return found


def _of_airflow(app: Application, seen: Seen) -> list[Alert]:
    now, unfinished = seen.began, seen.unfinished[app.name]
    found = [
        late(app.name, run, hours, links=run_links(app.name, run.dag_id, run.run_id), now=now)
        for run in unfinished
        for hours in [late_after(app, run.dag_id)]
        if run.began and now - run.began > timedelta(hours=hours)
    ]
    found += [
        watch.stuck(app, task, links=run_links(app.name, task.dag_id, task.run_id), now=now)
        for task in seen.tasks[app.name]
        if watch.hangs(task, now)
    ]
    found += watch.not_come(app, seen.dags[app.name], {run.dag_id for run in unfinished}, now=now)
    found += [watch.unkept(app, dag, links=run_links(app.name, dag.dag_id, dag.run), now=now) for dag in seen.unkept]
    return found + [watch.unreadable(app, error, now=now) for error in seen.broken]


def _of_budget(app: Application, storage: str, now: datetime) -> list[Alert]:
    """What the pods of the last seven days used, from the accounts that tasks and the janitor keep."""
    if app.budget.gpu_hours_a_week is None and app.budget.cost_a_week is None:
        return []
    pods = []
    for back in range(WEEK + 1):
        day = UPath(storage) / app.name / "usage" / (now - timedelta(days=back)).date().isoformat()
        for name in names_in(day):
            try:
                pod = PodUsage.model_validate_json((day / name).read_bytes())
            except ValidationError as error:
                log.warning("%s is no account of a pod and is left out: %s", day / name, error)
                continue
            if now - pod.ended <= timedelta(days=WEEK):
                pods.append(pod)
    used = total(pods)
    return watch.spent(app, gpu_hours=used.gpu_hours, cost=used.cost, now=now)


def _of_approvals(app: Application, storage: str, seen: Seen) -> tuple[set[str], list[Alert], dict[str, Answer]]:
    """The conditions of requests that wait, reminders that are due, and the answers."""
    records = Records(storage, app.name)
    requests = records.requests()
    answers = records.answers(requests)
    waiting_tasks = {(task.dag_id, task.run_id, task.task_id) for task in seen.tasks[app.name]}
    waiting, reminders = set(), []
    for request in requests.values():
        # One that was asked while we looked is in no list of tasks yet.
        new = seen.began - request.asked < CALLBACK_TIME
        if request.id in answers or not (new or (request.dag_id, request.run_id, request.task_id) in waiting_tasks):
            continue
        waiting.add(f"approval {request.id}")
        links = run_links(app.name, request.dag_id, request.run_id)
        if reminder := watch.waits(app, request, links=links, now=seen.began):
            reminders.append(reminder)
    return waiting, reminders, answers


def _lost(app: Application, storage: str, now: datetime) -> list[Alert]:
    """Retrainings that the ledger gave up lately; their alerts are few, and each is told once."""
    records = Records(storage, app.name)
    numbers = [name.removesuffix(".json") for name in names_in(UPath(storage) / app.name / "ledger" / "outcomes")][-3:]
    outcomes = [records.outcome(int(number)) for number in numbers if number.isdigit()]
    return [
        watch.lost(app, outcome, now=now)
        for outcome in outcomes
        if outcome and outcome.result == "lost" and now - outcome.ended < LOOKED_BACK
    ]
