"""What a DAG run says to people: it failed, works again, or is late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict

from nightshift.alerts.alert import Alert
from nightshift.alerts.conditions import Open
from nightshift.settings.people import Kind, Severity


class Run(BaseModel):
    """A DAG run, as Airflow's contexts and its REST API both tell of it."""

    model_config = ConfigDict(extra="ignore", from_attributes=True)

    dag_id: str
    run_id: str
    state: str = ""
    queued_at: AwareDatetime | None = None
    start_date: AwareDatetime | None = None
    end_date: AwareDatetime | None = None
    run_after: AwareDatetime | None = None
    data_interval_start: AwareDatetime | None = None
    data_interval_end: AwareDatetime | None = None

    @property
    def night(self) -> str | None:
        """The day that it works on; none where it was not the clock that started it."""
        if self.data_interval_start is None or self.data_interval_start == self.data_interval_end:
            return None
        return f"{self.data_interval_start.astimezone(UTC):%Y-%m-%d}"

    @property
    def began(self) -> datetime | None:
        """When it was queued, or, where nobody says that, when it started or was due."""
        return self.queued_at or self.start_date or self.run_after

    def where(self, application: str) -> str:
        """Return where it is, for a person."""
        return f"{application}, DAG {self.dag_id}, run {self.run_id}"


def failed(
    application: str, run: Run, *, tasks: list[str], links: Mapping[str, str], now: datetime, reason: str = ""
) -> Alert:
    """Return what people are told of a run that failed. Of one try of a run it is the same, whoever tells it."""
    what = f"{', '.join(tasks)} failed" if tasks else "it failed"
    facts = [f"Airflow says: {reason}"] if reason and reason != "task_failure" else []
    return Alert(
        application=application,
        kind=Kind.JOB_FAILED,
        severity=Severity.CRITICAL,
        subject=f"{run.dag_id} {run.run_id}",
        night=run.night,
        title=f"{run.dag_id}: {what}",
        where=run.where(application),
        facts=facts,
        at=now,
        since=run.end_date or now,
        todo="read the log of the failed task; when the cause is mended, clear the task in Airflow, and the run goes on",
        links=dict(links),
        condition=f"failed {run.dag_id}",
        # A run that was cleared begins anew, and may fail anew; several runs may begin in the same second.
        cause=f"{run.run_id} {run.start_date.astimezone(UTC).isoformat(timespec='seconds') if run.start_date else ''}",
    )


def works_again(application: str, run: Run, *, links: Mapping[str, str], now: datetime) -> list[Alert]:
    """Return the recoveries that a successful run of a DAG is, where there is something to recover from."""
    return [
        Alert(
            application=application,
            kind=kind,
            severity=Severity.INFO,
            subject=run.dag_id,
            night=run.night,
            title=f"{run.dag_id} {word}",
            where=run.where(application),
            at=now,
            links=dict(links),
            condition=condition,
            good=True,
        )
        for kind, condition, word in (
            (Kind.JOB_FAILED, f"failed {run.dag_id}", "works again"),
            (Kind.DEADLINE_MISSED, lateness(run), "is done, although late"),
        )
    ]


def no_longer_failed(
    held: Open, run: Run | None, successes: Iterable[Run], *, links: Mapping[str, str], now: datetime
) -> list[Alert]:
    """Return the recoveries of a DAG that failed, where nobody told them.

    :param held: the condition that the failure opened.
    :param run: the run that failed, as it is now; None: it was deleted. One that was cleared may fail again.
    :param successes: the newest runs of the DAG that succeeded.
    """
    alert = held.alert
    if run is None:
        gone = {"good": True, "title": f"the run that failed was deleted: {alert.title}", "severity": Severity.INFO}
        return [alert.model_copy(update={**gone, "facts": [], "todo": "", "at": now})]
    if run.state == "success":
        return works_again(alert.application, run, links=links, now=now)
    if run.state != "failed" or run.end_date is None:
        return []
    later = [one for one in successes if one.end_date and one.end_date > run.end_date]
    return [good for one in later for good in works_again(alert.application, one, links=links, now=now)]


def lateness(run: Run) -> str:
    """Return the condition that a run is late: of two that are, each is over for itself."""
    return f"late {run.dag_id} {run.run_id}"


def late(application: str, run: Run, hours: float, *, links: Mapping[str, str], now: datetime) -> Alert:
    """Return what people are told of a run that is not done in time."""
    return Alert(
        application=application,
        kind=Kind.DEADLINE_MISSED,
        severity=Severity.WARNING,
        subject=f"{run.dag_id} {run.run_id}",
        night=run.night,
        title=f"{run.dag_id} is not done after {hours:g} hours",
        where=run.where(application),
        facts=[
            f"The run is {run.state or 'not done'}; it may take {hours:g} hours: alerts.late_after_hours, and the time of "
            "people who are asked."
        ],
        at=now,
        since=run.began or now,
        todo="look which task it waits for; a task that hangs is cleared or marked failed in Airflow",
        links=dict(links),
        condition=lateness(run),
        # A run that was cleared is queued anew, and may be late anew.
        occurrence=run.queued_at.astimezone(UTC).isoformat(timespec="seconds") if run.queued_at else "",
    )
