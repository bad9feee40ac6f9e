"""Gathers what people are shown before they decide about a release: from the evaluation, the ledger, accounts and MLflow."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from upath import UPath

from nightshift.errors import BadInput
from nightshift.ledger.pod_accounts import pods_of_run, run_key, total
from nightshift.ledger.records import Claim, Order
from nightshift.ledger.store import Ledger

if TYPE_CHECKING:
    from nightshift.evaluation.request import Cost, FailedNight
    from nightshift.evaluation.score_file import ScoreFile
    from nightshift.registry.versions import Registered
    from nightshift.settings.application import Application
    from nightshift.storage.partition import Manifest

MOST_DAYS = timedelta(days=31)  # of accounts that are looked at

log = logging.getLogger(__name__)


def request_text(
    application: Application,
    storage: str,
    candidate: Registered,
    champion: Registered | None,
    scores: ScoreFile,
    **said: Any,
) -> tuple[str, str]:
    """Return headline and Markdown of a request. What is not known is said to be unknown.

    :param said: verdict, reasons, returns and wish, as in :class:`nightshift.evaluation.request.Facts`.
    :raises BadEnvironment: MLflow cannot be reached.
    """
    from nightshift.evaluation.request import Facts, compose, subject_of

    order, claim = _order_of(storage, application.name, candidate)
    facts = Facts(
        version=candidate.version,
        champion=champion.version if champion else None,
        cause=_cause(order),
        nights=_nights(order),
        cost=_cost(storage, application.name, _manifest(candidate.model), claim),
        links=_links(application.name, candidate),
        **said,
    )
    return subject_of(application, facts), compose(application, facts, scores)


def _order_of(storage: str, application: str, candidate: Registered) -> tuple[Order | None, Claim | None]:
    """The retraining that the candidate was trained for, and the run that took it."""
    from nightshift.registry.versions import ORDER_TAG

    number = candidate.tags.get(ORDER_TAG, "")
    ledger = Ledger(storage, application)
    order = ledger.orders().get(int(number)) if number.isdigit() else None
    return order, ledger.claim(order.number) if order else None


def _cause(order: Order | None) -> str:
    if order is None:
        return "No retraining of the ledger: a person or the application's own schedule started its training."
    return f"Retraining {order.number} of {order.created:%Y-%m-%d %H:%M} UTC: {order.decision.reason}"


def _nights(order: Order | None) -> list[FailedNight]:
    """The nights whose reports led to the order."""
    from nightshift.evaluation.request import FailedNight
    from nightshift.ledger.index_files import night_of

    found = []
    for report in order.decision.reports if order else []:
        manifest = _manifest(report)
        if manifest is None:
            continue
        night = night_of(UPath(report), manifest)
        found.append(
            FailedNight(
                night=night.interval,
                monitor=night.monitor,
                verdict=night.verdict,
                worst=night.worst,
                worst_segment=night.worst_segment,
                run_url=str(manifest.facts.get("run_url", "")),
            )
        )
    return found


def _cost(storage: str, application: str, model: Manifest | None, claim: Claim | None) -> Cost | None:
    """What the training took; None where nothing says so."""
    from nightshift.evaluation.request import Cost

    fitted = model.facts.get("fitted") if model else None
    if not fitted:
        return None
    processes = int(fitted.get("processes", 1))
    pods = []
    if claim:
        key, first = run_key(claim.dag_id, claim.run_id), claim.claimed
        last = min(datetime.now(UTC), first + MOST_DAYS)
        pods = [pod for pod in pods_of_run(storage, application, key, first.date(), last.date()) if pod.job == "train"]
    used = total(pods)
    return Cost(
        hours=float(fitted.get("seconds", 0)) * processes / 3600,
        processes=processes,
        gpu_hours=used.gpu_hours if pods else None,
        cost=used.cost if pods else None,
    )


def _links(application: str, candidate: Registered) -> dict[str, str]:
    """Addresses of MLflow's pages."""
    from mlflow import MlflowClient

    from nightshift.registry.tracking import experiment_of, find_run, reachable

    client, links = MlflowClient(), {}
    evaluation, model = (UPath(candidate.tags.get("nightshift.evaluation", "")).name, UPath(candidate.model).name)
    with reachable():
        experiment = experiment_of(client, application)
        runs = {
            name: find_run(client, experiment, key)
            for name, key in {"evaluation": f"evaluate-{evaluation}", "training": f"train-{model}"}.items()
        }
    pages = f"{client.tracking_uri}/#/experiments/{experiment}/runs"
    if run := runs["evaluation"]:
        links["Report of the evaluation"] = f"{pages}/{run.info.run_id}/artifacts/report.html"
    if run := runs["training"]:
        links["Run of the training"] = f"{pages}/{run.info.run_id}"
    return {**links, f"Version {candidate.version}": candidate.url}


def _manifest(partition: str) -> Manifest | None:
    from nightshift.storage.partition import read_manifest

    try:
        return read_manifest(UPath(partition))
    except BadInput as error:
        log.warning("the request says less than it could: %s", error)
        return None
