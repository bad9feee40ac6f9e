"""What the DAGs that judge intervals have in common: which interval they ask for, and what their last task shows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from nightshift.ledger import orders
from nightshift.ledger.history import newest_about_champion, published
from nightshift.ledger.records import Monitor
from nightshift.orchestration.ledger_task import (
    LEDGER_TASK_ARGUMENTS,
    champion_moved,
    ledger_task,
    log_decision,
    notify_of_decision,
    runs_of_finetune,
)
from nightshift.orchestration.runtime_values import RuntimeValue, param
from nightshift.verdict import Verdict


def _expected_by(context: Mapping[str, Any]) -> datetime | None:
    """Only the clock misses an interval that did not come; an event says that one came."""
    return context.get("logical_date") if context["dag_run"].run_type == "scheduled" else None


ASKED_INTERVAL = {"night": param("night"), "expected_by": RuntimeValue("logical_date", _expected_by)}

log = logging.getLogger(__name__)


@task
def verdict(result: dict[str, Any]) -> None:
    """Show what was said about each interval; a monitor that is blind fails, an interval that fails does not."""
    for interval in result["nights"]:
        log.info("%s %s: %s", interval["night"], interval["verdict"], "; ".join(interval["reasons"]))
        log.info("  %s", interval["run_url"] or interval["report"] or "no report")
    said = f"{result['verdict']}: {'; '.join(result['reasons'])}"
    log.info("%s", said)
    if result["verdict"] == Verdict.ERROR or result["missing"]:
        raise AirflowFailException(said)
    if result["verdict"] == Verdict.INSUFFICIENT_DATA:
        raise AirflowSkipException(said)


@task(**LEDGER_TASK_ARGUMENTS)
def retraining(application: str, monitor: Monitor, judged: Mapping[str, Any], **context: Any) -> dict[str, Any]:
    """Ask the ledger what follows from the newest interval that was judged, and tell finetune of a retraining that waits for it.

    The policy looks at the intervals before it, too. Where none was judged now, the newest report about the champion is asked
    about again: an earlier try may have ended before it was. The same report always leads to the same decision.

    :param judged: the result of the job that judged them.
    :return: `decision` (its code; None: there was nothing to decide about), the `night`, `reason`, and `order`.
    :raises AirflowSkipException: no retraining waits; the text says why.
    :raises AirflowFailException: somebody moved the champion's alias by hand: nobody knows what the intervals speak about.
    """
    with ledger_task(application, context) as (app, ledger):
        if moved := champion_moved(app, ledger):
            raise AirflowFailException(moved)
        reports = [one["report"] for one in judged["nights"] if one["report"] and not one.get("challenger")]
        monitored = [published(report) for report in reports] or newest_about_champion(ledger, monitor)
        newest = max(monitored, key=lambda one: one.interval, default=None)
        lives = runs_of_finetune(app, context)
        decision = orders.evaluate(app, ledger, newest, datetime.now(UTC), lives) if newest else None
        if newest and decision:
            log.info("%s: %s, %s: %s", newest.interval, decision.action, decision.code, decision.reason)
            log_decision(app, decision)
        order = orders.open_order(ledger)
        claim = ledger.claim(order.number) if order else None
        if order is None:
            reason = decision.reason if decision else "no interval was judged"
        else:
            reason = f"retraining {order.number} is the work of {claim.run_id}" if claim else order.decision.reason
        result = {
            "decision": decision.code if decision else None,
            "night": newest.interval if newest else None,
            "reason": reason,
            "order": order.number if order and claim is None else None,
        }
        notify_of_decision(app, "retraining", result, context)
        if order is None or claim:
            context["ti"].xcom_push("return_value", result)
            raise AirflowSkipException(f"no retraining: {reason}")
        log.info("retraining %d: %s", order.number, reason)
        (asset,) = context["ti"].task.outlets
        context["outlet_events"][asset].extra = {
            "number": order.number,
            **order.decision.model_dump(include={"reason", "numbers", "nights", "reports"}),
        }
        return result
