"""Tells people what happens: from tasks, from the callbacks of DAGs and deadlines, and never at the cost of a run.

Whatever is told lies in the application's outbox first. What cannot be sent at once, the DAG `nightshift_alerts` sends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference
from airflow.sdk.configuration import conf

from nightshift.applications import load_application
from nightshift.config import Application
from nightshift.orchestration.attempt import storage_uri
from nightshift.orchestration.links import links_of, report_page, run_page

if TYPE_CHECKING:
    from nightshift.alerts.alert import Alert
    from nightshift.alerts.of_runs import Run
    from nightshift.alerts.outbox import Outbox
    from nightshift.jobs.contract import JobSpec

AT_ONCE_SECONDS = 15  # that a task spends on telling; the rest is left to the DAG
# How often the DAG delivers; a route that just failed is left to it.
DRAINED_EVERY = timedelta(minutes=5)

log = logging.getLogger(__name__)


def tell(app: Application, alerts: Iterable[Alert], storage: str | None = None) -> int:
    """Keep alerts in the application's outbox and send them at once; return how many of them are news.

    Never raises: what it cannot do, it logs.

    :param storage: URI of the storage; None: this Airflow's.
    """
    news = 0
    try:
        outbox = _outbox(app.name, storage)
        if news := keep(outbox, alerts):
            from nightshift.alerts.delivery import deliver

            deliver(app, outbox, seconds=AT_ONCE_SECONDS, rest_after_trouble=DRAINED_EVERY)
    except Exception:
        log.exception(
            "alerts of %s could not be sent now; what is kept, the next run of nightshift_alerts sends", app.name
        )
    return news


def keep(outbox: Outbox, alerts: Iterable[Alert]) -> int:
    """Keep alerts, and return how many of them are news. Never raises: one that cannot be kept stops no other."""
    news = 0
    for alert in alerts:
        try:
            news += outbox.accept(alert)
        except Exception:
            log.exception("an alert of %s could not be kept: %s", alert.application, alert.title)
    return news


def tell_of_result(
    app: Application, job: str, spec: JobSpec, result: Mapping[str, Any], context: Mapping[str, Any]
) -> None:
    """Tell what follows for people from a job's result. Never raises."""
    try:
        from nightshift.alerts.of_jobs import Told, alerts_of
        from nightshift.alerts.of_runs import Run, failed

        now, ti, run = datetime.now(UTC), context["ti"], Run.model_validate(context["dag_run"])
        found = links_of(app.name, run.dag_id, run.run_id, result)
        told = Told(
            application=app,
            where=f"{run.where(app.name)}, task {ti.task_id}",
            links={"Task log": ti.log_url, **{name: url for name, url in found.items() if name != "Pods"}},
            report_page=partial(report_page, app.name),
            failure=failed(app.name, run, tasks=[], links={}, now=now).id,
            now=now,
        )
        alerts = alerts_of(job, spec, result, told)
    except Exception:
        log.exception("what the result of %s says to people could not be told", job)
        return
    tell(app, alerts, spec.storage)


def run_links(application: str, dag_id: str, run_id: str) -> dict[str, str]:
    """Return the pages about a run, in Airflow and in the dashboard."""
    base = str(conf.get("api", "base_url", fallback="")).rstrip("/")
    return {
        "Run": f"{base}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}",
        "Nightshift": run_page(application, dag_id, run_id),
    }


def telling_of_runs(app: Application, dag_id: str) -> dict[str, Any]:
    """Return the arguments of a DAG that have people told when its runs fail, work again, or are late.

    Airflow calls the first two in the DAG processor when a run has ended, however its tasks died; the one of the deadline
    in the triggerer.
    """
    return {
        "on_failure_callback": partial(_run_failed, app.name),
        "on_success_callback": partial(_run_succeeded, app.name),
        "deadline": DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=timedelta(hours=late_after(app, dag_id)),
            callback=AsyncCallback(run_is_late, kwargs={"application": app.name}),
        ),
    }


async def run_is_late(application: str, context: Mapping[str, Any]) -> None:
    """Keep that a run is late; the DAG `nightshift_alerts` sends it. The triggerer's event loop waits for nothing."""
    await asyncio.to_thread(_keep_late, application, context["dag_run"])


def _keep_late(application: str, answer: Mapping[str, Any]) -> None:
    try:
        from nightshift.alerts.of_runs import late

        app, run = load_application(application), run_of(answer)
        # Airflow looks at the deadline of a run that failed before it, too: that one is told as failed.
        if run.state in {"queued", "running"}:
            links = run_links(application, run.dag_id, run.run_id)
            alert = late(application, run, late_after(app, run.dag_id), links=links, now=datetime.now(UTC))
            keep(_outbox(application), [alert])
    except Exception:
        log.exception("that a run of %s is late could not be kept", application)


def late_after(app: Application, dag_id: str) -> float:
    """Return how many hours a run of a DAG may take; people who are asked have their own time."""
    asks = app.approval.required != "never" and dag_id == f"{app.name}_release"
    return app.alerts.late_after_hours + (app.approval.timeout_hours if asks else 0)


def run_of(answer: Mapping[str, Any]) -> Run:
    """Return a run as Airflow's REST API tells of it."""
    from nightshift.alerts.of_runs import Run

    return Run.model_validate({**answer, "run_id": answer["dag_run_id"]})


def _run_failed(application: str, context: Mapping[str, Any]) -> None:
    try:
        from nightshift.alerts.of_runs import failed

        app, run, ti = load_application(application), _ended(context), context.get("ti")
        links = run_links(application, run.dag_id, run.run_id)
        alert = failed(
            application,
            run,
            tasks=[ti.task_id] if ti else [],
            links={"Task log": ti.log_url, **links} if ti else links,
            now=datetime.now(UTC),
            reason=str(context.get("reason") or ""),
        )
        tell(app, [alert])
        # It is over, if not well; the failure is what there is to say of it.
        _outbox(application).forget(f"late {run.dag_id}")
    except Exception:
        log.exception("what there is to say of a failed run of %s could not all be told", application)


def _run_succeeded(application: str, context: Mapping[str, Any]) -> None:
    try:
        from nightshift.alerts.of_runs import works_again

        app, run = load_application(application), _ended(context)
        links = run_links(application, run.dag_id, run.run_id)
        tell(app, works_again(application, run, links=links, now=datetime.now(UTC)))
    except Exception:
        log.exception("that a run of %s succeeded could not be told", application)


def _ended(context: Mapping[str, Any]) -> Run:
    """The run of a DAG's callback; Airflow does not always know more of it than its name."""
    from nightshift.alerts.of_runs import Run

    if run := context.get("dag_run"):
        return Run.model_validate(run)
    return Run(dag_id=context["dag"].dag_id, run_id=context["run_id"])


def _outbox(application: str, storage: str | None = None) -> Outbox:
    from nightshift.alerts.outbox import Outbox

    return Outbox(storage or storage_uri(), application)
