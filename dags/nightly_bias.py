"""
### Nightly bias

Says of every interval whether groups of people were answered differently, and asks the champion itself.

1. **bias** finds the intervals without a report from manifests. It compares toxicity, sentiment, refusal, length, validity
   and quality of the answers between segments, languages and the groups that prompts mention; and it asks the champion and
   its base model three sets: the application's own messages with the writer's name, age or faith swapped, CrowS-Pairs and
   BBQ. The sets and their counts are fixed, so a model is asked once, and the next interval is no work. Reports and numbers
   are in MLflow, too.
2. **verdict** shows the verdict in its log. It fails when an interval could not be judged or did not arrive at all; a bias
   FAIL does not fail it. With too little data it is skipped, which is no pass.
3. **retraining**, where `retraining.on` names bias, decides after the newest of these intervals by the policy, and wakes
   finetune for a retraining that nobody trains for yet.

Woken by every interval of interactions and by the clock, in case an event was lost or an interval is missing. On the weekday
`bias.full_weekday` the full sets are asked. By hand: choose a day to judge its intervals again.
"""

from __future__ import annotations

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable

from nightshift.orchestration.application_dag import application_dag, applications_to_parse
from nightshift.orchestration.assets import interactions_asset, retraining_asset
from nightshift.orchestration.forms import optional_day
from nightshift.orchestration.job import job
from nightshift.orchestration.nightly import ASKED_INTERVAL, retraining, verdict

for app in applications_to_parse("nightly_bias"):
    with application_dag(
        app,
        "nightly_bias",
        "Compare each interval's answers between groups of people.",
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable(app.look("bias"), timezone=app.timezone), assets=interactions_asset(app)
        ),
        params={
            "night": optional_day(
                app,
                f"Day whose intervals are judged again ({app.timezone}); empty: every interval that has no report yet",
            )
        },
        doc_md=__doc__,
    ):
        bias = job("bias", app, ASKED_INTERVAL, obey_verdict=False)

        verdict(bias.output)
        if "bias" in app.retraining.on:
            retraining.override(outlets=[retraining_asset(app)])(app.name, "bias", bias.output)
