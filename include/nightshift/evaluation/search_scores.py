"""Scores the trials of a search row by row, and tests whether the best one is better than today's parts.

The best of many trials looks too good on the rows by which it was chosen. So it is compared on rows that no rung used: there the
choice is independent of the comparison, and a single test is valid without a correction for the number of trials (Cox 1975, "A
note on data-splitting for the evaluation of significance levels").
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from upath import UPath

from nightshift.evaluation.answers import EvaluatedModel, answers_to
from nightshift.evaluation.citations import of_answer, of_passages
from nightshift.evaluation.estimates import Estimate, metric_of
from nightshift.evaluation.paired import bounds
from nightshift.evaluation.retrieved import relevant_in
from nightshift.inference.retrieving import Retriever
from nightshift.settings.gate import RETRIEVAL
from nightshift.storage.application_version import ApplicationVersion
from nightshift.storage.files import scratch_folder

Scores = list[float | None]
OF_ANSWERS = {"tokens": "answer_tokens", "latency_ms": "latency_ms", "cost": "cost"}  # with their columns


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurements of a trial on some rows.

    :param scores: of each row, by the search's metric, 0 to 1, or None.
    :param metrics: all metrics of each row, by name.
    :param seconds: duration of its answers when they were made.
    """

    scores: Scores
    metrics: list[dict[str, float]]
    seconds: float = 0.0


def measure(
    name: str,
    version: ApplicationVersion,
    rows: list[dict[str, Any]],
    metric: str,
    relevant: str | None,
    *,
    k: int,
    storage: str,
    report: Callable[[int, int], None],
) -> Measured:
    """Return the scores of a version on each row; kept answers are reused.

    A row that is too long for the version scores 0. For a metric of retrieval no answers are generated, and rows without known
    relevant ids have no score.

    :param relevant: the column of metadata with the relevant ids; None: unknown.
    :param k: number of passages at which retrieval is measured.
    :raises BadEnvironment: the judge or the endpoint of the model does not answer.
    """
    if not rows:
        return Measured([], [])
    ids = [relevant_in(dict(row["metadata"] or ()).get(relevant)) if relevant else frozenset[str]() for row in rows]
    if metric in RETRIEVAL:
        with scratch_folder(UPath(storage)) as work:
            given = Retriever(version.application, work).given(rows)
        found = [
            of_passages(row.get("retrieved") or (), row.get("context"), expected, k)
            for row, expected in zip(given, ids, strict=True)
        ]
        return Measured([one.get(metric) for one in found], found)
    answered = answers_to(EvaluatedModel.of("trial", name, version), rows, storage, report)
    answers = answered.table
    metrics = [_of_row(row, expected, k) for row, expected in zip(answers.to_pylist(), ids, strict=True)]
    return Measured(_scores(version, rows, answers, metric, storage), metrics, answered.manifest.facts["seconds"])


def _of_row(row: dict[str, Any], relevant: frozenset[str], k: int) -> dict[str, float]:
    found = {name: float(row[column]) for name, column in OF_ANSWERS.items() if row[column] is not None}
    if row["retrieved"] is not None or relevant:
        passages = row["retrieved"] or []
        found |= of_passages(passages, row["context"], relevant, k)
        if passages:
            found |= of_answer(row["answer"], passages, row["context"], relevant)
    return found


def _scores(
    version: ApplicationVersion, rows: list[dict[str, Any]], answers: pa.Table, metric: str, storage: str
) -> Scores:
    if metric != "judge":
        return list(answers[metric].to_pylist())
    from nightshift.evaluation.opinions import judge_scores

    texts, contexts = answers["answer"].to_pylist(), answers["context"].to_pylist()
    return judge_scores(rows, texts, contexts, version.application, storage)


def means(metrics: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the rows that have it."""
    names = dict.fromkeys(name for row in metrics for name in row)
    return {name: mean([row.get(name) for row in metrics]) for name in names}


def mean(scores: Scores) -> float:
    """Return the mean of the scores that are not None; 0 without any."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else 0.0


def gain(
    today: Scores, best: Scores, units: Sequence[Hashable], level: float, fewest: int
) -> tuple[Estimate | None, int]:
    """Return the gain of the best trial over today, with both bounds at the level, and the number of compared rows.

    :param units: the unit of each row.
    :param fewest: with fewer rows that have both scores the gain is None.
    """
    scores = zip(today, best, units, strict=True)
    both = [(new - old, unit) for old, new, unit in scores if old is not None and new is not None]
    if len(both) < fewest:
        return None, len(both)
    found = bounds([one for one, _ in both], [unit for _, unit in both], level)
    return Estimate(**found._asdict()), len(both)


def conclusion(name: str, metric: str, found: Estimate | None, rows: int, level: float) -> tuple[bool, str]:
    """Return whether a trial is significantly better than today, with a sentence about it."""
    if found is None:
        return False, f"nothing better than today: only {rows:,} rows have both scores, too few to compare"
    measure = metric_of(metric)
    value, low, high = (f"{measure.shown(number, '+')}%" for number in (found.value, found.low, found.high))
    what = f"{name}: gain in {measure.title} over today on {rows:,} rows that no rung used is {value} [{low}, {high}]"
    if found.low > 0:
        return True, f"{what}, above 0 at a level of {level:g}"
    return False, f"nothing better than today: {what}, not shown to be above 0"
