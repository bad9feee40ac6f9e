"""Alerts that no task reports: tasks that hang, overdue runs, and the ends of conditions. Pure functions.

Conditions with a prefix in `WATCHED` end when a look no longer finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from datetime import datetime, timedelta

from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field

from nightshift.alerts.alert import Alert
from nightshift.alerts.conditions import TOLD_AGAIN_AFTER, Open, quiet_since
from nightshift.ledger.records import AlertResponse, Answer
from nightshift.settings.people import Kind, Severity

WATCHED = ("stuck ", "import ", "budget ", "approval ", "late ", "housekeeping ", "paused ")
WAITS_TOO_LONG = timedelta(hours=1)  # for a slot of its pool, or for a worker that takes it
LONG = timedelta(hours=1)  # shorter tasks are not checked
FAR_BEYOND = 3  # times the longest of its successful tries
OVERDUE = timedelta(hours=1)  # of a scheduled run that Airflow has not created


class Task(BaseModel):
    """An unfinished task instance, from Airflow's REST API.

    :param longest: the longest of its last successful tries; None: unknown.
    """

    model_config = ConfigDict(extra="ignore")

    dag_id: str
    run_id: str = Field(validation_alias=AliasChoices("dag_run_id", "run_id"))
    task_id: str
    state: str | None = None
    start_date: AwareDatetime | None = None
    scheduled_when: AwareDatetime | None = None
    queued_when: AwareDatetime | None = None
    pool: str = ""
    operator: str | None = None  # name of its class
    longest: timedelta | None = None

    @property
    def waits(self) -> bool:
        """Whether it waits for a slot of its pool (scheduled), or for a worker (queued)."""
        return self.state in {"scheduled", "queued"}

    @property
    def waits_by_design(self) -> bool:
        """Whether it is a sensor, which has a time limit of its own."""
        return (self.operator or "").endswith("Sensor")

    @property
    def since(self) -> datetime | None:
        """When it began to wait or to run."""
        return {"scheduled": self.scheduled_when, "queued": self.queued_when}.get(self.state or "", self.start_date)

    def lasts(self, now: datetime) -> timedelta:
        """Return for how long it has waited or run."""
        return now - self.since if self.since else timedelta(0)


class Dag(BaseModel):
    """A scheduled DAG, from Airflow's REST API."""

    model_config = ConfigDict(extra="ignore")

    dag_id: str
    is_paused: bool
    is_stale: bool = False
    next_dagrun_run_after: AwareDatetime | None = None


def hangs(task: Task, now: datetime) -> bool:
    """Whether a task waits too long for a slot or a worker, or runs far longer than its successful tries."""
    lasts = task.lasts(now)
    if task.waits:
        return lasts > WAITS_TOO_LONG
    return not task.waits_by_design and lasts > LONG and task.longest is not None and lasts > FAR_BEYOND * task.longest


def stuck(application: str, task: Task, *, links: Mapping[str, str], now: datetime) -> Alert:
    """Return the alert about a task that hangs. A full pool is only a warning, since other tasks make progress."""
    lasts, facts = hours(task.lasts(now)), []
    if task.state == "scheduled":
        title = f"{task.dag_id}: {task.task_id} has waited for a slot of the pool {task.pool} for {lasts}"
        todo = "check which tasks use the pool (Admin, Pools in Airflow); add slots if the machines have room"
    elif task.waits:
        title = f"{task.dag_id}: {task.task_id} has waited for a worker for {lasts}"
        todo = "check whether the scheduler and the workers are running"
    else:
        title = f"{task.dag_id}: {task.task_id} has run for {lasts}"
        facts = [f"The longest of its last ten successful tries took {hours(task.longest or timedelta(0))}."]
        todo = "read its log; if it hangs, mark it failed in Airflow: its process is ended"
    return Alert(
        application=application,
        kind=Kind.JOB_STUCK,
        severity=Severity.WARNING if task.state == "scheduled" else Severity.CRITICAL,
        subject=f"{task.dag_id} {task.run_id} {task.task_id}",
        title=title,
        where=f"{application}, DAG {task.dag_id}, run {task.run_id}, task {task.task_id}",
        facts=facts,
        at=now,
        since=now - task.lasts(now),
        todo=todo,
        links=dict(links),
        condition=f"stuck {task.dag_id} {task.task_id}",
        cause=f"{task.run_id} {task.state}",
        # The next try may hang, too.
        occurrence=f"{task.since:%Y-%m-%dT%H:%M:%S}" if task.since else "",
    )


