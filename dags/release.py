"""
### Release

Decides whether the newest candidate may replace the champion, moves the alias, and looks whether it helped.

1. **release** decides by the application's gate: good enough, better than its base model, no worse than the champion on
   what the champion knows, and better on what came after it. The decision is recorded with its numbers.
2. **promote** moves the alias `champion` in MLflow. Users reach a model only through it.
3. **replay** has the new champion answer the night that led to the retraining again, and compares: drift against the new
   reference, and quality on rows outside every training set, known and new answers apart.

Woken by every registered candidate, and once a day in case an event was lost. A candidate that is held back stays
registered. By hand: choose a version, and give a reason to release one whose verdict is WARN, or to bring back an earlier
champion.
"""

from __future__ import annotations

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, Param

from nightshift.applications import readable_applications
from nightshift.orchestration.application_dag import application_dag
from nightshift.orchestration.assets import candidate_asset
from nightshift.orchestration.forms import rendered
from nightshift.orchestration.job import job, result_of

RELEASED = {name: result_of("release", name) for name in ("released", "version", "model_digest", "champion_digest")}

for app in readable_applications():
    with application_dag(
        app,
        "release",
        "Candidate to champion.",
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable("30 5 * * *", timezone="UTC"), assets=candidate_asset(app)
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
                "back; empty: the gate alone decides",
            ),
        },
        doc_md=__doc__,
    ):
        release = job("release", app, rendered(["version", "reason"]), obey_verdict=False)
        promote = job("promote", app, RELEASED)
        replay = job(
            "replay",
            app,
            {"model_digest": result_of("promote", "model_digest")},
            obey_verdict=False,
            pool="nightshift_training",
        )

        release >> promote >> replay
