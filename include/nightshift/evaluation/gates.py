"""Whether a candidate may be released: a pure function of what was measured and the application's policy."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import BaseModel

from nightshift.evaluation.estimates import Comparison, Estimate
from nightshift.settings.application import Gate
from nightshift.verdict import Verdict, worst

NAMES = {"exact_match": "exact match", "rouge_l": "ROUGE-L", "chrf": "chrF"}
TITLES = {**NAMES, "bleu": "BLEU", "loss": "loss", "perplexity": "perplexity"}
KNOWN, NEW = "known", "new"  # held-out examples that the champion was judged on, and those that came after it
Condition = tuple[str, Mapping[str, Estimate] | None, float]


class Decision(BaseModel):
    """A verdict, every reason for it, and the numbers that it saw."""

    verdict: Verdict
    reasons: list[str]
    numbers: dict[str, float]


def gate(comparison: Comparison, policy: Gate, slices: Mapping[str, Comparison] | None = None) -> Decision:
    """Decide about the candidate of a comparison.

    Each condition is a bound on a number that has an interval: the candidate's score, its gain over the base model (a model
    at an endpoint has none), and where there is a champion, what the candidate loses to it on the slice `known` and gains
    on the slice `new`. Where either slice has too few examples, the difference on all of them counts. Beyond the bound with
    its whole interval: PASS. Only the number itself: WARN, because with so few examples it may be luck. Not even that:
    FAIL. The worst condition counts. Too few examples: INSUFFICIENT_DATA, whatever they say. A score that is missing or not
    finite: ERROR.
    """
    if comparison.examples < policy.min_examples:
        reason = f"{comparison.examples} judged examples, at least {policy.min_examples} are asked for"
        return Decision(
            verdict=Verdict.INSUFFICIENT_DATA, reasons=[reason], numbers={"examples": float(comparison.examples)}
        )
    name = NAMES[policy.metric]
    conditions: list[Condition] = [
        (f"{name} of the candidate", comparison.scores.get("candidate"), policy.min_score),
    ]
    if "base" in comparison.scores:
        gain = comparison.differences.get("base")
        conditions.append((f"gain in {name} over the base model", gain, policy.min_gain_over_base))
    if "champion" in comparison.scores:
        conditions += _against_champion(comparison, policy, slices or {})

    verdicts, reasons, numbers = [], [], {"examples": float(comparison.examples)}
    for what, scores, bound in conditions:
        verdict, reason = _condition(what, (scores or {}).get(policy.metric), bound)
        verdicts.append(verdict)
        reasons.append(reason)
        if verdict is not Verdict.ERROR and scores:
            estimate = scores[policy.metric]
            numbers |= {what: estimate.value, f"{what}, low": estimate.low, f"{what}, bound": bound}
    return Decision(verdict=worst(verdicts), reasons=reasons, numbers=numbers)


def _against_champion(comparison: Comparison, policy: Gate, slices: Mapping[str, Comparison]) -> list[Condition]:
    name = f"difference in {NAMES[policy.metric]} to the champion"
    enough = {key: part for key, part in slices.items() if part.examples >= policy.min_examples}
    if KNOWN in enough and NEW in enough:
        known, new = enough[KNOWN].differences.get("champion"), enough[NEW].differences.get("champion")
        return [
            (f"{name} on examples that it was judged on", known, -policy.max_loss_to_champion),
            (f"{name} on examples that came after it", new, policy.min_gain_on_new),
        ]
    return [(name, comparison.differences.get("champion"), -policy.max_loss_to_champion)]


def _condition(what: str, estimate: Estimate | None, bound: float) -> tuple[Verdict, str]:
    if estimate is None:
        return Verdict.ERROR, f"{what} was not measured"
    text = f"{what} is {estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"
    if not all(map(math.isfinite, (estimate.value, estimate.low, estimate.high))):
        return Verdict.ERROR, f"{text}, which is no number"
    if estimate.value < bound:
        return Verdict.FAIL, f"{text}, below {bound:.1%}"
    if estimate.low < bound:
        return Verdict.WARN, f"{text}: not below {bound:.1%}, but its interval is"
    return Verdict.PASS, f"{text}, at least {bound:.1%}"
