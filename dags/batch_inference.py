"""
### Batch inference

Answers what users asked in one data interval, and scores every answer: the interactions that drift and bias are
measured on.

1. **ingest** makes the prompts' partition of the application's `traffic.sources`, after **arrival** waited for their data.
   Without any it is **examples** in its place: it waits for the examples of the interval, which the ingest DAG alone
   makes, and whose rows of the split `traffic` are replayed. If none come the interval is skipped, and says why.
2. **generate** lets the champion answer, one task a shard. A killed task goes on with its next part. Without a champion
   the interval is skipped. An application whose responses a serving system logged has no such task.
3. **score** measures every interaction: length, language, format, refusal, toxicity, sentiment, personal data,
   groundedness, and quality where a reference is known.
4. **record** emits the asset of the application's interactions, with the URI and digest of the manifest.
5. With `feedback` in the application's file, **feedback** finds the interactions that people judged in the interval, those of
   earlier intervals among them. It also runs where the interval was skipped. With `feedback.corrections` what they corrected
   becomes examples.

With `split` in the application's file **assign** checks whether a candidate answers a share of the traffic. Then
**challenger_generate** and **challenger_score** answer its rows, **arms** adds the interval to the evidence, and **ramp**
decides: a larger share, the release, no change, or the end of the split.

Runs daily, catches up and can be backfilled: the same prompts and the same champion give the same partition.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, TriggerRule, task
from airflow.sdk.exceptions import AirflowSkipException

from nightshift.orchestration.application_dag import application_dag, applications_to_parse, daily
from nightshift.orchestration.assets import candidate_asset, interactions_asset
from nightshift.orchestration.examples_sensor import ExamplesSensor
from nightshift.orchestration.job import job
from nightshift.orchestration.job_task import JobTask
from nightshift.orchestration.ramp import assign, ramp
from nightshift.orchestration.runtime_values import INTERVAL, RUN_ID, RuntimeValue, result_of
from nightshift.orchestration.sources_sensor import SourcesSensor
from nightshift.settings.application import Application


@task
def record(scored: dict[str, Any] | None, *, ti: Any, outlet_events: Any) -> None:
    """Tell who waits for interactions that an interval is there."""
    if scored is None:
        raise AirflowSkipException("the champion answered nothing")
    outlet_events[ti.task.outlets[0]].extra = {
        "manifest": f"{scored['interactions']}/manifest.json",
        "digest": scored["digest"],
        "rows": scored["rows"],
    }


def prompts_of(app: Application) -> BaseOperator:
    """The task whose result names the partition of prompts. Only the ingest DAG makes examples."""
    if app.traffic.sources:
        ingest = job("ingest", app, {"interval": INTERVAL, "part": "traffic"})
        SourcesSensor(task_id="arrival", app=app, part="traffic", interval=INTERVAL) >> ingest
        return ingest
    return ExamplesSensor(task_id="examples", app=app, interval=INTERVAL)


def shards_of(
    app: Application, arguments: dict[str, RuntimeValue], name: str = "generate", **kwargs: Any
) -> list[JobTask]:
    """The tasks that generate; none if responses are logged elsewhere."""
    if app.traffic.served_elsewhere:
        return []
    count = app.inference.shards
    if count == 1:
        return [job("generate", app, {**arguments, "run": RUN_ID}, task_id=name, **kwargs)]
    return [
        job(
            "generate",
            app,
            {**arguments, "shard": shard, "shards": count, "run": RUN_ID},
            task_id=f"{name}_{shard}",
            **kwargs,
        )
        for shard in range(count)
    ]


def arm_of(name: str) -> dict[str, RuntimeValue]:
    """The version and its rows from the task that assigns them; None if the champion answers alone."""
    return {"model": result_of("assign", name), "arm": result_of("assign", f"{name}_rows")}


def answers_of(shards: list[JobTask]) -> dict[str, RuntimeValue]:
    """The address of a version's responses."""
    names = ("responses", "model", "model_digest") if shards else ()
    return {name: result_of(shards[0].task_id, name) for name in names}


for app in applications_to_parse("batch_inference"):
    with application_dag(
        app,
        "batch_inference",
        "An interval's prompts to scored interactions.",
        **daily(app, "to answer"),
        doc_md=__doc__,
    ):
        prompts = prompts_of(app)
        where = {"prompts": result_of(prompts.task_id, "examples"), "digest": result_of(prompts.task_id, "digest")}
        # If `assign` is skipped the champion answers all rows; if the prompts are skipped, nothing is answered.
        alone: dict[str, Any] = {"trigger_rule": TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS} if app.split else {}
        arm = arm_of("champion") if app.split else {}
        shards = shards_of(app, where | arm, **alone)
        rows = {"arm": arm["arm"]} if app.split else {}
        score = job("score", app, {**where, **answers_of(shards), **rows})
        recorded = record.override(outlets=[interactions_asset(app)], **alone)(score.output)

        prompts >> [*shards, score]
        shards >> score
        if app.feedback:
            # No feedback keeps no interval from those who wait for it, and an interval without answers loses no feedback.
            judged = job("feedback", app, {"interval": INTERVAL}, obey_verdict=False, trigger_rule=TriggerRule.ALL_DONE)
            score >> judged >> recorded
        if app.split:
            assigned = assign(app.name, prompts.output)
            challenger = arm_of("challenger")
            others = shards_of(app, where | challenger, "challenger_generate")
            theirs = {**where, **answers_of(others), "arm": challenger["arm"]}
            challenger_score = job("score", app, theirs, task_id="challenger_score")
            ramped = ramp.override(
                outlets=[candidate_asset(app)], trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
            )(app.name, assigned)
            assigned >> [*shards, *others]
            others >> challenger_score
            [score, challenger_score] >> job("arms", app, {}) >> ramped
            challenger_score >> recorded
            if app.feedback:
                challenger_score >> judged
