"""
### Batch inference

Answers what users asked in one data interval, and scores every answer: the interactions that drift and bias are
measured on.

1. **ingest** makes the prompts' partition: the application's `traffic.sources`, or, without any, the examples of the
   interval, whose rows of the split `traffic` are replayed. What the ingest DAG made is found and not made again.
2. **generate** lets the champion answer, one task a shard. A killed task goes on with its next part. Without a champion
   the night is skipped. An application whose responses a serving system logged has no such task.
3. **score** measures every interaction: length, language, format, refusal, toxicity, sentiment, personal data,
   groundedness, and quality where a reference is known.
4. **record** tells the asset of the application's interactions, with the URI and digest of the manifest.

Runs daily, catches up and can be backfilled: the same prompts and the same champion give the same partition.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import task

from nightshift.orchestration.application_dag import INTERVAL, application_dag, applications_to_parse, daily
from nightshift.orchestration.assets import interactions_asset
from nightshift.orchestration.job import job, result_of
from nightshift.orchestration.job_task import JobTask
from nightshift.settings.application import Application

PROMPTS = {"prompts": result_of("ingest", "examples"), "digest": result_of("ingest", "digest")}


@task
def record(night: dict[str, Any], *, ti: Any, outlet_events: Any) -> None:
    """Tell who waits for interactions that a night is there."""
    outlet_events[ti.task.outlets[0]].extra = {
        "manifest": f"{night['interactions']}/manifest.json",
        "digest": night["digest"],
        "rows": night["rows"],
    }


def shards_of(app: Application) -> list[JobTask]:
    """The tasks that generate; none where the responses are already there."""
    if app.traffic.served_elsewhere:
        return []
    count = app.inference.shards
    if count == 1:
        return [job("generate", app, {**PROMPTS, "run": "{{ run_id }}"})]
    return [
        job(
            "generate",
            app,
            {**PROMPTS, "shard": shard, "shards": count, "run": "{{ run_id }}"},
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
        part = "traffic" if app.traffic.sources else "examples"
        ingest = job("ingest", app, {"interval": INTERVAL, "part": part})
        shards = shards_of(app)
        answers = {
            "responses": result_of(shards[0].task_id, "responses"),
            "model": result_of(shards[0].task_id, "model"),
            "model_digest": result_of(shards[0].task_id, "model_digest"),
        } if shards else {}  # fmt: skip
        score = job("score", app, {**PROMPTS, **answers})

        ingest >> [*shards, score]
        shards >> score
        record.override(outlets=[interactions_asset(app)])(score.output)
