"""What was promised of a version before its release, and whether what is measured after it keeps to that.

The level is spent over the looks in equal parts, and shared equally by the quality of answers and the guard rails, of which the
share of valid ones is always one. Each look compares all rows of its intervals with the same promise, so what looks know grows
with 1 / (1/rows + 1/promised rows).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from nightshift.evaluation.estimates import Estimate, metric_of
from nightshift.evaluation.paired import Difference, Kinds, kinds_of, levels_of_looks
from nightshift.evaluation.rails import column_of, rail_values
from nightshift.evaluation.score_file import read_scores
from nightshift.evaluation.shadow_file import PAIRS, read_shadow, shadow_partition
from nightshift.evaluation.unpaired import difference_of
from nightshift.evaluation.watch_file import Measure
from nightshift.ledger.records import Release
from nightshift.settings.application import Application
from nightshift.settings.guard_rails import VALID, GuardRails
from nightshift.settings.watch import Watch
from nightshift.storage.manifest import read_manifest
from nightshift.storage.partition import fetch, partition_of
from nightshift.verdict import Verdict

Rows = list[dict[str, Any]]


class Promise(NamedTuple):
    """What was measured of a version before its release, by metric; scores against known answers and the judge's are quality."""

    by: Literal["shadow", "evaluation"]
    scores: dict[str, Kinds]


def promise_of(
    application: Application, storage: str, release: Release, before: Release | None, folder: Path
) -> Promise:
    """Return what the shadow measured of a version, or where it compared nothing, its evaluation on held-out examples.

    :param before: the release of the champion that was replaced.
    """
    if before:
        at = shadow_partition(storage, application, release.model_digest, before.model_digest)
        manifest = read_manifest(at)
        metric = found.metric if manifest and (found := read_shadow(at, manifest)) else None
        if manifest and metric:
            pairs = pq.read_table(fetch(at, manifest, PAIRS, folder / "shadow"))
            # What another version of an own scorer gave cannot be compared with what it gives now.
            rails, now = application.watched_rails, application.made_by_own_scorers.get("scorers", {})
            then = manifest.facts.get("scorers", {})
            names = {
                metric: "score",
                **{name: column_of(name) for name in rails.rails if then.get(name) == now.get(name)},
            }
            if "candidate_score" in pairs.column_names:  # a shadow of before has no scores
                rows = pairs.to_pylist()
                sides = {name: _kinds(name, f"candidate_{column}", rows, rails) for name, column in names.items()}
                return Promise("shadow", {name: kinds for name, kinds in sides.items() if kinds})
    at = partition_of(storage, application.name, "evaluations", (release.evaluation or "none").rpartition("/")[2])
    manifest = read_manifest(at)
    comparison = read_scores(at, manifest).comparison if manifest else None
    own = comparison.scores.get("candidate", {}) if comparison else {}
    return Promise(
        "evaluation",
        {
            name: shares(own[name].value, comparison.examples)
            for name in (application.gate.metric, "judge", VALID)
            if comparison and name in own
        },
    )


def shares(mean: float, rows: int) -> Kinds:
    """Return a mean as that of scores of 0 and 1: no others of the same mean vary more."""
    return Kinds(np.array([1.0, 0.0]), np.ones(2), rows * np.array([mean, 1 - mean]))


def measures_of(
    promise: Promise, rows: Rows, look: int, settings: Watch, *, rails: GuardRails, metric: str
) -> list[Measure]:
    """Return what was measured against what was promised: of quality what most is known of, and the guard rails.

    :param rows: of all looks until now: `look`, `unit`, `reference`, `judge`, and the columns that guard rails look at.
    :param metric: of the gate, which `reference` is measured in.
    """
    columns = {metric: "reference", "judge": "judge", **{name: column_of(name) for name in rails.rails}}
    found = [
        measure
        for name, column in columns.items()
        if name in promise.scores
        and (measure := _measure(name, column, promise.scores[name], rows, look=look, settings=settings, rails=rails))
    ]
    quality = [measure for measure in found if measure.metric not in rails.rails][:1]
    return [*quality, *(measure for measure in found if measure.metric in rails.rails)]


