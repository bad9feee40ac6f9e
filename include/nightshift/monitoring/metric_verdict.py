"""The verdict on one metric of an interval, and on one segment of its rows."""

from __future__ import annotations

from nightshift.settings.fields import Model
from nightshift.settings.metrics import Metric
from nightshift.verdict import Verdict


class MetricVerdict(Model):
    """How one metric of an interval compares with the reference."""

    metric: Metric
    verdict: Verdict
    rows: int  # with a value
    reference_rows: int
    effect: float = 0.0  # Wasserstein distance in standard deviations, or Jensen-Shannon distance (effects.py)
    expected_by_chance: float = 0.0  # effect that chance alone gives at these numbers of rows
    excess: float = 0.0  # effect beyond chance: what is held against the floors
    p_value: float = 1.0
    q_value: float = 1.0  # p-value corrected for the number of metrics judged together
    warn: float  # floors of the excess
    fail: float
    direction: str = ""  # what changed, in words
    learned: bool = False  # it would be FAIL, but the champion was retrained for this change
    missing: str = ""  # which values are missing, in words, where that makes it a WARN
    not_applicable: int = 0  # rows of the interval that lack it because it does not apply to them


class SegmentVerdict(Model):
    """How the rows of one segment compare with the same segment of the reference."""

    segment: str  # column=value
    verdict: Verdict
    rows: int
    reference_rows: int
    metrics: list[MetricVerdict]  # those that are WARN or FAIL, the worst first
