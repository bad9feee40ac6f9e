"""Alerts from tasks, from callbacks of DAGs and from deadlines; a failure to send one never fails a run.

An alert first goes to the application's outbox. Tasks send it at once. Callbacks only keep it: the callbacks of all DAGs in a
file share a process that Airflow ends after a time. The DAG `nightshift_alerts` sends it, and what could not be sent.

Storage, secrets backends, channels and Airflow's contexts each raise errors of their own. All are caught and logged here.
Airflow stores the path of `run_is_late` with each running deadline: it must stay importable from this module.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference

from nightshift.orchestration.attempt import storage_uri
from nightshift.orchestration.links import links_of, report_page, run_links
from nightshift.settings.application import Application
from nightshift.settings.applications import load_application

if TYPE_CHECKING:
    from nightshift.alerts.alert import Alert
    from nightshift.alerts.of_runs import Run
    from nightshift.alerts.outbox import Outbox
    from nightshift.jobs.contract import JobSpec

AT_ONCE_SECONDS = 15  # in which a task starts to send; the DAG sends the rest
LONGEST_SECONDS = 40  # that alerts may delay a task
# How often the DAG delivers; tasks leave a route that just failed to it.
DRAINED_EVERY = timedelta(minutes=5)

log = logging.getLogger(__name__)


def notify(app: Application, alerts: Iterable[Alert], storage: str | None = None) -> None:
    """Keep alerts in the application's outbox and send them at once.

    Never raises: errors are logged. Slow storage, connections or channels delay the caller by at most `LONGEST_SECONDS`.

    :param storage: URI of the storage; None: this Airflow's.
    """
    telling = threading.Thread(target=_notify, args=(app, list(alerts), storage), daemon=True)
    telling.start()
    telling.join(LONGEST_SECONDS)
    if telling.is_alive():
        log.warning("alerts of %s take long; the next run of nightshift_alerts sends those that are kept", app.name)


def _notify(app: Application, alerts: list[Alert], storage: str | None) -> None:
    try:
        outbox = _outbox(app.name, storage)
        if keep(outbox, alerts):
            from nightshift.alerts.delivery import deliver

            deliver(app, outbox, seconds=AT_ONCE_SECONDS, rest_after_trouble=DRAINED_EVERY)
    except Exception:  # never at the cost of a run
        log.exception(
            "alerts of %s could not be sent now; the next run of nightshift_alerts sends those that are kept", app.name
        )


def keep(outbox: Outbox, alerts: Iterable[Alert]) -> int:
    """Keep alerts, and return how many are new. Never raises: an alert that cannot be kept does not block the others."""
    news = 0
    for alert in alerts:
        try:
            news += outbox.accept(alert)
        except Exception:  # never at the cost of a run
            log.exception("an alert of %s could not be kept: %s", alert.application, alert.title)
    return news


def notify_of_result(  # noqa: PLR0917
    app: Application,
    task: str,
    spec: JobSpec | None,
    result: Mapping[str, Any],
    context: Mapping[str, Any],
    storage: str,
) -> None:
    """Send the alerts that follow from the result of a job or a light task. Never raises.

    :param spec: of the job; None for a light task.
    """
    try:
        from nightshift.alerts.alert import ResultAlerts
        from nightshift.alerts.of_jobs import alerts_of
        from nightshift.alerts.of_runs import Run, failed

        now, ti, run = datetime.now(UTC), context["ti"], Run.model_validate(context["dag_run"])
        found = links_of(app.name, run.dag_id, run.run_id, result)
        about = ResultAlerts(
            application=app,
            where=f"{run.where(app.name)}, task {ti.task_id}",
            links={"Task log": ti.log_url, **{name: url for name, url in found.items() if name != "Pods"}},
            report_page=partial(report_page, app.name),
            failure=failed(app.name, run, tasks=[], links={}, now=now).id,
            now=now,
        )
        alerts = alerts_of(task, spec, result, about)
    except Exception:  # never at the cost of a run
        log.exception("the alerts of the result of %s could not be sent", task)
        return
    notify(app, alerts, storage)


def run_callbacks(app: Application, dag_id: str) -> dict[str, Any]:
    """Return the callbacks of a DAG, which alert people when its runs fail, recover, or are late.

    They only keep alerts. Airflow calls the first two in the DAG processor when a run has ended, however its tasks died, and
    that of the deadline in the triggerer.
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
    """Keep an alert about a late run, in a thread: the triggerer's event loop must not block."""
    await asyncio.to_thread(_keep_late, application, context["dag_run"])


def _keep_late(application: str, answer: Mapping[str, Any]) -> None:
    try:
        from nightshift.alerts.of_runs import late

        app, run = load_application(application), run_of(answer)
        # Airflow also calls this for a run that failed before its deadline; that one is alerted as failed.
        if run.state in {"queued", "running"}:
            links = run_links(application, run.dag_id, run.run_id)
            alert = late(application, run, late_after(app, run.dag_id), links=links, now=datetime.now(UTC))
            keep(_outbox(application), [alert])
    except Exception:  # never at the cost of a run
        log.exception("the alert about a late run of %s could not be kept", application)


def late_after(app: Application, dag_id: str) -> float:
    """Return how many hours a run of a DAG may take, including the time to wait for approvals and for data."""
    own = {
        f"{app.name}_release": app.approval.timeout_hours if app.approval.required != "never" else 0,
        f"{app.name}_ingest": app.clock.arrival_hours,
        f"{app.name}_batch_inference": app.clock.arrival_hours + app.clock.wait_hours,
    }
    return app.alerts.late_after_hours + own.get(dag_id, 0)


def run_of(answer: Mapping[str, Any]) -> Run:
    """Return a run from an answer of Airflow's REST API."""
    from nightshift.alerts.of_runs import Run

    return Run.model_validate({**answer, "run_id": answer["dag_run_id"]})


def _run_failed(application: str, context: Mapping[str, Any]) -> None:
    try:
        from nightshift.alerts.of_runs import failed, lateness

        run, ti, outbox = _ended(context), context.get("ti"), _outbox(application)
        links = run_links(application, run.dag_id, run.run_id)
        alert = failed(
            application,
            run,
            tasks=[ti.task_id] if ti else [],
            links={"Task log": ti.log_url, **links} if ti else links,
            now=datetime.now(UTC),
            reason=str(context.get("reason") or ""),
        )
        keep(outbox, [alert])
        # A failed run is no longer late.
        outbox.forget(lateness(run))
    except Exception:  # never at the cost of a run
        log.exception("not all alerts about a failed run of %s could be kept", application)


def _run_succeeded(application: str, context: Mapping[str, Any]) -> None:
    try:
        from nightshift.alerts.of_runs import works_again

        run = _ended(context)
        links = run_links(application, run.dag_id, run.run_id)
        keep(_outbox(application), works_again(application, run, links=links, now=datetime.now(UTC)))
    except Exception:  # never at the cost of a run
        log.exception("the recovery of %s could not be kept", application)


def _ended(context: Mapping[str, Any]) -> Run:
    """The run of a DAG's callback; sometimes Airflow gives only its id."""
    from nightshift.alerts.of_runs import Run

    if run := context.get("dag_run"):
        return Run.model_validate(run)
    return Run(dag_id=context["dag"].dag_id, run_id=context["run_id"])


def _outbox(application: str, storage: str | None = None) -> Outbox:
    from nightshift.alerts.outbox import Outbox

    return Outbox(storage or storage_uri(), application)
