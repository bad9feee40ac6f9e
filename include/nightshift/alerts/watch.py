"""What nobody tells: tasks that hang, runs that do not come, files that cannot be read. Pure functions of what was seen.

Conditions whose name begins with one of `WATCHED` end by themselves when a look does not find them any more.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from datetime import datetime, timedelta

from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field

from nightshift.alerts.alert import Alert
from nightshift.alerts.conditions import Open
from nightshift.config import Application
from nightshift.monitoring.policy import Answer, Outcome, Request
from nightshift.people import Kind, Severity

WATCHED = ("stuck ", "import ", "budget ", "approval ", "late ", "housekeeping ")
QUEUED_TOO_LONG = timedelta(hours=1)  # without a worker that takes it
LONG = timedelta(hours=1)  # a task that runs shorter is not looked at
FAR_BEYOND = 3  # times the longest of its successful tries
OVERDUE = timedelta(hours=1)  # a scheduled run that is not even there
BUDGET_TOLD_AT = 0.8


class Task(BaseModel):
    """A task that is not done, as Airflow's REST API tells of it.

    :param longest: of its last successful tries; None: not known.
    """

    model_config = ConfigDict(extra="ignore")

    dag_id: str
    run_id: str = Field(validation_alias=AliasChoices("dag_run_id", "run_id"))
    task_id: str
    state: str | None = None
    start_date: AwareDatetime | None = None
    queued_when: AwareDatetime | None = None
    longest: timedelta | None = None

    @property
    def waits(self) -> bool:
        """Whether no worker has it yet."""
        return self.state == "queued"

    def lasts(self, now: datetime) -> timedelta:
        """Return for how long it has waited or run."""
        since = self.queued_when if self.waits else self.start_date
        return now - since if since else timedelta(0)


class Dag(BaseModel):
    """A DAG with a schedule, as Airflow's REST API tells of it."""

    model_config = ConfigDict(extra="ignore")

    dag_id: str
    is_paused: bool
    is_stale: bool = False
    next_dagrun_run_after: AwareDatetime | None = None


class Unkept(BaseModel):
    """A housekeeping DAG whose newest runs fail.

    :param run: the newest that failed; `well`: id of the newest that succeeded, "" where none did.
    """

    dag_id: str
    run: str
    ended: AwareDatetime
    well: str


class BrokenFile(BaseModel):
    """A DAG file that Airflow cannot read."""

    model_config = ConfigDict(extra="ignore")

    import_error_id: int
    filename: str
    stack_trace: str
    timestamp: AwareDatetime


def hangs(task: Task, now: datetime) -> bool:
    """Whether a task waits for a worker for hours, or runs far longer than it ever did."""
    lasts = task.lasts(now)
    if task.waits:
        return lasts > QUEUED_TOO_LONG
    return lasts > LONG and task.longest is not None and lasts > FAR_BEYOND * task.longest


def stuck(app: Application, task: Task, *, links: Mapping[str, str], now: datetime) -> Alert:
    """Return what people are told of a task that hangs."""
    lasts = _hours(task.lasts(now))
    if task.waits:
        title, facts = f"{task.dag_id}: {task.task_id} has waited for a worker for {lasts}", []
        todo = "look whether the scheduler and the workers live, and whether the pool has free slots"
    else:
        title = f"{task.dag_id}: {task.task_id} has run for {lasts}"
        facts = [f"The longest of its last ten successful tries took {_hours(task.longest or timedelta(0))}."]
        todo = "read its log; if it hangs, mark it failed in Airflow: what it runs is ended, and its retries go on"
    return Alert(
        application=app.name,
        kind=Kind.JOB_STUCK,
        severity=Severity.CRITICAL,
        subject=f"{task.dag_id} {task.run_id} {task.task_id}",
        title=title,
        where=f"{app.name}, DAG {task.dag_id}, run {task.run_id}, task {task.task_id}",
        facts=facts,
        at=now,
        since=now - task.lasts(now),
        todo=todo,
        links=dict(links),
        condition=f"stuck {task.dag_id} {task.task_id}",
        cause=f"{task.run_id} {task.state}",
    )


def not_come(app: Application, dags: Iterable[Dag], busy: set[str], *, now: datetime) -> list[Alert]:
    """Return what people are told of DAGs whose next run is overdue; one that still works on another run is not.

    :param busy: ids of the DAGs with a run that is not done.
    """
    return [
        Alert(
            application=app.name,
            kind=Kind.JOB_STUCK,
            severity=Severity.CRITICAL,
            subject=f"{dag.dag_id} {dag.next_dagrun_run_after.isoformat()}",
            title=f"{dag.dag_id} was due {_hours(now - dag.next_dagrun_run_after)} ago, and Airflow made no run",
            where=f"{app.name}, DAG {dag.dag_id}",
            at=now,
            since=dag.next_dagrun_run_after,
            todo="look whether the scheduler lives and the DAG file can be read (Airflow's home page says both)",
            condition=f"stuck schedule {dag.dag_id}",
        )
        for dag in dags
        if dag.next_dagrun_run_after
        and not (dag.is_paused or dag.is_stale or dag.dag_id in busy)
        and now - dag.next_dagrun_run_after > OVERDUE
    ]


