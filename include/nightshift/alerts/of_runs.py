"""Alerts about DAG runs that fail, recover, or are late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict

from nightshift.alerts.alert import Alert
from nightshift.alerts.conditions import Open
from nightshift.settings.people import Kind, Severity


class Run(BaseModel):
    """A DAG run, from a callback's context or from Airflow's REST API."""

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
        """The day that it works on; None for a run that was not scheduled."""
        if self.data_interval_start is None or self.data_interval_start == self.data_interval_end:
            return None
        return f"{self.data_interval_start.astimezone(UTC):%Y-%m-%d}"

    @property
    def began(self) -> datetime | None:
        """When it was queued, or if unknown, when it started or was due."""
        return self.queued_at or self.start_date or self.run_after

    def where(self, application: str) -> str:
        """Return application, DAG and run, for a person."""
        return f"{application}, DAG {self.dag_id}, run {self.run_id}"


def failed(
    application: str, run: Run, *, tasks: list[str], links: Mapping[str, str], now: datetime, reason: str = ""
) -> Alert:
    """Return the alert about a failed run; equal for the same start of a run, whichever process notices it."""
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
        todo="read the log of the failed task, correct the cause, then clear the task in Airflow to continue the run",
        links=dict(links),
        condition=f"failed {run.dag_id}",
        # A cleared run starts again and may fail again; several runs may start in the same second.
        cause=f"{run.run_id} {run.start_date.astimezone(UTC).isoformat(timespec='seconds') if run.start_date else ''}",
    )


def works_again(application: str, run: Run, *, links: Mapping[str, str], now: datetime) -> list[Alert]:
    """Return the recoveries that a successful run of a DAG means."""
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
            (Kind.DEADLINE_MISSED, lateness(run), "finished late"),
        )
    ]


def no_longer_failed(
    held: Open, run: Run | None, successes: Iterable[Run], *, links: Mapping[str, str], now: datetime
) -> list[Alert]:
    """Return the recoveries of a failed DAG that no callback sent.

    :param held: the condition that the failure opened.
    :param run: the failed run in its current state; None: it was deleted. A cleared run may fail again.
    :param successes: the newest successful runs of the DAG.
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
    """Return the condition of a late run; each run has its own."""
    return f"late {run.dag_id} {run.run_id}"


def late(application: str, run: Run, hours: float, *, links: Mapping[str, str], now: datetime) -> Alert:
    """Return the alert about a run that is not done in time."""
    return Alert(
        application=application,
        kind=Kind.DEADLINE_MISSED,
        severity=Severity.WARNING,
        subject=f"{run.dag_id} {run.run_id}",
        night=run.night,
        title=f"{run.dag_id} is not done after {hours:g} hours",
        where=run.where(application),
        facts=[
            f"The run is {run.state or 'not done'}; its limit is {hours:g} hours: alerts.late_after_hours plus the time to "
            "wait for approvals and data."
        ],
        at=now,
        since=run.began or now,
        todo="check which task it waits for; clear a task that hangs, or mark it failed in Airflow",
        links=dict(links),
        condition=lateness(run),
        # A cleared run is queued again, and may be late again.
        occurrence=run.queued_at.astimezone(UTC).isoformat(timespec="seconds") if run.queued_at else "",
    )