def not_come(application: str, dags: Iterable[Dag], busy: set[str], *, now: datetime) -> list[Alert]:
    """Return the alerts about DAGs whose next run is overdue, except DAGs that are still busy with another run.

    :param busy: ids of the DAGs with an unfinished run.
    """
    return [
        Alert(
            application=application,
            kind=Kind.JOB_STUCK,
            severity=Severity.CRITICAL,
            subject=f"{dag.dag_id} {dag.next_dagrun_run_after.isoformat()}",
            title=f"{dag.dag_id} was due {hours(now - dag.next_dagrun_run_after)} ago, and Airflow made no run",
            where=f"{application}, DAG {dag.dag_id}",
            at=now,
            since=dag.next_dagrun_run_after,
            todo="check whether the scheduler is running and the DAG file is readable (Airflow's home page shows both)",
            condition=f"stuck schedule {dag.dag_id}",
        )
        for dag in dags
        if dag.next_dagrun_run_after
        and not (dag.is_paused or dag.is_stale or dag.dag_id in busy)
        and now - dag.next_dagrun_run_after > OVERDUE
    ]


def with_recurrence(
    alerts: Iterable[Alert], held: Iterable[Open], known: Callable[[str], bool], *, now: datetime
) -> list[Alert]:
    """Return the alerts, with a new occurrence if the condition is open for a week, or is back after it had ended.

    :param held: the open conditions.
    :param known: whether the alert with an id was sent before.
    """
    by_condition = {one.alert.condition: one for one in held}
    found = []
    for alert in alerts:
        one, again = by_condition.get(alert.condition), None
        if one and now - one.told >= TOLD_AGAIN_AFTER:
            again = one.told
        # A late run that ends sends its own recovery, maybe during this look.
        elif not one and alert.kind is not Kind.DEADLINE_MISSED and known(alert.id):
            again = now
        found.append(
            alert.model_copy(update={"occurrence": f"{alert.occurrence} {again.isoformat()}"}) if again else alert
        )
    return found


def still_true(held: Iterable[Open], responses: Mapping[str, AlertResponse], *, now: datetime) -> list[Alert]:
    """Return alerts about conditions that are still open when their acknowledgement or silence ends.

    :param responses: the newest response to each condition, by the condition.
    """
    found = []
    for one in held:
        alert, response = one.alert, responses.get(one.alert.condition)
        if response and quiet_since(one, response, now):
            told = {
                "title": f"still holds: {alert.title.removeprefix('still holds: ')}",
                "severity": one.severity,
                "facts": [response.sentence, *(fact for fact in alert.facts if fact != response.sentence)],
                "explains": [],
                "at": now,
                "occurrence": f"{alert.occurrence} {response.id}",
                "quiet": False,
            }
            found.append(alert.model_copy(update=told))
    return found


def over(held: Iterable[Open], still: Container[str], answers: Mapping[str, Answer], *, now: datetime) -> list[Alert]:
    """Return the recoveries of watched conditions that a look no longer found.

    :param still: the conditions that it found.
    :param answers: answers to requests, by id.
    :param now: when the look began; conditions that opened later are not over.
    """
    ended = []
    for one in held:
        alert = one.alert
        if not alert.condition.startswith(WATCHED) or alert.condition in still or alert.at >= now:
            continue
        answer = answers.get(alert.condition.removeprefix("approval "))
        ending = f"{answer.answer} by {answer.by or 'nobody'}" if answer else "it is over"
        ended.append(
            alert.model_copy(
                update={
                    "good": True,
                    "title": f"{ending}: {alert.title}",
                    "severity": Severity.INFO,
                    "facts": [],
                    "todo": "",
                    "explains": [],
                    "quiet": False,
                    "at": now,
                }
            )
        )
    return ended


def hours(lasts: timedelta) -> str:
    """Return a duration as text."""
    number = lasts / timedelta(hours=1)
    return f"{number:.1f} hours" if number >= 1 else f"{number * 60:.0f} minutes"
