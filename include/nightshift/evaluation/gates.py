"""The gate: whether a candidate may be released, as a pure function of the comparison and the application's policy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from nightshift.evaluation.estimates import METRICS, PREFERENCE, Comparison, Estimate, metric_of
from nightshift.settings.gate import RETRIEVAL, Condition, Gate
from nightshift.verdict import Verdict, worst

KNOWN, NEW = "known", "new"  # held-out examples that the champion was judged on, and those that came after it
ON = {
    "all": "",
    KNOWN: " on examples that the champion was judged on",
    NEW: " on examples that came after the champion",
}


@dataclass(frozen=True)
class _Bound:
    """A bound on a measured number; `estimate` is None if it was not measured."""

    what: str
    metric: str
    estimate: Estimate | None
    bound: float
    upper: bool = False


class Decision(BaseModel):
    """A verdict with all its reasons and numbers."""

    verdict: Verdict
    reasons: list[str]
    numbers: dict[str, float]


def gate(comparison: Comparison, policy: Gate, parts: Mapping[str, Comparison] | None = None) -> Decision:
    """Decide about the candidate of a comparison.

    :param parts: the comparison on the slices of the held-out examples, and on suites, by name.

    Each condition is a bound on a number that has an interval: the candidate's score, its gain over the base model (a model
    at an endpoint has none), where there is a champion, what the candidate loses to it on the slice `known` and gains
    on the slice `new`, and `policy.conditions`. If either slice has too few examples, the difference on all of them counts.
    PASS: the whole interval meets the bound. WARN: only the number itself does, which may be chance. FAIL: not even that.
    INSUFFICIENT_DATA: too few examples. ERROR: a score is missing or not finite. The worst condition counts, so each is tested
    at the level of its interval without a correction for the others.
    """
    if comparison.examples < policy.min_examples:
        reason = f"{comparison.examples} judged examples, at least {policy.min_examples} are required"
        return Decision(
            verdict=Verdict.INSUFFICIENT_DATA, reasons=[reason], numbers={"examples": float(comparison.examples)}
        )
    metric, name = policy.metric, METRICS[policy.metric].title
    bounds = [_Bound(f"{name} of the candidate", metric, _score(comparison, metric), policy.lowest_score)]
    if "base" in comparison.scores:
        gain = _difference(comparison, "base", metric)
        bounds.append(_Bound(f"gain in {name} over the base model", metric, gain, policy.min_gain_over_base))
    if "champion" in comparison.scores:
        bounds += _against_champion(comparison, policy, parts or {})

    verdicts, reasons, numbers = [], [], {"examples": float(comparison.examples)}
    for condition in policy.conditions:
        measured = _further(comparison, condition, parts or {}, policy.min_examples)
        if isinstance(measured, _Bound):
            bounds.append(measured)
        elif measured:
            verdicts.append(Verdict.INSUFFICIENT_DATA)
            reasons.append(measured)
    for bound in bounds:
        verdict, reason = _judged(bound)
        verdicts.append(verdict)
        reasons.append(reason)
        if verdict is not Verdict.ERROR and bound.estimate:
            edge = ("high", bound.estimate.high) if bound.upper else ("low", bound.estimate.low)
            numbers |= {
                bound.what: bound.estimate.value, f"{bound.what}, {edge[0]}": edge[1], f"{bound.what}, bound": bound.bound
            }  # fmt: skip
    return Decision(verdict=worst(verdicts), reasons=reasons, numbers=numbers)


def _against_champion(comparison: Comparison, policy: Gate, parts: Mapping[str, Comparison]) -> list[_Bound]:
    metric = policy.metric
    name = f"difference in {METRICS[metric].title} to the champion"
    enough = {key: part for key, part in parts.items() if part.examples >= policy.min_examples}
    if KNOWN in enough and NEW in enough:
        known, new = (_difference(enough[part], "champion", metric) for part in (KNOWN, NEW))
        return [
            _Bound(f"{name} on examples that it was judged on", metric, known, -policy.max_loss_to_champion),
            _Bound(f"{name} on examples that came after it", metric, new, policy.min_gain_on_new),
        ]
    return [_Bound(name, metric, _difference(comparison, "champion", metric), -policy.max_loss_to_champion)]


def _further(
    comparison: Comparison, condition: Condition, parts: Mapping[str, Comparison], enough: int
) -> _Bound | str | None:
    """The bound of an application's condition, why it cannot be judged, or None if there is no model to compare with."""
    role, on = condition.against, condition.suite or condition.slice
    if (role and role not in comparison.scores) or (on in {KNOWN, NEW} and "champion" not in comparison.scores):
        return None
    measured = comparison if on == "all" else parts.get(on)
    where = ON.get(on, f" on the suite {on}")
    title = metric_of(condition.metric).title
    what = f"difference in {title} to the {role}{where}" if role else f"{title} of the candidate{where}"
    count, counted = _counted(measured or Comparison(examples=0, scores={}, differences={}), condition.metric)
    needed = condition.min_examples or (1 if condition.suite else enough)
    if measured is None or count < needed:
        return f"{what}: {count} {counted}, at least {needed} are required"
    estimate = _difference(measured, role, condition.metric) if role else _score(measured, condition.metric)
    upper = condition.at_most is not None
    bound = condition.at_most if condition.at_most is not None else condition.at_least
    return _Bound(what, condition.metric, estimate, float(bound or 0), upper)


def _counted(comparison: Comparison, metric: str) -> tuple[int, str]:
    """The number of examples that a metric was measured on, and their kind."""
    if metric == PREFERENCE:
        return comparison.pairs, "judged preference pairs"
    if metric in RETRIEVAL:
        return comparison.with_documents, "judged examples whose documents are known"
    return comparison.examples, "judged examples"


def _score(comparison: Comparison, metric: str) -> Estimate | None:
    return comparison.scores.get("candidate", {}).get(metric)


def _difference(comparison: Comparison, role: str, metric: str) -> Estimate | None:
    return comparison.differences.get(role, {}).get(metric)


def _judged(condition: _Bound) -> tuple[Verdict, str]:
    estimate, what = condition.estimate, condition.what
    if estimate is None:
        return Verdict.ERROR, f"{what} was not measured"
    metric = metric_of(condition.metric)
    unit = "%" if metric.kind == "share" else ""
    value, low, high, bound = (
        metric.shown(number) + unit for number in (estimate.value, estimate.low, estimate.high, condition.bound)
    )
    text = f"{what} is {value} [{low}, {high}]"
    if not all(map(math.isfinite, (estimate.value, estimate.low, estimate.high))):
        return Verdict.ERROR, f"{text}, which is not a finite number"
    side, most = ("above", "at most") if condition.upper else ("below", "at least")
    sign = -1 if condition.upper else 1
    edge = estimate.high if condition.upper else estimate.low
    if sign * estimate.value < sign * condition.bound:
        return Verdict.FAIL, f"{text}, {side} {bound}"
    if sign * edge < sign * condition.bound:
        return Verdict.WARN, f"{text}: not {side} {bound}, but its interval is"
    return Verdict.PASS, f"{text}, {most} {bound}"
