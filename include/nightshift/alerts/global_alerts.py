"""Alerts about an Airflow as a whole: kept in an outbox of their own, so that each route gets them once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict

from nightshift.alerts.alert import Alert
from nightshift.alerts.watch import Dag
from nightshift.settings.application import Application
from nightshift.settings.people import Alerts, Kind, Severity

ALL_APPLICATIONS = "all-applications"  # reserved: not a valid name of an application


class BrokenFile(BaseModel):
    """A DAG file that Airflow cannot read.

    :param timestamp: when Airflow last tried; Airflow may reuse its id for another error.
    """

    model_config = ConfigDict(extra="ignore")

    filename: str
    stack_trace: str
    timestamp: AwareDatetime


class FailedHousekeeping(BaseModel):
    """A housekeeping DAG whose newest run failed.

    :param last_success: id of the newest successful run, "" without one.
    """

    dag_id: str
    run: str
    ended: AwareDatetime
    last_success: str


def all_applications(apps: Iterable[Application]) -> Application:
    """Return all applications as one, with the routes of each; routes to the same destination are merged."""
    settings = [app.alerts for app in apps]
    alerts = Alerts(
        routes=[route for one in settings for route in one.routes],
        max_an_hour=max((one.max_an_hour for one in settings), default=Alerts().max_an_hour),
    )
    # Not validated: an application must not have this name, nor lack sources.
    return Application.model_construct(name=ALL_APPLICATIONS, sources=[], alerts=alerts)


def unreadable(error: BrokenFile, *, now: datetime) -> Alert:
    """Return the alert about a DAG file that Airflow cannot read."""
    lines = [line for line in error.stack_trace.splitlines() if line.strip()]
    return Alert(
        application=ALL_APPLICATIONS,
        kind=Kind.JOB_STUCK,
        severity=Severity.CRITICAL,
        subject=error.filename,
        title=f"Airflow cannot read {error.filename}: its DAGs do not run",
        where=f"every application of this Airflow, file {error.filename}",
        facts=lines[-1:],
        at=now,
        since=error.timestamp,
        todo="correct the file; an application file that is wrong names its line",
        condition=f"import {error.filename}",
        # The trace has other addresses, process ids and times at each try of Airflow.
        cause=re.sub(r"0x[0-9a-f]+|\d+", "#", lines[-1]) if lines else "",
    )


def housekeeping_failed(dag: FailedHousekeeping, *, links: Mapping[str, str], now: datetime) -> Alert:
    """Return the alert about a failed housekeeping DAG."""
    return Alert(
        application=ALL_APPLICATIONS,
        kind=Kind.JOB_FAILED,
        severity=Severity.CRITICAL,
        subject=dag.dag_id,
        title=f"{dag.dag_id} fails, which serves all applications",
        where=f"every application of this Airflow, DAG {dag.dag_id}, run {dag.run}",
        at=now,
        since=dag.ended,
        todo="read the log of its failed task",
        links=dict(links),
        condition=f"housekeeping {dag.dag_id}",
        occurrence=dag.last_success,
    )


def paused(dag: Dag, *, now: datetime) -> Alert:
    """Return the alert about a paused housekeeping DAG."""
    return Alert(
        application=ALL_APPLICATIONS,
        kind=Kind.JOB_STUCK,
        severity=Severity.WARNING,
        subject=dag.dag_id,
        title=f"{dag.dag_id} is paused, which serves all applications",
        where=f"every application of this Airflow, DAG {dag.dag_id}",
        at=now,
        todo="unpause it in Airflow; its audit log says who paused it",
        condition=f"paused {dag.dag_id}",
    )
