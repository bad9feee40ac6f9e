"""Common parts of the light tasks that only decide: they read and write the ledger in the worker."""

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
from nightshift.orchestration.telling import notify_of_result
from nightshift.settings.application import Application
from nightshift.settings.applications import load_application

if TYPE_CHECKING:
    from nightshift.registry.rest import Mlflow

log = logging.getLogger(__name__)

TRIES = 3  # for errors other than outages
# 30 seconds, doubled up to 15 minutes: 28 retries outlast an outage of six hours.
RETRIES: dict[str, Any] = {
    "retries": 28,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=15),
}
# The arguments of @task, which by default also stores each key of a result as an XCom of its own.
LEDGER_TASK_ARGUMENTS: dict[str, Any] = {**RETRIES, "multiple_outputs": False}


@contextmanager
def ledger_task(application: str, context: Mapping[str, Any]) -> Iterator[tuple[Application, Ledger]]:
    """Yield an application and its ledger, and raise errors in a form that Airflow retries, or does not.

    :raises AirflowFailException: the application's file, a record or the run's parameters are wrong, or an error other
        than an outage occurred at the third try or later; no retry can help.
    :raises EnvironmentDown: storage or MLflow cannot be reached.
    """
    with airflow_errors(application, context):
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
def airflow_errors(application: str, context: Mapping[str, Any]) -> Iterator[None]:
    """Raise the errors of this block in a form that Airflow retries, or does not, as :func:`ledger_task` does."""
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
    """Return a function that asks Airflow whether a claim's run of finetune, or any, is queued or running."""

    def live(claim: Claim | None) -> bool:
        if claim and not claim.run_id:
            return False
        runs = {"run_ids": [claim.run_id]} if claim else {}
        return bool(context["ti"].get_dr_count(dag_id=f"{app.name}_finetune", states=["queued", "running"], **runs))

    return live


def _keep_index(ledger: Ledger) -> None:
    """Write the index. It only saves storage calls, so a failure is logged and does not undo the decision."""
    try:
        ledger.keep_index()
    except Exception as error:  # each object store has errors of its own
        log.warning("the index of %s could not be written: %s", ledger.home, error)


def mlflow() -> Mlflow:
    """Return the tracking server; the caller closes it.

    :raises BadInput: its connection is missing, names no server, or names an unusable proxy or certificate.
    """
    from nightshift.registry.rest import Mlflow

    return Mlflow(tracking_environment())


def log_decision(app: Application, decision: Decision, outcome: Outcome | None = None) -> None:
    """Log a decision in MLflow.

    :raises BadEnvironment: MLflow cannot be reached; the decision is in the ledger already.
    """
    from nightshift.ledger.mirror import mirror_decision

    with mlflow() as server:
        mirror_decision(server, app.name, decision, outcome)


def champion_moved(app: Application, ledger: Ledger) -> str | None:
    """Return a message if MLflow names another champion than the ledger.

    :raises BadEnvironment: MLflow cannot be reached.
    """
    from nightshift.ledger.releases import moved_by_hand
    from nightshift.registry.versions import CHAMPION

    with mlflow() as server:
        champion = server.with_alias(app.name, CHAMPION)
    return moved_by_hand(ledger, app.name, champion.version, champion.digest) if champion else None


def notify_of_decision(app: Application, task: str, result: Mapping[str, Any], context: Mapping[str, Any]) -> None:
    """Send the alerts that follow from a task's decision. Never raises."""
    notify_of_result(app, task, None, result, context, storage_uri())
