"""
### Rollback

Takes a release back: an earlier champion answers again from the next interval on.

1. **rollback** writes down who takes the release back and why, whatever a gate would say; nobody is asked first.
2. **promote** moves the alias `champion` in MLflow, as after a release.

By hand only, by an operator or an approver; it waits for no other run. Without a version the champion before today's comes
back. The version that was taken back does not return by itself: that needs its number and a reason in the form of
`<application>_release`. A release that waits for approvers was meant to replace the champion of then: it is refused when they
answer, and judged anew.
"""

from __future__ import annotations

from airflow.sdk import Param

from nightshift.orchestration.application_dag import application_dag, applications_to_parse
from nightshift.orchestration.promote import promote
from nightshift.orchestration.rollback import rollback

for app in applications_to_parse("rollback"):
    with application_dag(
        app,
        "rollback",
        "An earlier champion again, with a reason.",
        schedule=None,
        # A run of a paused DAG would wait while users meet the version that is to go.
        is_paused_upon_creation=False,
        params={
            "reason": Param(
                type="string",
                minLength=1,
                maxLength=2_000,
                pattern=r"\S",
                description="why; kept in the ledger and shown with the release",
            ),
            "version": Param(
                None,
                type=["null", "integer"],
                minimum=1,
                description="an earlier champion; empty: the one before today's",
            ),
        },
        doc_md=__doc__,
    ):
        promote(app.name, rollback(app.name))
