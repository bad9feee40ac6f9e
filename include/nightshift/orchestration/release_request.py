"""The text of an approval request, gathered from the evaluation, the ledger, the accounts of pods and MLflow."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from upath import UPath

from nightshift.errors import BadInput
from nightshift.evaluation.request import Cost, Facts, FailedInterval, compose, subject_of
from nightshift.evaluation.score_file import ScoreFile
from nightshift.evaluation.shadow_file import REPORT as SHADOW_REPORT
from nightshift.evaluation.shadow_file import shadow_partition
from nightshift.ledger.index_files import monitored_interval
from nightshift.ledger.pod_accounts import pods_of_run, run_key, total
from nightshift.ledger.records import Claim, Order
from nightshift.ledger.store import Ledger
from nightshift.orchestration.attempt import storage_uri
from nightshift.registry.rest import Mlflow
from nightshift.registry.versions import EVALUATION_TAG, ORDER_TAG, Registered
from nightshift.settings.application import Application
from nightshift.storage.application_version import ApplicationVersion, open_version
from nightshift.storage.manifest import Manifest, read_manifest

MOST_DAYS = timedelta(days=31)  # of accounts that are read

log = logging.getLogger(__name__)


def request_text(
    app: Application,
    ledger: Ledger,
    mlflow: Mlflow,
    scores: ScoreFile,
    *,
    candidate: Registered,
    champion: Registered | None,
    **given: Any,
) -> tuple[str, str]:
    """Return headline and Markdown of a request. The text names what is unknown.

    :param given: verdict, reasons, returns, shadow and form_reason, as in :class:`nightshift.evaluation.request.Facts`.
    :raises BadEnvironment: MLflow cannot be reached.
    """
    number = candidate.tags.get(ORDER_TAG, "")
    order = ledger.orders().get(int(number)) if number.isdigit() else None
    claim = ledger.claim(order.number) if order else None
    version = _opened(app, candidate)
    facts = Facts(
        version=candidate.version,
        champion=champion.version if champion else None,
        cause=_cause(order, scores.changes),
        intervals=_failed_intervals(order),
        cost=_cost(app.name, version, claim),
        links=_links(mlflow, app, candidate, version, champion if given.get("shadow") else None),
        **given,
    )
    return subject_of(app, facts), compose(app, facts, scores)


def _cause(order: Order | None, changes: list[str] | None) -> str:
    if order is None and changes and "weights" not in changes:
        return "Nothing was trained: the application's file was changed, and the champion's weights stay."
    if order is None:
        return "Trained without an order of the ledger: a person or the application's schedule started the training."
    return f"Retraining {order.number} of {order.created:%Y-%m-%d %H:%M} UTC: {order.decision.reason}"


def _failed_intervals(order: Order | None) -> list[FailedInterval]:
    """The intervals whose reports led to the order."""
    found = []
    for report in order.decision.reports if order else []:
        manifest = _manifest(report)
        if manifest is None:
            continue
        monitored = monitored_interval(UPath(report), manifest)
        found.append(
            FailedInterval(
                interval=monitored.interval,
                monitor=monitored.monitor,
                verdict=monitored.verdict,
                worst=monitored.worst,
                worst_segment=monitored.worst_segment,
                run_url=str(manifest.facts.get("run_url", "")),
            )
        )
    return found


def _cost(application: str, version: ApplicationVersion | None, claim: Claim | None) -> Cost | None:
    """What the training cost; None if unknown."""
    fitted = version.weights.facts.get("fitted") if version else None
    if not fitted:
        return None
    processes = int(fitted.get("processes", 1))
    pods = []
    if claim:
        key, first = run_key(claim.dag_id, claim.run_id), claim.claimed
        last = min(datetime.now(UTC), first + MOST_DAYS)
        pods = [
            pod for pod in pods_of_run(storage_uri(), application, key, first.date(), last.date()) if pod.job == "train"
        ]
    used = total(pods)
    return Cost(
        hours=float(fitted.get("seconds", 0)) * processes / 3600,
        processes=processes,
        gpu_hours=used.gpu_hours if pods else None,
        cost=used.cost if pods else None,
    )


def _links(
    mlflow: Mlflow,
    app: Application,
    candidate: Registered,
    version: ApplicationVersion | None,
    champion: Registered | None,
) -> dict[str, str]:
    """Addresses of MLflow's pages.

    :param champion: the champion that the candidate's shadow ran against; None: there was no shadow.
    """
    evaluation = UPath(candidate.tags.get(EVALUATION_TAG, "")).name
    links = {}
    if champion:
        shadow = shadow_partition(storage_uri(), app, candidate.digest, champion.digest)
        if run := mlflow.run_of(app.name, f"shadow-{shadow.name}"):
            links["Answers of the shadow side by side"] = f"{run.page}/artifacts/{SHADOW_REPORT}"
    if run := mlflow.run_of(app.name, f"evaluate-{evaluation}"):
        links["Report of the evaluation"] = f"{run.page}/artifacts/report.html"
    if version and (run := mlflow.run_of(app.name, f"train-{version.name}")):
        links["Run of the training"] = run.page
    return {**links, f"Version {candidate.version}": candidate.url}


def _opened(app: Application, registered: Registered) -> ApplicationVersion | None:
    try:
        return open_version(registered.model, registered.digest, app)
    except BadInput as error:
        log.warning("the request says less than it could: %s", error)
        return None


def _manifest(partition: str) -> Manifest | None:
    try:
        return read_manifest(UPath(partition))
    except BadInput as error:
        log.warning("the request says less than it could: %s", error)
        return None