def unreadable(app: Application, error: BrokenFile, *, now: datetime) -> Alert:
    """Return what people are told of a DAG file that Airflow cannot read; it is everybody's."""
    lines = [line for line in error.stack_trace.splitlines() if line.strip()]
    return Alert(
        application=app.name,
        kind=Kind.JOB_STUCK,
        severity=Severity.CRITICAL,
        subject=f"{error.filename} {error.import_error_id}",
        title=f"Airflow cannot read {error.filename}: its DAGs do not run",
        where=f"every application of this Airflow, file {error.filename}",
        facts=lines[-1:],
        at=now,
        since=error.timestamp,
        todo="correct the file; an application file that is wrong names its line",
        condition=f"import {error.filename}",
    )


def unkept(app: Application, dag: Unkept, *, links: Mapping[str, str], now: datetime) -> Alert:
    """Return what people are told of a housekeeping DAG that fails; it looks after every application."""
    return Alert(
        application=app.name,
        kind=Kind.JOB_FAILED,
        severity=Severity.CRITICAL,
        subject=dag.dag_id,
        title=f"{dag.dag_id} fails, which looks after every application",
        where=f"every application of this Airflow, DAG {dag.dag_id}, run {dag.run}",
        at=now,
        since=dag.ended,
        todo="read the log of its failed task, which says what to do",
        links=dict(links),
        condition=f"housekeeping {dag.dag_id}",
        occurrence=dag.well,
    )


def spent(app: Application, *, gpu_hours: float, cost: float, now: datetime) -> list[Alert]:
    """Return what people are told of a week that used most of the application's budget.

    :param gpu_hours: of the last seven days; `cost`, in the currency of the profiles' prices, too.
    """
    found = []
    for what, used, most in (
        ("GPU hours", gpu_hours, app.budget.gpu_hours_a_week),
        ("cost", cost, app.budget.cost_a_week),
    ):
        if most is None or used < BUDGET_TOLD_AT * most:
            continue
        over = used >= most
        key = "gpu_hours_a_week" if what == "GPU hours" else "cost_a_week"
        found.append(
            Alert(
                application=app.name,
                kind=Kind.BUDGET,
                severity=Severity.CRITICAL if over else Severity.WARNING,
                subject=f"{what} {now:%Y-%m-%d}",
                title=f"{used / most:.0%} of the week's {what} is used",
                where=f"{app.name}, the last seven days",
                facts=[f"{used:,.2f} of {most:,.2f} {what} (budget.{key})"],
                at=now,
                todo="nothing is stopped: snooze retraining, choose a smaller compute profile, or raise the budget",
                condition=f"budget {what}",
                cause="over" if over else "nearly",
            )
        )
    return found


def waits(app: Application, request: Request, *, links: Mapping[str, str], now: datetime) -> Alert | None:
    """Return the reminder of a request that is due now; None before the first one."""
    asked = now - request.asked
    number = int(asked / timedelta(hours=app.approval.remind_hours))
    if number < 1 or now >= request.until:
        return None
    return Alert(
        application=app.name,
        kind=Kind.APPROVAL_WAITS,
        severity=Severity.WARNING,
        subject=f"version {request.version}",
        title=f"still waits for an answer: {request.subject}",
        where=f"{request.dag_id} {request.run_id}",
        facts=[f"It was asked {_hours(asked)} ago; {_hours(request.until - now)} are left."],
        at=now,
        since=request.asked,
        todo=f"approve or reject it before {request.until:%Y-%m-%d %H:%M} UTC; no answer is a no",
        links=dict(links),
        condition=f"approval {request.id}",
        cause=f"{request.id} reminder {number}",
    )


def lost(app: Application, outcome: Outcome, *, now: datetime) -> Alert:
    """Return what people are told of a retraining that nobody ended: no task is left to tell it."""
    return Alert(
        application=app.name,
        kind=Kind.RETRAINING_FINISHED,
        severity=Severity.WARNING,
        subject=f"retraining {outcome.number}",
        title=f"retraining {outcome.number} is given up for lost",
        where=f"{app.name}, DAG {app.name}_finetune, run {outcome.run_id or 'none'}",
        facts=[outcome.explanation],
        at=now,
        since=outcome.ended,
        todo=f"look why {app.name}_finetune did not run or end (is it paused?); the next failing night may order another",
        condition="retraining failed",
        cause=f"{outcome.number} lost",
    )


def over(held: Iterable[Open], still: Container[str], answers: Mapping[str, Answer], *, now: datetime) -> list[Alert]:
    """Return the recoveries of watched conditions that a look did not find any more.

    :param still: the conditions that it found.
    :param answers: to requests, by their id.
    :param now: when the look began: what was told after that is not over.
    """
    ended = []
    for one in held:
        alert = one.alert
        if not alert.condition.startswith(WATCHED) or alert.condition in still or alert.at >= now:
            continue
        answer = answers.get(alert.condition.removeprefix("approval "))
        said = f"{answer.answer} by {answer.by or 'nobody'}" if answer else "it is over"
        ended.append(
            alert.model_copy(
                update={
                    "good": True,
                    "title": f"{said}: {alert.title}",
                    "severity": Severity.INFO,
                    "facts": [],
                    "todo": "",
                    "explains": [],
                    "at": now,
                }
            )
        )
    return ended


def _hours(lasts: timedelta) -> str:
    hours = lasts / timedelta(hours=1)
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"
