"""
### Release

Decides whether the newest candidate may replace the champion, moves the alias, and looks whether it helped.

1. **challenge** finds the candidate and the champion. Skipped, and the shadow with it, where a gate holds the candidate
   back anyway, where there is no champion, or one that has answered nothing yet.
2. **shadow** has the candidate answer logged prompts that the champion answered and that resemble nothing that was trained
   on. It stops as soon as the answers are shown to be no worse than the champion's, or to be worse.
3. **release** decides by the application's gate: good enough, better than its base model, no worse than the champion on
   what the champion knows, and better on what came after it; and by the shadow. One that fails holds the candidate back; of
   one that had too little to compare people are asked. The decision is recorded with its numbers.
4. **approve** asks the application's approvers, where its `approval` says so, or the form does: candidate against champion,
   what led to it, answers side by side and what it cost. It waits for them, holds no worker, and keeps their answer in the
   ledger. No answer in time is a no. Skipped where nobody is to be asked.
5. **promote** moves the alias `champion` in MLflow where the ledger says so, and shows there who decided. Users reach a
   model only through this alias.
6. **replay** has the new champion answer the interval that led to the retraining again, and compares: drift against the new
   reference, and quality on rows outside every training set, known and new answers apart.

Woken by every registered candidate, and once a day in case an event was lost. While a request waits, later runs wait for
it; they then look at the newest candidate. A candidate that is held back stays registered. By hand: choose a version, and
give a reason to release one whose verdict is WARN, or to bring back an earlier champion. Where approvers decide, the reason
is put to them and is no answer. To ask again about a candidate that was rejected, give its version.
"""

from __future__ import annotations

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, Param, TriggerRule

from nightshift.orchestration.application_dag import application_dag, applications_to_parse
from nightshift.orchestration.approval import ApproveRelease
from nightshift.orchestration.assets import candidate_asset
from nightshift.orchestration.given import result_of
from nightshift.orchestration.job import job
from nightshift.orchestration.promote import promote
from nightshift.orchestration.release import challenge, release

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
                "back; approvers, where they decide, read it; empty: the gate decides",
            ),
            "ask": Param(
                False,
                type="boolean",
                description="Ask the approvers about this candidate, whatever the application's file says",
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
        # Whether or not people are asked, and never past a decision that failed.
        promoted = promote.override(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)(app.name, decided)
        replay = job(
            "replay",
            app,
            {"model_digest": result_of("promote", "model_digest")},
            obey_verdict=False,
        )

        challenged >> shadow >> decided >> approve >> promoted >> replay
