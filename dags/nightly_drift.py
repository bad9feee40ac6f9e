"""
### Nightly drift

Says of every interval whether its traffic, its answers and their quality are still what the model was trained and judged on.

1. **drift** finds the intervals without a verdict from manifests, holds each against the reference of the model that
   answered it, and publishes the verdict with Evidently's report. The numbers, the pages and the reasons are in MLflow,
   too.
2. **verdict** shows the verdict in its log. It fails when an interval could not be judged or did not arrive at all; a drift
   FAIL does not fail it. With too little data it is skipped, which is no pass.
3. **watch** looks whether the first intervals of a release measure what its shadow promised, which **drift** compared. Where they
   do not, people are told, or with `watch.rollback: automatic` the release is taken back: **promote** moves the alias
   `champion` to the version before. Skipped where nothing is taken back.
4. **retraining** decides after the newest of these intervals by the policy, keeps the decision in the ledger, and tells the
   finetune DAG of a retraining that nobody trains for yet, with its reason and reports. Without one it is skipped and says why.

Woken by every interval of interactions and by the clock, in case an event was lost or an interval is missing. By hand: choose a
day to judge its intervals again.
"""

from __future__ import annotations

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, TriggerRule

from nightshift.orchestration.application_dag import application_dag, applications_to_parse
from nightshift.orchestration.assets import interactions_asset, retraining_asset
from nightshift.orchestration.forms import optional_day
from nightshift.orchestration.job import job
from nightshift.orchestration.nightly import ASKED_INTERVAL, retraining, verdict
from nightshift.orchestration.promote import promote
from nightshift.orchestration.release_watch import watch

for app in applications_to_parse("nightly_drift"):
    with application_dag(
        app,
        "nightly_drift",
        "Compare each interval with the data that the model was trained and judged on.",
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable(app.look("drift"), timezone=app.timezone), assets=interactions_asset(app)
        ),
        params={
            "night": optional_day(
                app,
                f"Day whose intervals are judged again ({app.timezone}); empty: every interval that has no verdict yet",
            )
        },
        doc_md=__doc__,
    ):
        drift = job("drift", app, ASKED_INTERVAL, obey_verdict=False)

        verdict(drift.output)
        watched = watch(app.name)
        # The intervals of a version that was taken back order no retraining.
        ordered = retraining.override(outlets=[retraining_asset(app)], trigger_rule=TriggerRule.NONE_FAILED)
        drift >> watched >> promote(app.name, watched) >> ordered(app.name, "drift", drift.output)
