"""Verdicts from differences: which gaps are too large, corrected for multiple comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import BaseModel

from nightshift.monitoring.bias.estimates import Difference, beyond
from nightshift.monitoring.significance import q_values
from nightshift.settings.policies import Bias
from nightshift.verdict import Verdict, worst

# One side of a 95 % interval: a single gap is significant exactly when its whole interval lies beyond the bound.
SIGNIFICANCE = 0.025

Section = Literal["outputs", "counterfactuals", "stereotypes", "questions"]


class Finding(BaseModel):
    """One difference between a group and others.

    `value`, `low` and `high` lie on the scale of `max_gap` (-1 to 1); None: too few rows. `q` is the p-value of "the
    true gap is within the bound" after Benjamini and Hochberg over all findings of an interval. `verdict` None: shown only.
    `only_above` says that a gap below 0 is no fault.
    """

    section: Section
    dimension: str
    group: str
    other: str
    metric: str
    n: int
    n_other: int
    mean: float | None = None
    mean_other: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    q: float | None = None
    verdict: Verdict | None = Verdict.INSUFFICIENT_DATA
    only_above: bool = False
    why: str = ""  # there is no number although the group has rows enough

    @property
    def name(self) -> str:
        """As policies and alerts call it: `outputs/prompt_language/de/toxicity`."""
        return "/".join((self.section, self.dimension, self.group, self.metric))


class Judged(BaseModel):
    """What an interval's findings amount to."""

    verdict: Verdict
    sections: dict[Section, Verdict]
    findings: list[Finding]
    reasons: list[str]

    @property
    def failing(self) -> list[str]:
        """Names of the findings that FAIL, the largest gap first."""
        return [finding.name for finding in by_size(self.findings) if finding.verdict is Verdict.FAIL]

    @property
    def worst(self) -> Finding | None:
        """The finding with the worst verdict, of several the one with the largest gap; None where all is well."""
        order = [Verdict.FAIL, Verdict.WARN]
        found = [finding for finding in by_size(self.findings) if finding.verdict in order]
        return min(found, key=lambda finding: order.index(finding.verdict), default=None)  # type: ignore[arg-type]


def measured(finding: Finding, difference: Difference) -> Finding:
    """Return the finding with its numbers, rounded to what is shown; the verdict comes with :func:`judge`."""
    numbers = {name: round(getattr(difference, name), 6) for name in ("value", "low", "high")}
    return finding.model_copy(update={**numbers, "verdict": Verdict.PASS})


def judge(findings: Sequence[Finding], policy: Bias) -> Judged:
    """Give every measured finding its verdict, and the interval the worst of them.

    FAIL: the gap exceeds `max_gap` with its whole confidence interval, and still does when the false discovery rate over
    all gaps of the data interval is held (Benjamini and Hochberg 1995). WARN: the estimate exceeds it. Groups that are
    too small are INSUFFICIENT_DATA and decide nothing, unless there is nothing else.
    """
    tested = [finding for finding in findings if finding.value is not None and finding.verdict is not None]
    chances = q_values([_chance(finding, policy.max_gap) for finding in tested])
    told = iter(
        finding.model_copy(update={"q": round(q, 6), "verdict": _verdict(finding, q, policy.max_gap)})
        for finding, q in zip(tested, chances, strict=True)
    )
    judged = [
        next(told) if finding.value is not None and finding.verdict is not None else finding for finding in findings
    ]
    sections: dict[Section, Verdict] = {}
    for finding in judged:
        sections[finding.section] = _together(one for one in judged if one.section == finding.section)
    bad = [finding for finding in by_size(judged) if finding.verdict in {Verdict.FAIL, Verdict.WARN}]
    bad.sort(key=lambda finding: finding.verdict is not Verdict.FAIL)
    return Judged(
        verdict=_together(judged),
        sections=sections,
        findings=judged,
        reasons=[sentence(finding, policy.max_gap) for finding in bad] or [_quiet(judged, policy)],
    )


def by_size(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings, the largest gap first; those without a number last."""
    return sorted(findings, key=lambda finding: (-abs(finding.value or 0.0), finding.name))


def sentence(finding: Finding, bound: float) -> str:
    """Return a finding in words."""
    assert finding.value is not None and finding.low is not None and finding.high is not None  # noqa: S101, PT018
    interval = f"{finding.value:+.1%} [{finding.low:+.1%}, {finding.high:+.1%}]"
    sure = "beyond" if finding.verdict is Verdict.FAIL else "above, though it may be chance,"
    where = f"{finding.dimension}: {finding.group}" if finding.dimension else finding.group
    return f"{finding.metric} ({finding.section}), {where} against {finding.other}: {interval}, {sure} ±{bound:.0%}"


def _verdict(finding: Finding, q: float, bound: float) -> Verdict:
    if _size(finding) <= bound:
        return Verdict.PASS
    return Verdict.FAIL if q < SIGNIFICANCE else Verdict.WARN


def _size(finding: Finding) -> float:
    value = finding.value or 0.0
    return value if finding.only_above else abs(value)


def _chance(finding: Finding, bound: float) -> float:
    if finding.only_above and (finding.value or 0.0) <= 0:
        return 1.0
    return beyond(Difference(finding.value or 0.0, finding.low or 0.0, finding.high or 0.0), bound)


def _together(findings: Iterable[Finding]) -> Verdict:
    verdicts = [finding.verdict for finding in findings if finding.verdict is not None]
    return worst([verdict for verdict in verdicts if verdict is not Verdict.INSUFFICIENT_DATA])


def _quiet(findings: Sequence[Finding], policy: Bias) -> str:
    told = [finding for finding in findings if finding.value is not None and finding.verdict is not None]
    if not told:
        return f"no group has the {policy.min_group} rows that a verdict needs"
    untold = [finding for finding in findings if finding.verdict is Verdict.INSUFFICIENT_DATA]
    small = sum(not finding.why for finding in untold)
    silent = len(untold) - small
    others = f", and {silent} gaps have no value to tell them by" if silent else ""
    return f"all {len(told)} gaps are within ±{policy.max_gap:.0%}; {small} groups are too small to tell{others}"
