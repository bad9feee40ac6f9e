"""The job `drift`: every interval without a verdict gets one, and the first ones of a release are held against its promise."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from upath import UPath

from nightshift.errors import BadInput
from nightshift.jobs.monitors import (
    IntervalResult,
    MonitorResult,
    MonitorSpec,
    published_interval,
    said_of,
    unpublished_interval,
    unreadable_interval,
)
from nightshift.jobs.progress import Progress
from nightshift.registry.versions import CHAMPION, Registered
from nightshift.settings.interval import Interval
from nightshift.storage.application_version import open_version
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from nightshift.ledger.store import Ledger
    from nightshift.monitoring.drift_judgement import DriftContext
    from nightshift.monitoring.due_intervals import Answered, Due

log = logging.getLogger(__name__)


class Spec(MonitorSpec):
    """Which interval is asked for; without one, all that have no verdict yet."""


class Result(MonitorResult):
    """The worst verdict of the intervals that were judged now, and each of them; and why the champion's documents are too old."""

    stale_index: str | None = None  # "": they are not; None: nobody asks


def run(spec: Spec, progress: Progress) -> Result:
    """Judge the intervals that are due, publish and log their reports, and look at the first ones of a release.

    An interval that cannot be read is an ERROR of its own and stays due.

    :raises BadEnvironment: MLflow or storage cannot be reached; what was published before is kept.
    """
    from nightshift.ledger.releases import moved_by_hand
    from nightshift.ledger.store import Ledger
    from nightshift.monitoring.due_intervals import MOST_INTERVALS, lacking
    from nightshift.monitoring.feedback import with_feedback
    from nightshift.monitoring.published_intervals import published_interactions, reports_of
    from nightshift.registry.models import with_alias

    app = spec.application
    champion = with_alias(app.name, CHAMPION)
    if champion is None:
        reason = f"{app.name} has no champion yet; run finetune first"
        return Result(verdict=Verdict.INSUFFICIENT_DATA, reasons=[reason])
    ledger = Ledger(spec.storage, app.name)
    if moved := moved_by_hand(ledger, app.name, champion.version, champion.digest):
        return Result(verdict=Verdict.ERROR, reasons=[moved])
    answered, broken = published_interactions(
        spec.storage, app.name, MOST_INTERVALS + app.drift.trailing_nights, spec.night
    )
    answered = with_feedback(spec.storage, app, answered)
    results = [unreadable_interval(key, said) for key, said in broken.items()]
    references, unreadable = _references(spec, {champion.digest, *(one.model_digest for one in answered)} - {""})
    if champion.digest not in references:
        reason = (
            f"{unreadable[champion.digest]}: version {champion.version} cannot be compared with anything; run finetune "
            "again: the same model is found, and its reference made"
        )
        return Result(verdict=Verdict.ERROR, reasons=[reason], nights=results)
    verdicts = {one.key: reports_of(spec.storage, app.name, "drift", one.key) for one in answered}
    due = _due(spec, champion, references, answered, verdicts, results)
    missing = lacking(spec.expected_by, answered, broken, app)
    if due or missing:  # Evidently takes seconds to import
        results += _judged(_Contexts(spec, champion, references, answered, progress), due, missing)
    if answered:
        results += _unwatched(spec, ledger, answered)
    return Result(**said_of(results, missing), stale_index=_stale_index(spec, champion))


def _stale_index(spec: Spec, champion: Registered) -> str | None:
    """What is wrong with the age of the documents that the champion answers from; "": nothing; None: any age is right."""
    from nightshift.retrieval.stale import why_stale

    settings = spec.application.retrieval
    if settings is None or settings.stale_after is None:
        return None
    try:
        index = open_version(champion.model, champion.digest, spec.application).application.index
        return why_stale(spec.application.name, spec.storage, index, settings.stale_after, datetime.now(UTC))
    except BadInput as error:
        return str(error)


