"""
### Usage

Logs to MLflow what pods used and cost: pods, hours, GPU-hours and cost of each DAG run, and of each training to the training's
own run, by the times that the nodes report and the `price_per_hour` of the compute profile. Read every hour from the accounts
that the tasks and the janitor keep in storage; the same account is never counted twice.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronTriggerTimetable

from nightshift.applications import clusters
from nightshift.orchestration.job import job

if applications := {app.name: app for _, apps in clusters() for app in apps}:
    with DAG(
        dag_id="nightshift_usage",
        description="What pods used and cost.",
        schedule=CronTriggerTimetable("17 * * * *", timezone="UTC"),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 2, "retry_delay": timedelta(minutes=1), "pool": "nightshift_jobs"},
        tags=["nightshift"],
        doc_md=__doc__,
    ):
        for name, app in sorted(applications.items()):
            job("usage", app, {}, task_id=f"usage_{name}", owner=app.owner)
