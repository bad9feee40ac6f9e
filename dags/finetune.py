"""
### Fine-tune

Trains a candidate on the accepted examples of an application, judges it, and registers it.

1. **snapshot** gathers the training set from the manifests of the newest days, and the held-out rows that no training
   set holds.
2. **train** fine-tunes the base model with DeepSpeed. Loss, learning rate, tokens per second and memory are live in
   MLflow. A killed training goes on from its newest complete checkpoint.
3. **evaluate** judges base, champion and candidate on the same held-out examples, with confidence intervals.
4. **register** makes a model version with the alias `candidate`. The first candidate that passes its gate becomes
   `champion`.

Start it by hand with the form, or give the application a `retrain` schedule. The same inputs lead to the same model:
a second run with nothing new finds it instead of training it again.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, task

from nightshift.applications import readable_applications
from nightshift.config import Training
from nightshift.orchestration.assets import candidate_asset
from nightshift.orchestration.forms import optional_day, params_of, rendered
from nightshift.orchestration.job import job, result_of

SNAPSHOT = {"snapshot": result_of("snapshot", "snapshot"), "digest": result_of("snapshot", "digest")}
MODEL = {"model": result_of("train", "model"), "model_digest": result_of("train", "digest")}
EVALUATION = {"evaluation": result_of("evaluate", "evaluation"), "evaluation_digest": result_of("evaluate", "digest")}


@task
def announce(version: dict[str, Any], *, ti: Any, outlet_events: Any) -> None:
    """Tell who waits for candidates that one is registered."""
    extra = {key: version[key] for key in ("name", "version", "verdict", "model_url")}
    outlet_events[ti.task.outlets[0]].extra = extra


for app in readable_applications():
    with DAG(
        dag_id=f"{app.name}_finetune",
        description=f"Examples to a registered candidate. {app.description}",
        schedule=CronTriggerTimetable(app.retrain, timezone="UTC") if app.retrain else None,
        start_date=datetime.combine(app.start, time(), UTC),
        catchup=False,
        max_active_runs=1,
        default_args={
            "owner": app.owner,
            "retries": 2,
            "retry_delay": timedelta(seconds=30),
            "pool": "nightshift_training",
        },
        params={
            "until": optional_day("Last day of examples to train on; empty: the newest accepted"),
            "base_model": Param(
                app.base_model,
                type="string",
                minLength=1,
                description="smollm2-135m-instruct, a Hugging Face id or a path",
            ),
            **params_of(app.training, section="Training"),
        },
        tags=["nightshift", app.name],
        doc_md=__doc__,
    ):
        snapshot = job("snapshot", app, rendered(["until", "window_days"]), pool="nightshift_jobs")
        train = job(
            "train", app, {**SNAPSHOT, **rendered(["base_model"]), "training": rendered(list(Training.model_fields))}
        )
        evaluate = job("evaluate", app, {**SNAPSHOT, **MODEL, **rendered(["base_model"])})
        register = job("register", app, {**MODEL, **EVALUATION}, obey_verdict=False, pool="nightshift_jobs")

        snapshot >> train >> evaluate >> register
        announce.override(outlets=[candidate_asset(app)])(register.output)
