"""
### Batch inference

Answers what users asked in one data interval, and scores every answer: the interactions that drift and bias are
measured on.

1. **ingest** makes the prompts' partition of the application's `traffic.sources`, after **arrival** waited for their data.
   Without any it is **examples** in its place: it waits for the examples of the interval, which the ingest DAG alone
   makes, and whose rows of the split `traffic` are replayed. If none come the night is skipped, and says why.
2. **generate** lets the champion answer, one task a shard. A killed task goes on with its next part. Without a champion
   the night is skipped. An application whose responses a serving system logged has no such task.
3. **score** measures every interaction: length, language, format, refusal, toxicity, sentiment, personal data,
   groundedness, and quality where a reference is known.
4. **record** tells the asset of the application's interactions, with the URI and digest of the manifest.

Runs daily, catches up and can be backfilled: the same prompts and the same champion give the same partition.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, task

from nightshift.orchestration.application_dag import application_dag, applications_to_parse, daily
from nightshift.orchestration.assets import interactions_asset
from nightshift.orchestration.examples_sensor import ExamplesSensor
from nightshift.orchestration.given import INTERVAL, RUN_ID, Given, result_of
from nightshift.orchestration.job import job
from nightshift.orchestration.job_task import JobTask
from nightshift.orchestration.sources_sensor import SourcesSensor
from nightshift.settings.application import Application


@task
def record(night: dict[str, Any], *, ti: Any, outlet_events: Any) -> None:
    """Tell who waits for interactions that a night is there."""
    outlet_events[ti.task.outlets[0]].extra = {
        "manifest": f"{night['interactions']}/manifest.json",
        "digest": night["digest"],
        "rows": night["rows"],
    }


def prompts_of(app: Application) -> BaseOperator:
    """The task that has the prompts' partition; its result says which. Examples are made by the ingest DAG alone."""
    if app.traffic.sources:
        ingest = job("ingest", app, {"interval": INTERVAL, "part": "traffic"})
        SourcesSensor(task_id="arrival", app=app, part="traffic", interval=INTERVAL) >> ingest
        return ingest
    return ExamplesSensor(task_id="examples", app=app, interval=INTERVAL)


def shards_of(app: Application, prompts: dict[str, Given]) -> list[JobTask]:
    """The tasks that generate; none where the responses are already there."""
    if app.traffic.served_elsewhere:
        return []
    count = app.inference.shards
    if count == 1:
        return [job("generate", app, {**prompts, "run": RUN_ID})]
    return [
        job(
            "generate",
            app,
            {**prompts, "shard": shard, "shards": count, "run": RUN_ID},
            task_id=f"generate_{shard}",
        )
        for shard in range(count)
    ]


for app in applications_to_parse("batch_inference"):
    with application_dag(
        app,
        "batch_inference",
        "A night's prompts to scored interactions.",
        **daily(app, "to answer"),
        doc_md=__doc__,
    ):
        prompts = prompts_of(app)
        where = {"prompts": result_of(prompts.task_id, "examples"), "digest": result_of(prompts.task_id, "digest")}
        shards = shards_of(app, where)
        answers = {
            "responses": result_of(shards[0].task_id, "responses"),
            "model": result_of(shards[0].task_id, "model"),
            "model_digest": result_of(shards[0].task_id, "model_digest"),
        } if shards else {}  # fmt: skip
        score = job("score", app, {**where, **answers})

        prompts >> [*shards, score]
        shards >> score
        record.override(outlets=[interactions_asset(app)])(score.output)
