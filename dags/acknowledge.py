"""
### Acknowledge or silence an alert

The form with which a person answers for one condition that holds; the application's page has it beside each open alert, too.
Who it was, until when and why is kept in the ledger, shown on the page and in the audit log.

- **acknowledge** says that somebody works on it: until the time is over, people are told only when it gets worse, has another
  cause, or is over.
- **silence** tells people nothing of it but that it is over, also where it ends and comes back.
- **end** ends either before its time.

A condition that still holds when the time is over is told again. What is kept from people is in the mailbox all the same.
Other conditions are told as ever.
"""

from __future__ import annotations

from airflow.sdk import Param

from nightshift.orchestration.alert_response import respond
from nightshift.orchestration.application_dag import application_dag, applications_to_parse

for app in applications_to_parse("acknowledge"):
    with application_dag(
        app,
        "acknowledge",
        "Acknowledge or silence an alert for a time, with a reason.",
        schedule=None,
        # Whoever answers for an alert in the interval finds no DAG that waits to be unpaused.
        is_paused_upon_creation=False,
        params={
            "alert": Param(
                type="string",
                minLength=1,
                maxLength=1_000,
                pattern=r"\S",
                description="incident key of the open alert, as the application's page names it",
            ),
            "action": Param(
                "acknowledge",
                type="string",
                enum=["acknowledge", "silence", "end"],
                description="acknowledge: told again only when it gets worse or changes; silence: not told at all; "
                "end: of either, now",
            ),
            "hours": Param(8, type="integer", minimum=1, maximum=720, description="hours until it is told again"),
            "reason": Param(
                type="string",
                minLength=1,
                maxLength=500,
                pattern=r"\S",
                description="why; kept in the ledger and shown on the application's page",
            ),
        },
        doc_md=__doc__,
    ):
        respond(app.name)
