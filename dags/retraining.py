"""
### Retraining, by hand

The form to control retraining by hand; the reason is kept in the ledger and shown with the decision.

- **force** orders a retraining now, past cooldown, budgets and snooze. Only one is open at a time: if one waits for
  fine-tuning, force starts it; if one is in progress, this run fails and names it.
- **give up** ends the open retraining without a model, so that another can be ordered. A run that trains for it
  continues until it is marked as failed, which also gives its retraining up.
- **snooze** keeps drift and bias from ordering one for some days. The intervals are judged and reported all the same.
- **wake** ends a snooze, and starts the fine-tuning for an order that no run has claimed.

The fine-tuning itself is the DAG `<application>_finetune`; this one only emits the asset that starts it.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, task
from airflow.sdk.exceptions import AirflowSkipException

from nightshift.orchestration.application_dag import application_dag, applications_to_parse
from nightshift.orchestration.assets import retraining_asset
from nightshift.orchestration.retraining import step_in


@task
def wake(asked: dict[str, Any], *, ti: Any, outlet_events: Any) -> None:
    """Emit the retraining asset for an order; skipped without one."""
    if not asked["order"]:
        raise AirflowSkipException(asked["reason"])
    outlet_events[ti.task.outlets[0]].extra = {key: asked[key] for key in ("order", "reason", "decision", "reports")}


for app in applications_to_parse("retraining"):
    with application_dag(
        app,
        "retraining",
        "Force, give up, snooze or wake a retraining, with a reason.",
        schedule=None,
        params={
            "action": Param(
                "force",
                type="string",
                enum=["force", "give up", "snooze", "wake"],
                description="force: retrain now; give up: end the open one; snooze: order none for some days; "
                "wake: end a snooze, and start a waiting order",
            ),
            "reason": Param(
                type="string",
                minLength=1,
                maxLength=500,
                pattern=r"\S",
                description="why; kept in the ledger and shown with the decision",
            ),
            "days": Param(7, type="integer", minimum=1, maximum=90, description="days of a snooze"),
        },
        doc_md=__doc__,
    ):
        asked = step_in(app.name)
        wake.override(outlets=[retraining_asset(app)])(asked)
