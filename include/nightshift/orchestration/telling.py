"""Tells people what happens: from tasks, from the callbacks of DAGs and deadlines, and never at the cost of a run.

Whatever is told lies in the application's outbox first. Tasks send it at once. Callbacks only keep it: those of all DAGs in
a file share a process that Airflow ends after a time. The DAG `nightshift_alerts` sends that, and what could not be sent.

Storage, secrets backends, channels and Airflow's contexts each raise errors of their own. All are caught and logged here: a run
that did its work must not fail because people could not be told of it.
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

AT_ONCE_SECONDS = 15  # in which a task begins to send; the rest is left to the DAG
LONGEST_SECONDS = 40  # that telling holds up a task
# How often the DAG delivers; a route that just failed is left to it.
DRAINED_EVERY = timedelta(minutes=5)

log = logging.getLogger(__name__)


def tell(app: Application, alerts: Iterable[Alert], storage: str | None = None) -> None:
    """Keep alerts in the application's outbox and send them at once.

    Never raises: what it cannot do, it logs. Whatever does not answer, storage and where connections are kept among it, holds
    up nobody for longer than `LONGEST_SECONDS`.

    :param storage: URI of the storage; None: this Airflow's.
    """
    telling = threading.Thread(target=_tell, args=(app, list(alerts), storage), daemon=True)
    telling.start()
    telling.join(LONGEST_SECONDS)
    if telling.is_alive():
        log.warning("alerts of %s take long; what is kept, the next run of nightshift_alerts sends", app.name)


def _tell(app: Application, alerts: list[Alert], storage: str | None) -> None:
    try:
        outbox = _outbox(app.name, storage)
        if keep(outbox, alerts):
            from nightshift.alerts.delivery import deliver

            deliver(app, outbox, seconds=AT_ONCE_SECONDS, rest_after_trouble=DRAINED_EVERY)
    except Exception:  # never at the cost of a run
        log.exception(
            "alerts of %s could not be sent now; what is kept, the next run of nightshift_alerts sends", app.name
        )


def keep(outbox: Outbox, alerts: Iterable[Alert]) -> int:
    """Keep alerts, and return how many of them are news. Never raises: one that cannot be kept stops no other."""
    news = 0
    for alert in alerts:
        try:
            news += outbox.accept(alert)
        except Exception:  # never at the cost of a run
            log.exception("an alert of %s could not be kept: %s", alert.application, alert.title)
    return news


def tell_of_result(  # noqa: PLR0917
    app: Application,
    task: str,
    spec: JobSpec | None,
    result: Mapping[str, Any],
    context: Mapping[str, Any],
    storage: str,
) -> None:
    """Tell what follows for people from the result of a job, or of a task that decides. Never raises.

    :param spec: of the job; None: it is none.
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
        log.exception("what the result of %s says to people could not be told", task)
        return
    tell(app, alerts, storage)


def telling_of_runs(app: Application, dag_id: str) -> dict[str, Any]:
    """Return the arguments of a DAG that have people told when its runs fail, work again, or are late.

    All three only keep what there is to tell. Airflow calls the first two in the DAG processor when a run has ended, however
    its tasks died; the one of the deadline in the triggerer.
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
    """Keep that a run is late. The triggerer's event loop waits for nothing."""
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
    except Exception:  # never at the cost of a run
        log.exception("that a run of %s is late could not be kept", application)


def late_after(app: Application, dag_id: str) -> float:
    """Return how many hours a run of a DAG may take; people who are asked, and data that arrives, have their own time."""
    own = {
        f"{app.name}_release": app.approval.timeout_hours if app.approval.required != "never" else 0,
        f"{app.name}_ingest": app.clock.arrival_hours,
        f"{app.name}_batch_inference": app.clock.arrival_hours + app.clock.wait_hours,
    }
    return app.alerts.late_after_hours + own.get(dag_id, 0)


def run_of(answer: Mapping[str, Any]) -> Run:
    """Return a run as Airflow's REST API tells of it."""
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
        # It is over, if not well; the failure is what there is to say of it.
        outbox.forget(lateness(run))
    except Exception:  # never at the cost of a run
        log.exception("what there is to say of a failed run of %s could not all be kept", application)


def _run_succeeded(application: str, context: Mapping[str, Any]) -> None:
    try:
        from nightshift.alerts.of_runs import works_again

        run = _ended(context)
        links = run_links(application, run.dag_id, run.run_id)
        keep(_outbox(application), works_again(application, run, links=links, now=datetime.now(UTC)))
    except Exception:  # never at the cost of a run
        log.exception("that a run of %s succeeded could not be kept", application)


def _ended(context: Mapping[str, Any]) -> Run:
    """The run of a DAG's callback; Airflow does not always know more of it than its name."""
    from nightshift.alerts.of_runs import Run

    if run := context.get("dag_run"):
        return Run.model_validate(run)
    return Run(dag_id=context["dag"].dag_id, run_id=context["run_id"])


def _outbox(application: str, storage: str | None = None) -> Outbox:
    from nightshift.alerts.outbox import Outbox

    return Outbox(storage or storage_uri(), application)
