"""The job `evaluate`: base model, champion and candidate answer the same held-out examples and are compared."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.environment import FOR_MODELS
from nightshift.jobs.progress import Progress

if TYPE_CHECKING:
    from nightshift.evaluation.comparison import Evaluated
    from nightshift.evaluation.judge import Judged, UnderTest

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
    from nightshift.evaluation.comparison import evaluation_of
    from nightshift.evaluation.judge import held_out_examples, judge
    from nightshift.storage.files import scratch
    from nightshift.storage.partition import require_manifest

    snapshot = UPath(spec.snapshot)
    manifest = require_manifest(snapshot, spec.digest)
    models = _models(spec)
    folder = scratch(UPath(spec.storage))
    try:
        examples = held_out_examples(snapshot, manifest, spec.application.evaluation.max_examples, folder)

        def asked(examples: list[dict[str, Any]], what: str) -> list[Judged]:
            def report(role: str, done: int, of: int) -> None:
                progress.report(done, of, unit=f"answers of the {role}{what}")

            app, storage = spec.application, spec.storage
            return [judge(model, examples, app, storage, partial(report, model.role)) for model in models]

        judged = asked(examples, "")
        suites = {name: asked(rows, f" to the suite {name}") for name, rows in _suites(spec, folder).items()}
        known = _known_to_champion(models, folder)
        evaluated = evaluation_of(
            judged, snapshot, manifest, spec.application, spec.storage, known=known, suites=suites
        )
        url = _log(spec, evaluated, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Result(
        evaluation=str(evaluated.partition),
        digest=evaluated.manifest.digest,
        examples=evaluated.scores.comparison.examples,
        scores=evaluated.scores.comparison.model_dump()["scores"],
        run_url=url,
    )


def _suites(spec: Spec, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The examples of the application's suites, by name."""
    if not spec.application.evaluation.suites:
        return {}
    from nightshift.evaluation.suites import suite_examples
    from nightshift.training.base_model import resolve_tokenizer

    tokenizer = resolve_tokenizer(spec.application.base_model)
    return {
        suite.name: suite_examples(suite, spec.application, tokenizer, folder / "suites")
        for suite in spec.application.evaluation.suites
    }


def _known_to_champion(models: list[UnderTest], folder: Path) -> frozenset[str]:
    """Digests of the held-out examples of the snapshot that the champion was trained on."""
    import pyarrow.parquet as pq

    from nightshift.data.snapshot import HELD_OUT
    from nightshift.storage.partition import fetch, read_manifest

    champion = next((model for model in models if model.role == "champion"), None)
    manifest = read_manifest(UPath(champion.model)) if champion and champion.model else None
    if manifest is None or not manifest.parents:
        return frozenset()
    snapshot = UPath(manifest.parents[0].uri)
    made_from = read_manifest(snapshot)
    if made_from is None:
        log.warning("%s is gone: what the champion was judged on cannot be told from what came after it", snapshot)
        return frozenset()
    table = pq.read_table(fetch(snapshot, made_from, HELD_OUT, folder / "champion"), columns=["digest"])
    return frozenset(table["digest"].to_pylist())


def _models(spec: Spec) -> list[UnderTest]:
    """Base, champion and candidate. A candidate that is the champion by now is only itself; an endpoint's model has no base."""
    from nightshift.evaluation.judge import UnderTest
    from nightshift.registry.models import with_alias
    from nightshift.registry.versions import CHAMPION
    from nightshift.storage.partition import require_manifest
    from nightshift.training.base_model import base_model_digest, resolve_base_model

    models = []
    if "endpoint" not in require_manifest(UPath(spec.model), spec.model_digest).inputs:
        base = resolve_base_model(spec.base_model)
        models.append(UnderTest("base", spec.base_model, base_model_digest(base), lambda _folder: base))
    champion = with_alias(spec.application.name, CHAMPION)
    if champion and champion.digest != spec.model_digest:
        name = f"version {champion.version}"
        fetcher = _fetcher(champion.model, champion.digest)
        models.append(UnderTest("champion", name, champion.digest, fetcher, champion.model))
    name = f"model {UPath(spec.model).name}"
    models.append(UnderTest("candidate", name, spec.model_digest, _fetcher(spec.model, spec.model_digest)))
    return models


def _fetcher(model: str, digest: str) -> Callable[[Path], Path]:
    from nightshift.storage.partition import fetch_folder, require_manifest

    partition = UPath(model)
    return lambda folder: fetch_folder(partition, require_manifest(partition, digest), folder) / "model"


def _log(spec: Spec, evaluated: Evaluated, folder: Path) -> str:
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    from nightshift.registry.tracking import TrackingRun, find_run
    from nightshift.storage.partition import fetch

    name, model = spec.application.name, UPath(spec.model).name
    run = TrackingRun(
        name,
        key=f"evaluate-{evaluated.partition.name}",
        name=f"evaluate {model[:8]}",
        tags={
            "nightshift.job": "evaluate",
            "nightshift.evaluation": str(evaluated.partition),
            "nightshift.model": spec.model,
            "nightshift.snapshot": spec.snapshot,
            "nightshift.verdict": evaluated.scores.decision.verdict.value,
            "mlflow.note.content": "\n".join(f"- {reason}" for reason in evaluated.scores.decision.reasons),
        },
    )
    if training := find_run(run.client, run.experiment_id, f"train-{model}"):
        run.tags({MLFLOW_PARENT_RUN_ID: training.info.run_id})
    run.params({"evaluation": spec.application.evaluation.model_dump(), "gate": spec.application.gate.model_dump()})
    run.metrics(evaluated.metrics)
    for file in evaluated.manifest.files:
        run.artifact(fetch(evaluated.partition, evaluated.manifest, file.name, folder))
    run.finish()
    return run.url
