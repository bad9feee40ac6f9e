"""
### Rollback

Takes a release back: an earlier champion answers again from the next interval on.

1. **rollback** records who takes the release back and why, without a gate or an approval.
2. **promote** moves the alias `champion` in MLflow, as after a release.

By hand only, by an operator or an approver; it waits for no other run. Without a version the previous champion comes back. The
version that was taken back returns only by its number and a reason in the form of `<application>_release`. A release that
waits for approval against the former champion is refused when it is answered, and must be evaluated again.
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
        "Bring back an earlier champion, with a reason.",
        schedule=None,
        # Unpaused, so that a rollback never waits.
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
                description="an earlier champion; empty: the previous one",
            ),
        },
        doc_md=__doc__,
    ):
        promote(app.name, rollback(app.name))