def _measure(
    name: str, column: str, promised: Kinds, rows: Rows, *, look: int, settings: Watch, rails: GuardRails
) -> Measure | None:
    """One measure compared; None where too few rows have it by now."""
    kinds = _kinds(name, column, rows, rails)
    counts = [
        sum(row.get(column) is not None for row in rows if row["look"] <= number) for number in range(1, look + 1)
    ]
    # A look without new rows tests nothing.
    tested = [
        number
        for number in range(1, look + 1)
        if counts[number - 1] >= settings.min_rows and counts[number - 1] > (counts[number - 2] if number > 1 else 0)
    ]
    if kinds is None or not tested:
        return None
    promised_rows = float(promised.counts @ promised.sizes)
    level = level_of_look(
        settings.level / (1 + len(rails.rails)),
        [counts[number - 1] for number in tested],
        promised_rows,
        [number / settings.intervals for number in tested],
    )
    difference = difference_of(kinds, promised, level)
    mean = float(promised.counts @ promised.sums) / promised_rows
    return Measure(
        metric=name,
        promised=mean,
        promised_rows=round(promised_rows),
        measured=mean + difference.value,
        rows=counts[-1],
        difference=Estimate(**difference._asdict()),
        level=level,
    )


def level_of_look(level: float, rows: Sequence[int], promised: float, spent: Sequence[float]) -> float:
    """Return the level of the last of some looks.

    :param rows: that each look knew; `promised`, those of the promise.
    :param spent: share of the level by each look.
    """
    known = [1 / (1 / count + 1 / promised) for count in rows]
    return levels_of_looks(level, [one / known[-1] for one in known], spent)[-1]


def fell(difference: Difference | Estimate, margin: float) -> bool:
    """Return whether a difference is shown to be a fall, and is one of more than the margin."""
    return difference.high < 0 and difference.value < -margin


def verdict_of(
    measures: Sequence[Measure], promised: Collection[str], settings: Watch, rails: GuardRails
) -> tuple[Verdict, list[str]]:
    """Decide what the measures say by now.

    A fall that is shown, and is more than the margin: FAIL, a breach. One that is more than the margin and is not shown: WARN.
    Too few rows whose quality, or a guard rail that was asked for, can be compared, or nothing promised of that:
    INSUFFICIENT_DATA.

    :param promised: metrics of which something was promised.
    """
    said = [str(measure) for measure in measures]
    fallen = [str(measure) for measure in measures if fell(measure.difference, settings.margin)]
    if fallen:
        return Verdict.FAIL, [f"{one}, which is below -{100 * settings.margin:g}" for one in fallen]
    compared = {measure.metric for measure in measures}
    missing = [name for name in rails.rails if name not in {VALID, *compared}]
    few = ["quality"] if compared <= {*rails.rails} else []
    few += [metric_of(name).title for name in missing if name in promised]
    reasons = (
        [f"fewer than {settings.min_rows:,} rows can be compared in {' and '.join(few)} with what was promised"]
        if few
        else []
    )
    if unknown := [metric_of(name).title for name in missing if name not in promised]:
        reasons.append(f"no shadow measured {' and '.join(unknown)}, so nothing was promised of it")
    if reasons:
        return Verdict.INSUFFICIENT_DATA, [*reasons, *said]
    doubtful = any(measure.difference.value < -settings.margin for measure in measures)
    return (Verdict.WARN if doubtful else Verdict.PASS), said


def _kinds(name: str, column: str, rows: Rows, rails: GuardRails) -> Kinds | None:
    values = rail_values(name, [row.get(column) for row in rows], rails)
    known = [(value, row["unit"]) for value, row in zip(values, rows, strict=True) if not np.isnan(value)]
    return kinds_of([value for value, _ in known], [unit for _, unit in known]) if known else None
