"""The common arguments of an application's DAGs, and of the housekeeping DAGs that serve all applications."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from typing import Any

from airflow.sdk import DAG, CronDataIntervalTimetable, CronTriggerTimetable, get_parsing_context

from nightshift.orchestration.forms import optional_interval
from nightshift.orchestration.telling import run_callbacks
from nightshift.settings.application import Application
from nightshift.settings.applications import BadApplication, load_application, readable_applications
from nightshift.settings.pools import LIGHT_POOL
from nightshift.settings.schedule import interval_holding

# A task's priority counts its upstream tasks, so that runs in progress finish before new ones start. Airflow's default
# counts downstream tasks, and would start ten trainings before the first evaluation.
FINISH_FIRST = "upstream"
MOST_WAITING = 16  # runs of one DAG whose data may still arrive


def applications_to_parse(kind: str) -> list[Application]:
    """Return the applications whose DAG `<application>_<kind>` this process needs.

    Airflow's DAG processor needs all of them. The process of a task parses the same file for the one DAG of its task, and
    reads that application alone.
    """
    dag_id = get_parsing_context().dag_id
    if dag_id is None:
        return readable_applications()
    if dag_id.endswith(f"_{kind}"):
        with suppress(BadApplication):
            return [load_application(dag_id.removesuffix(f"_{kind}"))]
    return []


def application_dag(app: Application, name: str, summary: str, **arguments: Any) -> DAG:
    """Return the DAG `name` of an application, with one active run at a time unless `arguments` say otherwise.

    Its tasks use the pool of light tasks; jobs name their own pools.
    """
    return DAG(
        dag_id=f"{app.name}_{name}",
        description=f"{summary} {app.description}",
        start_date=datetime.combine(app.start, time(), app.zone).astimezone(UTC),
        default_args={
            "owner": app.owner,
            "retries": 2,
            "retry_delay": timedelta(seconds=30),
            "pool": LIGHT_POOL,
            "priority_weight": app.priority,
            "weight_rule": FINISH_FIRST,
        },
        tags=["nightshift", app.name],
        **run_callbacks(app, f"{app.name}_{name}"),
        **{"catchup": False, "max_active_runs": 1, **arguments},
    )


def housekeeping_dag(name: str, summary: str, cron: str, **arguments: Any) -> DAG:
    """Return the DAG `nightshift_<name>`, which runs on a schedule for all applications together."""
    return DAG(
        dag_id=f"nightshift_{name}",
        description=summary,
        schedule=CronTriggerTimetable(cron, timezone="UTC"),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        # Housekeeping must run from the start; a DAG that nobody unpaused would be missing when it is needed.
        is_paused_upon_creation=False,
        # Not in the pool of the jobs: jobs that wait for a full cluster would block it.
        default_args={
            "owner": "nightshift",
            "retries": 2,
            "retry_delay": timedelta(minutes=1),
            "weight_rule": FINISH_FIRST,
        },
        tags=["nightshift"],
        **arguments,
    )


def _intervals_that_wait(app: Application) -> int:
    """How many intervals end within the arrival hours: none for a daily application with two arrival hours."""
    if not app.schedule:
        return 0
    start, end = interval_holding(app.schedule, datetime.combine(app.start, time(12), UTC), app.zone)
    return min(MOST_WAITING, int(timedelta(hours=app.clock.arrival_hours) / (end - start)))


def daily(app: Application, doing: str) -> dict[str, Any]:
    """Return the arguments of a DAG that processes data intervals in order and can be backfilled.

    :param doing: the verb in the form's description of the interval, as in "to ingest".
    """
    return {
        "schedule": CronDataIntervalTimetable(app.schedule, timezone=app.timezone) if app.schedule else None,
        "end_date": datetime.combine(app.end, time.max, app.zone).astimezone(UTC) if app.end else None,
        "catchup": app.catch_up,
        # One run works; runs whose data may still arrive wait without blocking later runs.
        "max_active_runs": 2 + _intervals_that_wait(app),
        "params": {"day": optional_interval(app, doing)},
    }