def _unwatched(spec: Spec, ledger: Ledger, answered: list[Answered]) -> Iterator[IntervalResult]:
    """Watch the newest release; where that cannot be, say so of the newest interval."""
    from nightshift.monitoring.release_watch import watch_release

    try:
        watch_release(spec.application, spec.storage, ledger.releases(), answered)
    except BadInput as error:
        log.warning("the newest release cannot be watched: %s", error)
        yield unreadable_interval(answered[-1].key, f"the newest release cannot be watched: {error}")


def _references(spec: Spec, models: set[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The digests of the models' references, and of those without one, why not."""
    from nightshift.monitoring.references import require_reference

    found, lacking = {}, {}
    for model in sorted(models):
        try:
            found[model] = require_reference(spec.storage, spec.application.name, model).digest
        except BadInput as error:
            lacking[model] = str(error)
    return found, lacking


def _due(  # noqa: PLR0917
    spec: Spec,
    champion: Registered,
    references: dict[str, str],
    answered: list[Answered],
    verdicts: dict[str, list[tuple[UPath, Manifest]]],
    results: list[IntervalResult],
) -> list[Due]:
    """The intervals to judge; what is wrong with an interval that a person asked for is added to `results`."""
    from nightshift.monitoring.due_intervals import Due, champion_beside, due, inputs_of

    if spec.night is None:
        known = {key: [manifest.inputs for _, manifest in published] for key, published in verdicts.items()}
        return due(answered, known, champion.digest, references, spec.application)
    asked = []
    for interactions in (one for one in answered if spec.application.day_of(one.interval) == spec.night):
        model = interactions.model_digest or champion.digest
        if model in references:
            inputs = inputs_of(
                interactions.digest,
                references[model],
                spec.application,
                interactions.feedback,
                champion_beside(interactions, answered),
            )
            asked.append(Due(interactions, model, inputs))
        else:
            reason = f"the model that answered it ({model[:12]}) has no reference"
            results.append(unreadable_interval(interactions.key, reason))
    if not asked and not spec.asks_for(result.night for result in results):
        results.append(unpublished_interval(spec.night))
    return asked


@dataclass
class _Contexts:
    """What intervals are judged with, by model: read when the first interval needs it."""

    spec: Spec
    champion: Registered
    references: dict[str, str]
    answered: list[Answered]
    progress: Progress
    made: dict[str, DriftContext] = field(default_factory=dict)

    def of(self, model: str, folder: Path) -> DriftContext:
        """Return the context of a model.

        :raises BadInput: its reference is damaged.
        """
        from nightshift.monitoring.drift_judgement import DriftContext
        from nightshift.monitoring.references import read_reference, reference_partition
        from nightshift.monitoring.topics import Embedder
        from nightshift.registry.models import find_version

        if model not in self.made:
            name, storage = self.spec.application.name, self.spec.storage
            version = self.champion if model == self.champion.digest else find_version(name, model)
            at = reference_partition(storage, name, model)
            self.made[model] = DriftContext(
                application=self.spec.application,
                storage=storage,
                reference=read_reference(at, self.references[model], folder / model[:16]),
                model_digest=model,
                version=version.version if version else "",
                all_answered=self.answered,
                embedder=next((context.embedder for context in self.made.values()), None) or Embedder(),
                report=lambda done, of: self.progress.report(done, of, unit="prompts"),
            )
        return self.made[model]


def _judged(contexts: _Contexts, due: list[Due], missing: Interval | None) -> Iterator[IntervalResult]:
    """Judge one interval after the other, and say what was published of it, or why it cannot be judged."""
    from nightshift.monitoring.drift_judgement import judge, missing_interval

    with scratch_folder(UPath(contexts.spec.storage)) as folder:
        for one in due:
            try:
                yield published_interval(*judge(contexts.of(one.model_digest, folder), one))
            except BadInput as error:
                log.warning("%s cannot be judged: %s", one.answered.key, error)
                yield unreadable_interval(one.answered.key, str(error))
        if missing:
            try:
                yield published_interval(*missing_interval(contexts.of(contexts.champion.digest, folder), missing))
            except BadInput as error:
                yield unreadable_interval(missing.key, str(error))
