"""
### Acknowledge or silence an alert

The form to respond to an open alert; the application's page links it at each open alert.
Person, end time and reason are kept in the ledger and shown on the page and in the audit log.

- **acknowledge**: somebody works on it. Until the end time, alerts are sent only if it gets worse, changes its cause, or ends.
- **silence**: only its end is sent, even if the condition ends and comes back.
- **end** ends either early.

A condition that is still open at the end time is sent again. Suppressed alerts are in the mailbox.
Other conditions are not affected.
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
        # Unpaused, so that alerts can be acknowledged at once.
        is_paused_upon_creation=False,
        params={
            "alert": Param(
                type="string",
                minLength=1,
                maxLength=1_000,
                pattern=r"\S",
                description="incident key of the open alert, from the application's page",
            ),
            "action": Param(
                "acknowledge",
                type="string",
                enum=["acknowledge", "silence", "end"],
                description="acknowledge: send again only if it gets worse or changes; silence: send only its end; "
                "end: end either now",
            ),
            "hours": Param(8, type="integer", minimum=1, maximum=720, description="hours until it is sent again"),
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
