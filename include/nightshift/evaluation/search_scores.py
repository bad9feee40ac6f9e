"""How good the answers of a trial of a search are, row by row, and whether the best one is shown to be better than today.

The best of many looks better than it is on the rows by which it was chosen. So it is compared on rows that no rung used, where
the choice is independent of what is compared, and one test at the level is right (Cox 1975, "A note on data-splitting for the
evaluation of significance levels"): no correction for the number of trials is left to make.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from nightshift.evaluation.estimates import Estimate, metric_of
from nightshift.evaluation.judge import UnderTest, judge
from nightshift.evaluation.paired import bounds
from nightshift.storage.application_version import ApplicationVersion

Scores = list[float | None]


def scores_of(
    name: str,
    version: ApplicationVersion,
    rows: list[dict[str, Any]],
    metric: str,
    *,
    storage: str,
    report: Callable[[int, int], None],
) -> Scores:
    """Return the score of a version's answer to each row, 0 to 1; None where the judge gave none.

    A row that the version cannot read has 0. What was answered before is not asked again.

    :raises BadEnvironment: the judge or the endpoint of the model does not answer.
    """
    if not rows:
        return []
    table = judge(UnderTest.of("trial", name, version), rows, storage, report).table
    if metric != "judge":
        return list(table[metric].to_pylist())
    from nightshift.evaluation.opinions import judge_scores

    return judge_scores(rows, table["answer"].to_pylist(), table["context"].to_pylist(), version.application, storage)


def mean(scores: Scores) -> float:
    """Return the mean of the scores that there are; 0 without any."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else 0.0


def gain(
    today: Scores, best: Scores, units: Sequence[Hashable], level: float, fewest: int
) -> tuple[Estimate | None, int]:
    """Return by how much the best is better than today, with both bounds at the level, and on how many rows.

    :param units: whose each row is.
    :param fewest: None of fewer rows that have both scores.
    """
    scores = zip(today, best, units, strict=True)
    both = [(new - old, unit) for old, new, unit in scores if old is not None and new is not None]
    if len(both) < fewest:
        return None, len(both)
    found = bounds([one for one, _ in both], [unit for _, unit in both], level)
    return Estimate(**found._asdict()), len(both)


def said_of(name: str, metric: str, found: Estimate | None, rows: int, level: float) -> tuple[bool, str]:
    """Return whether a trial is shown to be better than today, and the sentence that says so."""
    if found is None:
        return False, f"nothing better than today: {rows:,} rows have a score of both, too few to compare"
    measure = metric_of(metric)
    value, low, high = (f"{measure.shown(number, '+')}%" for number in (found.value, found.low, found.high))
    what = f"{name}: gain in {measure.title} over today on {rows:,} rows that chose nothing is {value} [{low}, {high}]"
    if found.low > 0:
        return True, f"{what}, above 0 at a level of {level:g}"
    return False, f"nothing better than today: {what}, not shown to be above 0"
