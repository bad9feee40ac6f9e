"""The job `evaluate`: base model, champion and candidate answer the same held-out examples and are compared."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.environment import FOR_MODELS
from nightshift.jobs.progress import Progress
from nightshift.registry.versions import CHAMPION
from nightshift.storage.application_version import ApplicationVersion, open_version, without_adapter
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, read_manifest, require_manifest
from nightshift.storage.partition import fetch

if TYPE_CHECKING:
    from nightshift.evaluation.answers import EvaluatedModel, ModelAnswers
    from nightshift.evaluation.comparison import Evaluated

log = logging.getLogger(__name__)

# Generating is bound by the same processors and allocator as training.
ENVIRONMENT = FOR_MODELS


class Spec(JobSpec):
    """The snapshot whose held-out examples are used, the candidate, and the base model it was trained from."""

    snapshot: str
    digest: str
    model: str
    model_digest: str
    base_model: str


class Result(JobResult):
    """Scores as role -> metric -> {value, low, high}; the roles are base, champion (where there is one), candidate."""

    evaluation: str
    digest: str
    examples: int
    scores: dict[str, dict[str, dict[str, float]]]
    run_url: str


def run(spec: Spec, progress: Progress) -> Result:
    """Publish the comparison, or find it; models that were asked the same before are not asked again.

    :raises BadInput: a partition is gone or damaged, or the base model cannot be found.
    :raises BadEnvironment: MLflow cannot be reached; what was answered is kept and found by the next try.
    """
    from nightshift.evaluation.answers import answers_to, held_out_examples
    from nightshift.evaluation.comparison import evaluation_of

    snapshot = UPath(spec.snapshot)
    manifest = require_manifest(snapshot, spec.digest)
    candidate = open_version(spec.model, spec.model_digest, spec.application)
    models = _models(spec, candidate)
    with scratch_folder(UPath(spec.storage)) as folder:
        examples = held_out_examples(snapshot, manifest, spec.application.evaluation.max_examples, folder)

        def asked(examples: list[dict[str, Any]], what: str) -> list[ModelAnswers]:
            def report(role: str, done: int, of: int) -> None:
                progress.report(done, of, unit=f"answers of the {role}{what}")

            return [answers_to(model, examples, spec.storage, partial(report, model.role)) for model in models]

        answered = asked(examples, "")
        suites = {name: asked(rows, f" to the suite {name}") for name, rows in _suites(spec, manifest, folder).items()}
        known = _known_to_champion(models, folder)
        evaluated = evaluation_of(
            answered, snapshot, manifest, spec.application, spec.storage, known=known, suites=suites
        )
        url = _log(spec, evaluated, candidate, folder)
    return Result(
        evaluation=str(evaluated.partition),
        digest=evaluated.manifest.digest,
        examples=evaluated.scores.comparison.examples,
        scores=evaluated.scores.comparison.model_dump()["scores"],
        run_url=url,
    )


def _suites(spec: Spec, manifest: Manifest, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The examples of the application's suites, by name, with those that people corrected, where any of these are held out."""
    from nightshift.data.examples import CORRECTIONS
    from nightshift.evaluation.suites import corrected_examples, suite_examples
    from nightshift.training.base_model import resolve_tokenizer

    app, suites = spec.application, {}
    if app.evaluation.suites:
        tokenizer = resolve_tokenizer(app.base_model)
        for suite in app.evaluation.suites:
            suites[suite.name] = suite_examples(suite, app, tokenizer, folder / "suites")
    if app.feedback and app.feedback.corrections:
        most = app.evaluation.max_examples
        if corrected := corrected_examples(UPath(spec.snapshot), manifest, most, folder / "corrected"):
            suites[CORRECTIONS] = corrected
    return suites


def _known_to_champion(models: list[EvaluatedModel], folder: Path) -> frozenset[str]:
    """Digests of the held-out examples of the snapshot that the champion was trained on."""
    import pyarrow.parquet as pq

    from nightshift.data.snapshot import HELD_OUT

    champion = next((model.version for model in models if model.role == "champion"), None)
    if champion is None or champion.snapshot is None:
        return frozenset()
    snapshot = UPath(champion.snapshot.uri)
    made_from = read_manifest(snapshot)
    if made_from is None:
        log.warning(
            "%s is gone: scores cannot be split into examples that the champion was judged on and new ones",
            snapshot,
        )
        return frozenset()
    table = pq.read_table(fetch(snapshot, made_from, HELD_OUT, folder / "champion"), columns=["digest"])
    return frozenset(table["digest"].to_pylist())


def _models(spec: Spec, candidate: ApplicationVersion) -> list[EvaluatedModel]:
    """Base, champion and candidate. A candidate that is the champion by now is only itself; an endpoint's model has no base.

    The base model is asked as the candidate is, the champion as users meet it.
    """
    from nightshift.evaluation.answers import EvaluatedModel
    from nightshift.registry.models import with_alias
    from nightshift.training.base_model import base_model_digest, resolve_base_model

    models, app = [], spec.application
    if not candidate.at_endpoint:
        base = resolve_base_model(spec.base_model)
        models.append(
            EvaluatedModel(
                "base",
                spec.base_model,
                base_model_digest(base),
                without_adapter(candidate.application),
                lambda _folder: base,
            )
        )
    champion = with_alias(app.name, CHAMPION)
    if champion and champion.digest != spec.model_digest:
        name = f"version {champion.version}"
        models.append(EvaluatedModel.of("champion", name, open_version(champion.model, champion.digest, app)))
    models.append(EvaluatedModel.of("candidate", f"model {candidate.name}", candidate))
    return models


def _log(spec: Spec, evaluated: Evaluated, candidate: ApplicationVersion, folder: Path) -> str:
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    from nightshift.registry.tracking import TrackingRun, find_run

    run = TrackingRun(
        spec.application.name,
        key=f"evaluate-{evaluated.partition.name}",
        name=f"evaluate {candidate.partition.name[:8]}",
        tags={
            "nightshift.job": "evaluate",
            "nightshift.evaluation": str(evaluated.partition),
            "nightshift.model": spec.model,
            "nightshift.snapshot": spec.snapshot,
            "nightshift.verdict": evaluated.scores.decision.verdict.value,
            "mlflow.note.content": "\n".join(f"- {reason}" for reason in evaluated.scores.decision.reasons),
        },
    )
    if training := find_run(run.client, run.experiment_id, f"train-{candidate.name}"):
        run.tags({MLFLOW_PARENT_RUN_ID: training.info.run_id})
    run.params({"evaluation": spec.application.evaluation.model_dump(), "gate": spec.application.gate.model_dump()})
    run.metrics(evaluated.metrics)
    for file in evaluated.manifest.files:
        run.artifact(fetch(evaluated.partition, evaluated.manifest, file.name, folder))
    run.finish()
    return run.url
