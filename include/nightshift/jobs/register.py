"""The job `register`: make the trained model a version in the MLflow registry, with its verdict and its aliases."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

from pydantic import Field
from upath import UPath

from nightshift.errors import BadInput
from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.storage.application_version import ApplicationVersion, open_version, parts_tags
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import digest_of, read_manifest, require_manifest
from nightshift.storage.partition import read_file
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.entities import LoggedModel

    from nightshift.evaluation.gates import Decision
    from nightshift.evaluation.score_file import ScoreFile

log = logging.getLogger(__name__)


class Spec(JobSpec):
    """The model, and the evaluation that judged it."""

    model: str
    model_digest: str
    evaluation: str
    evaluation_digest: str
    order: int | None = Field(None, description="retraining of the ledger that the model was trained for")
    search: str | None = Field(None, description="result of the search that found it, by URI")


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

    from nightshift.evaluation.gates import gate
    from nightshift.evaluation.score_file import read_scores
    from nightshift.registry import models, prompts, versions
    from nightshift.registry.server import pages
    from nightshift.registry.tracking import experiment_of, find_run, reachable

    name, evaluation = spec.application.name, UPath(spec.evaluation)
    candidate = open_version(spec.model, spec.model_digest, spec.application)
    scores = read_scores(evaluation, require_manifest(evaluation, spec.evaluation_digest))
    if scores.models.get("candidate") != spec.model_digest:
        raise BadInput(f"{evaluation} judged another candidate than {spec.model}")
    decision = gate(scores.comparison, spec.application.gate, scores.parts)
    with reachable():
        client = MlflowClient()
        experiment = experiment_of(client, name)
        training = find_run(client, experiment, f"train-{candidate.name}")
        search = find_run(client, experiment, f"search-{UPath(spec.search).name}") if spec.search else None
    runs = f"{pages(client.tracking_uri)}/#/experiments/{experiment}/runs"
    search_url = f"{runs}/{search.info.run_id}" if search else ""
    card = _card(spec, candidate, scores, decision, search_url)
    with scratch_folder(UPath(spec.storage)) as folder:
        progress.report(0, 2, unit="steps")
        version = models.register(
            name,
            model=spec.model,
            digest=spec.model_digest,
            weights=candidate.parts.weights.digest,
            tags=_tags(spec, candidate, scores, decision) | ({versions.SEARCH_TAG: search_url} if search else {}),
            description=card,
            package=lambda logged, whole: _package(candidate, card, logged, whole, folder),
            run_id=training.info.run_id if training else None,
        )
    progress.report(1, 2, unit="steps")
    models.set_alias(version, versions.CANDIDATE)
    prompt = candidate.application.prompt
    for step, asked in [(None, prompt), *prompt.alone.items()]:
        prompts.register_prompt(asked, digest_of(asked.model_dump(mode="json")), version, step)
    progress.report(2, 2, unit="steps")
    run_url = f"{runs}/{training.info.run_id}" if training else ""
    return Result(
        name=name,
        version=version.version,
        aliases=models.aliases_of(version),
        verdict=decision.verdict,
        reasons=decision.reasons,
        run_url=run_url,
        model_url=version.url,
    )


def _package(
    candidate: ApplicationVersion, card: str, logged: LoggedModel, whole: LoggedModel | None, folder: Path
) -> Path:
    from nightshift.inference.standalone import standalone_copy
    from nightshift.registry.borrowed_weights import borrow, without_weights
    from nightshift.registry.model_card import front_matter, without_passages
    from nightshift.registry.packaging import package_model

    trained = candidate.fetch(folder / "fetched")
    whole_card = front_matter(candidate.application, candidate.base_model) + card
    if candidate.at_endpoint:  # there are no weights: the version is the endpoint's description, and this card
        described = folder / "described"
        shutil.copytree(trained, described)
        (described / "README.md").write_text(whole_card, encoding="utf-8")
        return described
    served = standalone_copy(trained, folder / "served", candidate.application)
    if whole:
        without_weights(served)
    packaged = package_model(served, folder / "mlflow", logged, whole_card, without_passages(candidate.application))
    return borrow(packaged, f"models:/{whole.model_id}") if whole else packaged


def _card(spec: Spec, candidate: ApplicationVersion, scores: ScoreFile, decision: Decision, search_url: str) -> str:
    from nightshift.evaluation.halving import SEARCH, SearchFile
    from nightshift.jobs.search_result import PAGE, PROMPT, RETRIEVAL, note
    from nightshift.registry.model_card import model_card

    search = ""
    if spec.search:
        at = UPath(spec.search)
        published = require_manifest(at)
        found = SearchFile.model_validate_json(read_file(at, published, SEARCH))
        shown = [one.name for one in published.files if one.name in {PAGE, PROMPT, RETRIEVAL}]
        links = [
            f"[The search in MLflow]({search_url})",
            *(f"[{name}]({search_url}/artifacts/{name})" for name in shown),
        ]
        search = f"{' · '.join(links)}\n\n{note(found)}"
    # A card without the counts of its snapshot is better than no version.
    snapshot = read_manifest(UPath(candidate.snapshot.uri)) if candidate.snapshot else None
    return model_card(
        candidate.application,
        base_model=candidate.base_model,
        digest=spec.model_digest,
        days=scores.days,
        counts=snapshot.counts if snapshot else {},
        training=None if candidate.at_endpoint else candidate.weights.inputs.get("training", {}),
        scores=scores.comparison.model_dump()["scores"],
        verdict=decision.verdict.value,
        reasons=decision.reasons,
        search=search,
    )


def _tags(spec: Spec, candidate: ApplicationVersion, scores: ScoreFile, decision: Decision) -> dict[str, str]:
    from nightshift.registry import versions

    return {
        "nightshift.application": spec.application.name,
        "nightshift.snapshot_digest": scores.snapshot,
        "nightshift.base_model": candidate.base_model,
        "nightshift.code_version": candidate.weights.code_version,
        **parts_tags(candidate.parts),
        versions.EVALUATION_TAG: spec.evaluation,
        versions.EVALUATION_DIGEST_TAG: spec.evaluation_digest,
        "nightshift.verdict": decision.verdict.value,
        **({versions.ORDER_TAG: str(spec.order)} if spec.order else {}),
    }
