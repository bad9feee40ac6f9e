"""
### Release

Decides whether the newest candidate may replace the champion, moves the alias, and measures whether the release helped.

1. **challenge** finds the candidate and the champion. It is skipped, and the shadow with it, if the gate holds the candidate
   back, or there is no champion, or one that has not answered anything yet.
2. **shadow** has the candidate answer logged prompts that the champion answered and that resemble no training row. It stops as
   soon as the answers are shown to be no worse than the champion's, or shown to be worse.
3. **release** decides by the application's gate: good enough, better than its base model, no worse than the champion on
   known examples, and better on newer ones; and by the shadow. A failed shadow holds the candidate back; after one with too
   little data people are asked. The decision is recorded with its numbers.
4. **approve** asks the application's approvers, if its `approval` or the form requires it: candidate against champion,
   the cause, answers side by side and the cost. It waits without holding a worker, and keeps the answer in the ledger.
   Unanswered requests are rejected. Skipped if no approval is needed.
5. **promote** moves the alias `champion` in MLflow if the ledger has the decision, and shows there who decided. Users reach a
   model only through this alias.
6. **replay** has the new champion answer the interval that led to the retraining again, and compares: drift against the new
   reference, and quality on rows outside every training set, known and new answers apart.

Started by every registered candidate, and once a day in case an event was lost. While a request is open, later runs wait for
it; they then take the newest candidate. A candidate that is held back stays registered. By hand: choose a version, and give a
reason to release one whose verdict is WARN, or to bring back an earlier champion. If approvers decide, the reason is part of
their request and does not replace their answer. To ask again about a rejected candidate, give its version.
"""

from __future__ import annotations

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, Param, TriggerRule

from nightshift.orchestration.application_dag import application_dag, applications_to_parse
from nightshift.orchestration.approval import ApproveRelease
from nightshift.orchestration.assets import candidate_asset
from nightshift.orchestration.job import job
from nightshift.orchestration.promote import promote
from nightshift.orchestration.release import challenge, release
from nightshift.orchestration.runtime_values import result_of

for app in applications_to_parse("release"):
    with application_dag(
        app,
        "release",
        "Candidate to champion.",
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable(app.look("release"), timezone=app.timezone), assets=candidate_asset(app)
        ),
        params={
            "version": Param(
                None, type=["null", "integer"], minimum=1, description="Version to release; empty: the newest candidate"
            ),
            "reason": Param(
                None,
                type=["null", "string"],
                maxLength=2_000,
                description="Why a candidate is released although its verdict is WARN, or an earlier champion comes "
                "back; part of the request if approvers decide; empty: the gate decides",
            ),
            "ask": Param(
                False,
                type="boolean",
                description="Require an approval of this candidate, whatever the application's file says",
            ),
        },
        doc_md=__doc__,
    ):
        challenged = challenge(app.name)
        shadow = job(
            "shadow",
            app,
            {name: result_of("challenge", name) for name in ("model_digest", "champion_digest")},
            obey_verdict=False,
        )
        decided = release.override(trigger_rule=TriggerRule.NONE_FAILED)(app.name)
        approve = ApproveRelease(task_id="approve", app=app)
        # Also if `approve` is skipped, but not after a failed decision.
        promoted = promote.override(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)(app.name, decided)
        replay = job(
            "replay",
            app,
            {"model_digest": result_of("promote", "model_digest")},
            obey_verdict=False,
        )

        challenged >> shadow >> decided >> approve >> promoted >> replay
