"""The task that acknowledges or silences an open alert for a person, or ends either."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowFailException

from nightshift.alerts.outbox import Outbox
from nightshift.ledger.records import AlertResponse
from nightshift.orchestration.attempt import storage_uri
from nightshift.orchestration.ledger_task import LEDGER_TASK_ARGUMENTS, ledger_task
from nightshift.shown import storable
from nightshift.storage.manifest import digest_of

log = logging.getLogger(__name__)


@task(**LEDGER_TASK_ARGUMENTS)
def respond(application: str, **context: Any) -> dict[str, Any]:
    """Keep the response of the person who started the run to one open alert.

    :return: `alert`, the condition, `until` (ISO 8601) and `reason`, which says who did what and why.
    :raises AirflowFailException: there is no such open alert, or no response to end; the text says what to do.
    """
    params, dag_run = context["params"], context["dag_run"]
    with ledger_task(application, context) as (_, ledger):
        now, condition, action = datetime.now(UTC), params["alert"].strip(), params["action"]
        holding = [one.alert.condition for one in Outbox(storage_uri(), application).held()]
        if condition not in holding:
            known = "; ".join(sorted(holding)) or "none"
            raise AirflowFailException(f"no open alert of {application} is called {condition!r}; open are: {known}")
        before, request = ledger.responses([condition]).get(condition), digest_of([dag_run.run_id])[:12]
        if action == "end" and not (before and (before.holds(now) or before.id.endswith(request))):
            raise AirflowFailException(
                f"{condition!r} is neither acknowledged nor silenced, so there is nothing to end"
            )
        response = AlertResponse(
            condition=condition,
            action=action,
            until=now if action == "end" else now + timedelta(hours=params["hours"]),
            reason=storable(params["reason"]).strip(),
            by=storable(dag_run.triggering_user_name or "somebody"),
            created=now,
        )
        kept = ledger.respond(response, request)
        log.info("%s: %s", condition, kept.sentence)
        return {"alert": condition, "until": kept.until.isoformat(), "reason": kept.sentence}
