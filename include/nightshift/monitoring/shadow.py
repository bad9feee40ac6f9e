"""Compares the champion's logged answers with a candidate's answers to the same prompts. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nightshift.evaluation.estimates import Estimate, Metric
from nightshift.evaluation.paired import Difference, bounds, ended
from nightshift.evaluation.scores import per_example
from nightshift.evaluation.shadow_file import MEASURES
from nightshift.settings.shadow import Shadow
from nightshift.verdict import Verdict

Row = dict[str, Any]
AS_MEASURED = {  # column of the interactions -> what it measures
    "judge": "judge",
    "valid": "valid",
    "response_characters": "characters",
    "response_tokens": "tokens",
    "latency_ms": "latency_ms",
    "cost": "cost",
}


@dataclass(frozen=True)
class Compared:
    """The answers of both to the same prompts, and their scores by measure, each as (champion's, candidate's) of a row."""

    rows: list[Row]  # the champion's
    answers: list[Row]  # the candidate's
    scores: dict[str, list[tuple[float | None, float | None]]]
    metric: str | None

    @property
    def differences(self) -> list[float]:
        """Candidate minus champion in the metric, of the rows that have both."""
        return [difference for _, difference in self._both(self.metric)]

    def bounds(self, metric: str | None, level: float) -> Difference | None:
        """Return the mean difference in a metric with its bounds; None where no row has both scores."""
        both = list(self._both(metric))
        return bounds([one for _, one in both], [unit for unit, _ in both], level) if both else None

    def difference(self, level: float) -> Estimate | None:
        """Return the difference in the metric by which answers are compared, as files have it."""
        found = self.bounds(self.metric, level)
        return Estimate(**found._asdict()) if found else None

    @property
    def means(self) -> dict[str, tuple[float | None, float | None]]:
        """Champion's and candidate's mean by measure, each over the rows that have one."""
        sides = {
            name: [_mean(side) for side in zip(*pairs, strict=True)] for name, pairs in self.scores.items() if pairs
        }
        return {name: (one, other) for name, (one, other) in sides.items() if (one, other) != (None, None)}

    def _both(self, metric: str | None) -> list[tuple[str, float]]:
        pairs = zip(self.rows, self.scores.get(metric or "", []), strict=False)
        return [(row["unit"], new - old) for row, (old, new) in pairs if old is not None and new is not None]


def compared(rows: Sequence[Row], answers: Sequence[Row], judged_by: str | None, metric: str) -> Compared:
    """Score both answers to each prompt.

    :param rows: of :class:`nightshift.monitoring.logged_prompts.LoggedPrompts`.
    :param answers: the candidate's interactions with the same prompts in the same order, with `cost`.
    :param judged_by: `reference`, `judge` or None.
    :param metric: of the gate, by which answers with a reference are compared.
    """
    texts = ([row["response"] for row in side] for side in (rows, answers))
    old, new = texts
    scores: dict[str, list[tuple[float | None, float | None]]] = {}
    if judged_by == "reference":
        references = [row["reference"] for row in rows]
        scored = per_example(old, references), per_example(new, references)
        scores = {name: list(zip(scored[0][name], scored[1][name], strict=True)) for name in scored[0]}
    for column, measure in AS_MEASURED.items():
        scores[measure] = [(row[column], answer[column]) for row, answer in zip(rows, answers, strict=True)]
    # Two empty answers have no n-grams to share, and are alike.
    alike = zip(per_example(new, old)["chrf"], map(str.__eq__, old, new), strict=True)
    scores["likeness"] = [(None, 1.0 if same else score) for score, same in alike]
    decisive = {"reference": metric, "judge": "judge"}.get(judged_by or "")
    return Compared(list(rows), list(answers), scores, decisive)


def verdict_of(found: Compared, settings: Shadow, level: float, last: bool) -> tuple[Verdict | None, list[str]]:
    """Decide whether the candidate passes the shadow, and say why; None: a further look is to come.

    Shown to be worse by less than the margin: PASS. Not shown, though it is not worse by the margin: WARN. Worse by the margin:
    FAIL, and so is a share of valid answers that is shown to be lower, by more than the margin. Too few prompts whose answers
    can be compared: INSUFFICIENT_DATA, however like each other the answers are.

    :param level: of the bounds of this look.
    :param last: there are no more prompts.
    """
    count, difference = len(found.differences), found.bounds(found.metric, level)
    invalid = found.bounds("valid", level)
    if invalid and invalid.high < 0 and invalid.value < -settings.margin:
        return Verdict.FAIL, [_sentence("valid", invalid, len(found.rows), "below", settings.margin)]
    enough = difference is not None and count >= settings.min_prompts
    outcome = ended(difference, settings.margin) if difference and enough else None
    if outcome is None and not last:
        return None, []
    if difference is None or not enough:
        return Verdict.INSUFFICIENT_DATA, [
            f"shadow: {count} logged prompts can be compared, at least {settings.min_prompts} are asked for: answered by the "
            "champion, unlike all that was trained on, with a known answer or a judge's score. People read the answers side "
            "by side"
        ]
    worse = outcome == "worse" or (outcome is None and difference.value < -settings.margin)
    verdict = Verdict.FAIL if worse else Verdict.WARN if outcome is None else Verdict.PASS
    what = {Verdict.PASS: "above", Verdict.WARN: "not shown to be above", Verdict.FAIL: "below"}[verdict]
    return verdict, [_sentence(str(found.metric), difference, count, what, settings.margin)]


def _sentence(measure: str, difference: Difference, prompts: int, what: str, margin: float) -> str:
    metric: Metric = MEASURES[measure]
    value, low, high, bound = (f"{metric.shown(number, '+')}%" for number in (*difference, -margin))
    return (
        f"shadow: difference in {metric.title} to the champion on {prompts:,} logged prompts is {value} [{low}, {high}], "
        f"{what} {bound}"
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
