"""
### Fine-tune

Trains a candidate on the accepted examples of an application, judges it, and registers it.

1. **due** asks the ledger whether a retraining is ordered, and claims it for this run. Its log has the reason and the
   reports. Without an order the run ends here, skipped with "nothing due", unless a person or the application's `retrain`
   schedule started it. A model that the run before trained and could not register is reused.
2. **snapshot** gathers the training set from the manifests of the newest days, and the held-out rows that no training
   set holds.
3. **train** fine-tunes the base model with DeepSpeed. Loss, learning rate, tokens per second and memory are live in
   MLflow, and so is the reason. A killed training continues from its newest complete checkpoint. The weights, with the prompt
   and decoding settings of the application's file, are an application version: the candidate.
4. **evaluate** judges base, champion and candidate on the same held-out examples, with confidence intervals.
5. **reference** keeps the profile of what the candidate was trained and judged on: what its intervals are compared with.
6. **register** makes a model version with the alias `candidate`; its asset event starts the release.
7. **close** records in the ledger how the retraining ended and its hours, also when a task failed; a run that a person marked
   as failed counts as cancelled.

Start it by hand with the form, or give the application a `retrain` schedule. The same inputs give the same model:
a second run without new data finds it instead of training it again.
"""

from __future__ import annotations

from itertools import pairwise

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, Param

from nightshift.orchestration.application_dag import application_dag, applications_to_parse
from nightshift.orchestration.assets import candidate_asset, retraining_asset
from nightshift.orchestration.candidate_event import announce
from nightshift.orchestration.forms import optional_day, params_of
from nightshift.orchestration.job import job
from nightshift.orchestration.retraining import close, due
from nightshift.orchestration.runtime_values import form, result_of
from nightshift.settings.training import TrainingSettings

CAUSE = {"order": result_of("due", "order"), "reason": result_of("due", "reason")}
SNAPSHOT = {"snapshot": result_of("snapshot", "snapshot"), "digest": result_of("snapshot", "digest")}
MODEL = {"model": result_of("train", "version"), "model_digest": result_of("train", "version_digest")}
EVALUATION = {"evaluation": result_of("evaluate", "evaluation"), "evaluation_digest": result_of("evaluate", "digest")}


for app in applications_to_parse("finetune"):
    # These types of runs train only for an order.
    unasked = ["asset_triggered"] if app.retrain else ["asset_triggered", "scheduled"]
    with application_dag(
        app,
        "finetune",
        "Examples to a registered candidate.",
        # Also on a schedule, since events may be lost.
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable(app.retrain or app.look("finetune"), timezone=app.timezone),
            assets=retraining_asset(app),
        ),
        params={
            "until": optional_day(app, "Last day of examples to train on; empty: the newest accepted"),
            "base_model": Param(
                app.base_model,
                type="string",
                minLength=1,
                description="smollm2-135m-instruct, a Hugging Face id, a path or a URI",
            ),
            **params_of(app.training, section="Training"),
        },
        doc_md=__doc__,
    ):
        claimed = due(app.name, unasked)
        snapshot = job(
            "snapshot",
            app,
            {**form(["until", "window_days", "min_examples", "recipe"]), "of_model": result_of("due", "model")},
        )
        train = job(
            "train",
            app,
            {**SNAPSHOT, **form(["base_model"]), "training": form(list(TrainingSettings.model_fields)), **CAUSE},
        )
        evaluate = job("evaluate", app, {**SNAPSHOT, **MODEL, **form(["base_model"])})
        reference = job("reference", app, {**SNAPSHOT, **MODEL, **EVALUATION})
        register = job(
            "register",
            app,
            {**MODEL, **EVALUATION, "order": CAUSE["order"]},
            obey_verdict=False,
        )
        closed = close(app.name).as_teardown(setups=claimed, on_failure_fail_dagrun=True)

        steps = [claimed, snapshot, train, evaluate, reference, register]
        for before, after in pairwise(steps):
            before >> after
        steps >> closed
        announce.override(outlets=[candidate_asset(app)])(register.output)
