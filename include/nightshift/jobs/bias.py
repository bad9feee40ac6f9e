"""The job `bias`: every interval without a bias report gets one, of its outputs by group and of probes on the champion."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from nightshift.errors import BadInput
from nightshift.jobs.environment import FOR_MODELS
from nightshift.jobs.monitors import (
    MonitorResult,
    MonitorSpec,
    published_interval,
    said_of,
    unpublished_interval,
    unreadable_interval,
)
from nightshift.jobs.progress import Progress
from nightshift.registry.versions import CHAMPION, Registered
from nightshift.storage.application_version import ApplicationVersion, open_version
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import fetch

if TYPE_CHECKING:
    from nightshift.monitoring.bias.judgement import BiasContext

    Champion = tuple[Registered, ApplicationVersion]

# Generating is bound by the same processors and allocator as training.
ENVIRONMENT = FOR_MODELS

log = logging.getLogger(__name__)


class Spec(MonitorSpec):
    """Which interval is asked for; without one, all that have no report yet."""


class Result(MonitorResult):
    """The worst verdict of the intervals that were judged now, and each of them."""


def run(spec: Spec, progress: Progress) -> Result:
    """Publish and log the reports of the intervals that are due.

    An interval that cannot be read is an ERROR of its own and stays due.

    :raises BadInput: the base model cannot be found.
    :raises BadEnvironment: MLflow or storage cannot be reached; intervals that were judged before are kept.
    """
    from nightshift.monitoring.bias.due import Due, due, due_interval, inputs_of
    from nightshift.monitoring.bias.judgement import judge_bias
    from nightshift.monitoring.due_intervals import MOST_INTERVALS, lacking
    from nightshift.monitoring.published_intervals import published_interactions, reports_of
    from nightshift.registry.models import with_alias
    from nightshift.training.base_model import base_model_digest, resolve_base_model

    alias = with_alias(spec.application.name, CHAMPION)
    champion = (alias, open_version(alias.model, alias.digest, spec.application)) if alias else None
    app = champion[1].application if champion else spec.application
    spec = spec.model_copy(update={"application": app})
    # A model at an endpoint was trained from nothing that could be asked beside it.
    base = resolve_base_model(app.base_model) if champion and not app.inference.hosted else None
    digests = champion[1].digest if champion else "", base_model_digest(base) if base else ""
    answered, broken = published_interactions(spec.storage, app.name, MOST_INTERVALS, spec.night)
    results = [unreadable_interval(key, said) for key, said in broken.items()]
    reports = {one.key: reports_of(spec.storage, app.name, "bias", one.key) for one in answered}
    if spec.night:
        wanted = [due_interval(one, *digests, app) for one in answered if app.day_of(one.interval) == spec.night]
        if not wanted and not spec.asks_for(broken):
            results.append(unpublished_interval(spec.night))
    else:
        known = {key: [manifest.inputs for _, manifest in published] for key, published in reports.items()}
        wanted = due(answered, known, *digests, app)
    missing = lacking(spec.expected_by, answered, broken, app)
    if missing:
        wanted.append(Due(missing, None, None, digests[0], inputs_of(None, *digests, app)))
    with scratch_folder(UPath(spec.storage)) as folder:
        context = _context(spec, champion, base, folder, progress) if wanted else None
        for one in wanted:
            assert context is not None  # noqa: S101
            try:
                published = judge_bias(context, one)
            except BadInput as error:
                log.warning("%s cannot be judged: %s", one.key, error)
                results.append(unreadable_interval(one.key, str(error)))
                continue
            results.append(published_interval(*published))
    return Result(**said_of(results, missing))


def _context(spec: Spec, champion: Champion | None, base: Path | None, folder: Path, progress: Progress) -> BiasContext:
    from nightshift.evaluation.answers import EvaluatedModel
    from nightshift.monitoring.bias.judgement import BiasContext
    from nightshift.monitoring.bias.probes import AskedModel
    from nightshift.storage.application_version import without_adapter
    from nightshift.training.base_model import base_model_digest

    app, asked, under = spec.application, None, None
    number = champion[0].version if champion else ""
    if champion:
        asked = AskedModel(EvaluatedModel.of("champion", f"version {number}", champion[1]), spec.storage, folder)
    if base:
        of_base = EvaluatedModel(
            "base", app.base_model, base_model_digest(base), without_adapter(app), lambda _folder: base
        )
        under = AskedModel(of_base, spec.storage, folder)
    return BiasContext(
        application=app,
        storage=spec.storage,
        champion=asked,
        version=number,
        base=under,
        held_out=lambda: _held_out(champion[1], folder) if champion else [],
        report=lambda done, of, unit: progress.report(done, of, unit=unit),
    )


def _held_out(champion: ApplicationVersion, folder: Path) -> list[dict[str, Any]]:
    """The rows which the champion's training left out; none where its snapshot is gone."""
    import pyarrow.parquet as pq

    from nightshift.data.examples import without_calls
    from nightshift.data.snapshot import HELD_OUT

    if champion.snapshot is None:
        return []
    try:
        snapshot = require_manifest(UPath(champion.snapshot.uri), champion.snapshot.digest)
        file = fetch(UPath(champion.snapshot.uri), snapshot, HELD_OUT, folder / "held_out")
    except BadInput as error:
        log.warning("no messages to ask with other writers: %s", error)
        return []
    rows = pq.read_table(file, columns=["messages", "prompt", "answer"])
    answers = without_calls(rows["answer"], rows["messages"])
    return list(rows.filter(answers.is_valid()).to_pylist())
