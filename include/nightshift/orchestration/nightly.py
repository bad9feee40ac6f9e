"""What the DAGs that judge nights have in common: which night they ask for, and what their last task shows."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from nightshift.verdict import Verdict

NIGHT = {
    "night": "{{ params.night or '' }}",
    # Only the clock misses a night that did not come; an event says that one came.
    "expected_by": "{{ logical_date if dag_run.run_type == 'scheduled' and logical_date else '' }}",
}

log = logging.getLogger(__name__)


@task
def verdict(result: dict[str, Any]) -> None:
    """Show what was said about each night; a monitor that is blind fails, a night that fails does not."""
    for night in result["nights"]:
        log.info("%s %s: %s", night["night"], night["verdict"], "; ".join(night["reasons"]))
        log.info("  %s", night["run_url"] or night["report"] or "no report")
    said = f"{result['verdict']}: {'; '.join(result['reasons'])}"
    log.info("%s", said)
    if result["verdict"] == Verdict.ERROR or result["missing"]:
        raise AirflowFailException(said)
    if result["verdict"] == Verdict.INSUFFICIENT_DATA:
        raise AirflowSkipException(said)


@task
def retraining(result: dict[str, Any], *, ti: Any, outlet_events: Any) -> None:
    """Tell the finetune DAG of a retraining that waits for it."""
    order = result["order"]
    if order is None:
        raise AirflowSkipException(f"no retraining: {result['why_not']}")
    log.info("retraining %s: %s", order["number"], order["reason"])
    outlet_events[ti.task.outlets[0]].extra = order
