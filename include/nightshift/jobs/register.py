"""The job `register`: make the trained model a version in the MLflow registry, with its verdict and its aliases."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

from pydantic import Field
from upath import UPath

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.entities import LoggedModel

    from nightshift.evaluation.gates import Decision
    from nightshift.evaluation.score_file import ScoreFile
    from nightshift.storage.partition import Manifest

log = logging.getLogger(__name__)


class Spec(JobSpec):
    """The model, and the evaluation that judged it."""

    model: str
    model_digest: str
    evaluation: str
    evaluation_digest: str
    order: int | None = Field(None, description="retraining of the ledger that the model was trained for")


class Result(JobResult):
    """The version, what the gate said about it, and the aliases it has now."""

    name: str
    version: str
    aliases: list[str]
    verdict: Verdict
    reasons: list[str]
    run_url: str
    model_url: str


def run(spec: Spec, progress: Progress) -> Result:
    """Register the model, whatever the verdict, and make it the `candidate`. Only a release makes a `champion`.

    :raises BadInput: a partition is gone or damaged, or the evaluation judged another model.
    :raises BadEnvironment: MLflow cannot be reached; the next try goes on where this one stopped.
    """
    from mlflow import MlflowClient

    from nightshift.errors import BadInput
    from nightshift.evaluation.gates import gate
    from nightshift.evaluation.score_file import read_scores
    from nightshift.registry import models, versions
    from nightshift.registry.server import pages
    from nightshift.registry.tracking import experiment_of, find_run, reachable
    from nightshift.storage.files import scratch
    from nightshift.storage.partition import require_manifest

    name, model, evaluation = spec.application.name, UPath(spec.model), UPath(spec.evaluation)
    manifest = require_manifest(model, spec.model_digest)
    scores = read_scores(evaluation, require_manifest(evaluation, spec.evaluation_digest))
    if scores.models.get("candidate") != spec.model_digest:
        raise BadInput(f"{evaluation} judged another candidate than {model}")
    decision = gate(scores.comparison, spec.application.gate, scores.parts)
    card = _card(spec, manifest, scores, decision)

    with reachable():
        client = MlflowClient()
        experiment = experiment_of(client, name)
        training = find_run(client, experiment, f"train-{model.name}")
    folder = scratch(UPath(spec.storage))
    try:
        progress.report(0, 2, unit="steps")
        version = models.register(
            name,
            model=spec.model,
            digest=spec.model_digest,
            tags=_tags(spec, manifest, scores, decision),
            description=card,
            package=lambda logged: _package(spec, manifest, card, logged, folder),
            run_id=training.info.run_id if training else None,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    progress.report(1, 2, unit="steps")
    models.set_alias(version, versions.CANDIDATE)
    progress.report(2, 2, unit="steps")
    run_url = f"{pages(client.tracking_uri)}/#/experiments/{experiment}/runs/{training.info.run_id}" if training else ""
    return Result(
        name=name,
        version=version.version,
        aliases=models.aliases_of(version),
        verdict=decision.verdict,
        reasons=decision.reasons,
        run_url=run_url,
        model_url=version.url,
    )


def _package(spec: Spec, manifest: Manifest, card: str, logged: LoggedModel, folder: Path) -> Path:
    from nightshift.inference.standalone import standalone_copy
    from nightshift.registry.model_card import front_matter
    from nightshift.registry.packaging import package_model
    from nightshift.storage.partition import fetch_folder

    trained = fetch_folder(UPath(spec.model), manifest, folder) / "model"
    whole_card = front_matter(spec.application, _base_model(spec, manifest)) + card
    if "endpoint" in manifest.inputs:  # there are no weights: the version is the endpoint's description, and this card
        described = folder / "described"
        shutil.copytree(trained, described)
        (described / "README.md").write_text(whole_card, encoding="utf-8")
        return described
    served = standalone_copy(trained, folder / "served", spec.application)
    return package_model(served, folder / "mlflow", logged, whole_card)


def _card(spec: Spec, manifest: Manifest, scores: ScoreFile, decision: Decision) -> str:
    from nightshift.registry.model_card import model_card
    from nightshift.storage.partition import read_manifest

    # The model's first parent is its snapshot; a card without its counts is better than no version.
    snapshot = read_manifest(UPath(manifest.parents[0].uri)) if manifest.parents else None
    return model_card(
        spec.application,
        base_model=_base_model(spec, manifest),
        digest=spec.model_digest,
        days=scores.days,
        counts=snapshot.counts if snapshot else {},
        training=None if "endpoint" in manifest.inputs else manifest.inputs.get("training", {}),
        scores=scores.comparison.model_dump()["scores"],
        verdict=decision.verdict.value,
        reasons=decision.reasons,
    )


def _tags(spec: Spec, manifest: Manifest, scores: ScoreFile, decision: Decision) -> dict[str, str]:
    from nightshift.registry import versions

    return {
        "nightshift.application": spec.application.name,
        "nightshift.snapshot_digest": scores.snapshot,
        "nightshift.base_model": _base_model(spec, manifest),
        "nightshift.code_version": manifest.code_version,
        versions.EVALUATION_TAG: spec.evaluation,
        versions.EVALUATION_DIGEST_TAG: spec.evaluation_digest,
        "nightshift.verdict": decision.verdict.value,
        **({versions.ORDER_TAG: str(spec.order)} if spec.order else {}),
    }


def _base_model(spec: Spec, manifest: Manifest) -> str:
    """What the user called the model that this one was trained from."""
    return str(manifest.facts.get("base_model") or spec.application.base_model)
