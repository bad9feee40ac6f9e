"""What tasks have in common that only decide: they read and write the ledger in the worker, and import nothing heavy."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from nightshift.errors import JobError, is_outage
from nightshift.ledger.orders import Lives
from nightshift.ledger.records import Claim, Decision, Outcome
from nightshift.ledger.store import Ledger
from nightshift.orchestration.attempt import refuse_unknown, storage_uri, tracking_environment
from nightshift.orchestration.job_task import EnvironmentDown, as_airflow
from nightshift.orchestration.telling import tell_of_result
from nightshift.settings.application import Application
from nightshift.settings.applications import load_application

if TYPE_CHECKING:
    from nightshift.registry.rest import Mlflow

log = logging.getLogger(__name__)

TRIES = 3  # of what is no outage
# Of a task that decides. Half a minute, doubled up to a quarter of an hour: an outage of six hours costs no decision.
RETRIES: dict[str, Any] = {
    "retries": 28,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=15),
}
# The same for @task, which else stores each key of a result that is a mapping once more, as an XCom of its own.
OUTLASTING: dict[str, Any] = {**RETRIES, "multiple_outputs": False}


@contextmanager
def deciding(application: str, context: Mapping[str, Any]) -> Iterator[tuple[Application, Ledger]]:
    """Yield an application and its ledger; what goes wrong becomes what Airflow tries again, or does not.

    :raises AirflowFailException: the application's file, a record or the run's parameters are wrong, or something that is
        no outage went wrong at the third try or a later one; no retry can help.
    :raises EnvironmentDown: storage or MLflow cannot be reached.
    """
    with outlasting(application, context):
        refuse_unknown(context)
        app = load_application(application)
        ledger = Ledger(storage_uri(), app.name)
        try:
            yield app, ledger
        except AirflowSkipException:
            _keep_index(ledger)
            raise
        _keep_index(ledger)


@contextmanager
def outlasting(application: str, context: Mapping[str, Any]) -> Iterator[None]:
    """Within this block, what goes wrong becomes what Airflow tries again, or does not, as in :func:`deciding`."""
    try:
        yield
    except AirflowException:
        raise
    except JobError as error:
        raise as_airflow(error) from error
    except Exception as error:
        if is_outage(error):
            raise EnvironmentDown(f"the storage of {application} cannot be read or written: {error}") from error
        if context["ti"].try_number >= TRIES:
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
        raise


def runs_of_finetune(app: Application, context: Mapping[str, Any]) -> Lives:
    """Return what says whether runs of finetune are queued or running, as Airflow knows it: that of a claim, or any."""

    def live(claim: Claim | None) -> bool:
        if claim and not claim.run_id:
            return False
        runs = {"run_ids": [claim.run_id]} if claim else {}
        return bool(context["ti"].get_dr_count(dag_id=f"{app.name}_finetune", states=["queued", "running"], **runs))

    return live


def _keep_index(ledger: Ledger) -> None:
    """It only spares calls: what was decided stands without it."""
    try:
        ledger.keep_index()
    except Exception as error:  # each object store has errors of its own
        log.warning("the index of %s could not be written: %s", ledger.home, error)


def mlflow() -> Mlflow:
    """Return the tracking server, to be closed by whoever asks for it.

    :raises BadInput: there is no connection to it, or it names no server, or a proxy or certificates that cannot be used.
    """
    from nightshift.registry.rest import Mlflow

    return Mlflow(tracking_environment())


def show(app: Application, decision: Decision, outcome: Outcome | None = None) -> None:
    """Show a decision in MLflow.

    :raises BadEnvironment: MLflow cannot be reached; the ledger has the decision all the same.
    """
    from nightshift.ledger.mirror import mirror_decision

    with mlflow() as server:
        mirror_decision(server, app.name, decision, outcome)


def champion_moved(app: Application, ledger: Ledger) -> str | None:
    """Say what is wrong where MLflow names another champion than the ledger.

    :raises BadEnvironment: MLflow cannot be reached.
    """
    from nightshift.ledger.releases import moved_by_hand
    from nightshift.registry.versions import CHAMPION

    with mlflow() as server:
        champion = server.with_alias(app.name, CHAMPION)
    return moved_by_hand(ledger, app.name, champion.version, champion.digest) if champion else None


def tell(app: Application, task: str, result: Mapping[str, Any], context: Mapping[str, Any]) -> None:
    """Tell people what follows from what a task decided. Never raises."""
    tell_of_result(app, task, None, result, context, storage_uri())
