"""Judges an interval: its profile against the reference's, metric by metric, segment by segment, with reasons for people."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pydantic import Field

from nightshift.data.interactions import OF_SOME_LANGUAGES, SCORES, Unscored
from nightshift.monitoring.comparison import Comparison, compare
from nightshift.monitoring.drift_kinds import kinds_of
from nightshift.monitoring.failures import missing_values, rows_without
from nightshift.monitoring.metric_verdict import MetricVerdict, SegmentVerdict
from nightshift.monitoring.profiles import ALL_ROWS, Profile
from nightshift.monitoring.reasons import MOVED, only_missing, reasons_of
from nightshift.monitoring.significance import q_values
from nightshift.settings.fields import Model
from nightshift.settings.metrics import BUILT_IN, DriftKind, Metric
from nightshift.settings.policies import Drift
from nightshift.verdict import Verdict, worst


class IntervalVerdict(Model):
    """How an interval compares with the reference, and with the intervals before it."""

    verdict: Verdict
    rows: int
    reference_rows: int
    metrics: list[MetricVerdict]  # the worst first
    segments: list[SegmentVerdict]  # the worst first; informative
    trailing: list[MetricVerdict]  # the same metrics against the trailing intervals; informative
    trailing_rows: int
    reasons: list[str]  # sentences for people, the most important first
    kinds: list[DriftKind] = Field([])  # of what made it WARN or FAIL, the worst first; verdicts of before had none

    @property
    def failing(self) -> list[Metric]:
        """Metrics that are FAIL, the worst first."""
        return [one.metric for one in self.metrics if one.verdict is Verdict.FAIL]

    @property
    def worst(self) -> Metric | None:
        """The metric with the largest excess in its floor, where one is WARN or FAIL."""
        first = self.metrics[0] if self.metrics else None
        return first.metric if first and first.verdict in {Verdict.WARN, Verdict.FAIL} else None

    @property
    def worst_segment(self) -> str | None:
        """The segment that drifted most, where one is WARN or FAIL."""
        first = self.segments[0] if self.segments else None
        return first.segment if first and first.verdict in {Verdict.WARN, Verdict.FAIL} else None


def judge_interval(  # noqa: PLR0917
    profile: Profile,
    reference: Profile,
    policy: Drift,
    trailing: Profile | None = None,
    learned: Profile | None = None,
    own: Mapping[Metric, str] | None = None,
    feedback: Sequence[MetricVerdict] = (),
) -> IntervalVerdict:
    """Return the verdict on an interval. Pure: the same profiles and policy give the same verdict, to the last digit.

    A metric
        - is left out where the policy gives it the floor 0, or where neither side has a value of it (unless it is that of
          an own scorer, or its scorer does not know the language of some row);
        - is INSUFFICIENT_DATA, and does not count, where either side has fewer than `policy.min_rows` values;
        - is FAIL when its effect beyond chance (the root of effect² - expected²) reaches the FAIL floor, and WARN when
          it reaches the WARN floor, provided that its q-value is below `policy.significance`; else it is PASS. The
          floors are `policy.fail` and `policy.warn`; a metric with a FAIL floor of its own has half of that as its
          WARN floor.
        - is WARN in place of FAIL where the champion was retrained for this change. Its training window still holds
          the weeks before, so a change that it has learned would order one retraining after the other. `learned` is
          the interval that it was retrained for, answered by it. The metric must be FAIL in that interval too, against the
          same reference, and must not be FAIL between the two intervals: where few rows let both intervals pass as equal,
          a metric that was quiet then is not excused now.

        - is WARN at least where the scorer failed on a larger share of the rows than in the reference, by the same floors
          and significance (failures.py), or where the interval lost it: the reference has values enough, and its share
          of rows with a value would give the interval enough. Never FAIL for this: no retraining mends a scorer.
        - is WARN where its values cannot be compared: `own` says why not, of each own scorer "" where they can.
        - of `feedback` has its verdict already.

    The interval
        - is INSUFFICIENT_DATA where it has fewer than `policy.min_rows` rows, or the reference has, or no metric
          could be judged: no data is no pass;
        - else has the worst verdict of the metrics that could be judged.

    Segments with `policy.min_rows` rows on both sides, and the trailing intervals, are judged in the same way, the
    metrics of all segments together as one family of tests. They say where and since when, and do not count.
    """
    own = own or {}
    every = tuple(dict.fromkeys((*BUILT_IN, *own)))
    reference = reference.without({metric for metric, why in own.items() if why})
    metrics = _judge(profile, reference, policy, every, [ALL_ROWS])[ALL_ROWS]
    if learned:
        known = _learned_metrics(profile, reference, learned, policy, every)
        metrics = sorted((_excused(one, known) for one in metrics), key=_badness, reverse=True)
    metrics = [*metrics, *feedback]
    rows, reference_rows = profile.rows(), reference.rows()
    if min(rows, reference_rows) < policy.min_rows:
        verdict = Verdict.INSUFFICIENT_DATA
    else:
        verdict = worst(one.verdict for one in metrics if one.verdict is not Verdict.INSUFFICIENT_DATA)
    missing = {metric: why for metric, why in own.items() if why}
    if verdict is not Verdict.INSUFFICIENT_DATA:
        counted = {one.metric: (one.rows, one.reference_rows, one.warn) for one in metrics}
        scores = [metric for metric in every if metric in SCORES or own.get(metric) == ""]
        missing = missing_values(profile, reference, policy, scores, counted) | missing
    metrics = sorted((_with_missing(one, missing.get(one.metric)) for one in metrics), key=_badness, reverse=True)
    if verdict is not Verdict.INSUFFICIENT_DATA:
        verdict = worst([verdict, *(Verdict.WARN for one in metrics if one.missing)])
    segments = _segments(profile, reference, policy, every)
    kinds = kinds_of({one.metric: Verdict.PASS if only_missing(one, policy) else one.verdict for one in metrics})
    return IntervalVerdict(
        verdict=verdict,
        rows=rows,
        reference_rows=reference_rows,
        metrics=metrics,
        segments=segments,
        trailing=_judge(profile, trailing, policy, every, [ALL_ROWS])[ALL_ROWS] if trailing else [],
        trailing_rows=trailing.rows() if trailing else 0,
        reasons=reasons_of(rows, reference_rows, policy, metrics, segments, kinds),
        kinds=list(
            dict.fromkeys(kinds[one.metric] for one in metrics if one.verdict is verdict and one.metric in kinds)
        ),
    )


def floors(policy: Drift, metric: Metric) -> tuple[float, float]:
    """Return the WARN and the FAIL floor of a metric; both 0 where the policy ignores it."""
    if metric in policy.metrics:
        return policy.metrics[metric] / 2, policy.metrics[metric]
    return policy.warn, policy.fail


def _judge(
    profile: Profile,
    reference: Profile,
    policy: Drift,
    metrics: Sequence[Metric],
    segments: Sequence[str],
    *,
    quick: bool = False,
) -> dict[str, list[MetricVerdict]]:
    """Return the verdicts on `metrics` in each of `segments`, the worst first; all are corrected together.

    :param quick: ask what chance does only where the effect reaches the WARN floor; elsewhere the p-value is 1, which
        makes the correction stricter, never laxer.
    """
    compared = [
        (segment, compare(
            profile, reference, metric, segment,
            min_rows=policy.min_rows, least_effect=floors(policy, metric)[0] if quick else 0.0,
        ))
        for segment in segments
        for metric in metrics
        if policy.metrics.get(metric) != 0
    ]  # fmt: skip
    enough = [min(one.rows, one.reference_rows) >= policy.min_rows for _, one in compared]
    p_values = [one.chance.p_value(one.effect) if one.chance else 1.0 for _, one in compared]
    corrected = iter(q_values([p_value for p_value, judged in zip(p_values, enough, strict=True) if judged]))
    verdicts: dict[str, list[MetricVerdict]] = {segment: [] for segment in segments}
    for (segment, one), p_value, judged in zip(compared, p_values, enough, strict=True):
        inapplicable = rows_without(profile, one.metric, Unscored.NOT_APPLICABLE) if segment == ALL_ROWS else 0
        named = one.metric not in BUILT_IN or (one.metric in OF_SOME_LANGUAGES and inapplicable)
        if one.rows or one.reference_rows or named:
            verdict = _verdict(one, policy, p_value, next(corrected) if judged else None)
            verdicts[segment].append(verdict.model_copy(update={"not_applicable": inapplicable}))
    return {segment: sorted(found, key=_badness, reverse=True) for segment, found in verdicts.items()}


def _verdict(one: Comparison, policy: Drift, p_value: float, q_value: float | None) -> MetricVerdict:
    """Return the verdict on one comparison; without a q-value there were too few rows."""
    warn, fail = floors(policy, one.metric)
    excess = one.chance.excess(one.effect) if one.chance else 0.0
    if q_value is None:
        verdict = Verdict.INSUFFICIENT_DATA
    elif q_value >= policy.significance or excess < warn:
        verdict = Verdict.PASS
    else:
        verdict = Verdict.FAIL if excess >= fail else Verdict.WARN
    return MetricVerdict(
        metric=one.metric,
        verdict=verdict,
        rows=one.rows,
        reference_rows=one.reference_rows,
        effect=one.effect,
        expected_by_chance=one.chance.expected if one.chance else 0.0,
        excess=excess,
        p_value=p_value,
        q_value=1.0 if q_value is None else q_value,
        warn=warn,
        fail=fail,
        direction=one.direction,
    )


def _learned_metrics(
    profile: Profile, reference: Profile, learned: Profile, policy: Drift, metrics: Sequence[Metric]
) -> frozenset[Metric]:
    """Return the metrics that had moved in the replayed interval, and in which this interval does not FAIL against that one.

    One that moved and stayed below its FAIL floor counts, too: of the same change, chance alone puts some intervals above it.
    """
    replayed = _judge(learned, reference, policy, metrics, [ALL_ROWS])[ALL_ROWS]
    since = {one.metric: one.verdict for one in _judge(profile, learned, policy, metrics, [ALL_ROWS])[ALL_ROWS]}
    unchanged = {Verdict.PASS, Verdict.WARN}
    return frozenset(one.metric for one in replayed if one.verdict in MOVED and since.get(one.metric) in unchanged)


def _excused(one: MetricVerdict, learned: Collection[Metric]) -> MetricVerdict:
    if one.verdict is Verdict.FAIL and one.metric in learned:
        return one.model_copy(update={"verdict": Verdict.WARN, "learned": True})
    return one


def _with_missing(one: MetricVerdict, missing: str | None) -> MetricVerdict:
    """Raise a verdict to WARN where values are missing that should be there; what was FAIL stays so."""
    if not missing:
        return one
    if one.verdict in MOVED:
        return one.model_copy(update={"missing": missing})
    return one.model_copy(update={"verdict": Verdict.WARN, "missing": missing, "direction": missing})


def _badness(one: MetricVerdict) -> tuple[int, float, str]:
    """Order verdicts on metrics: by verdict, those that were not judged last, then by excess in units of the floor."""
    order = [Verdict.INSUFFICIENT_DATA, Verdict.PASS, Verdict.WARN, Verdict.FAIL]
    return order.index(one.verdict), one.excess / one.fail, one.metric


def _segments(profile: Profile, reference: Profile, policy: Drift, metrics: Sequence[Metric]) -> list[SegmentVerdict]:
    """Return the verdicts on the segments that have rows enough on both sides, the worst first."""
    large = [
        segment
        for segment in profile.segments()
        if min(profile.rows(segment), reference.rows(segment)) >= policy.min_rows
    ]
    judged = _judge(profile, reference, policy, metrics, large, quick=True)
    found = []
    for segment, verdicts_here in judged.items():
        moved = [one for one in verdicts_here if one.verdict in MOVED]
        verdicts = [one.verdict for one in verdicts_here if one.verdict is not Verdict.INSUFFICIENT_DATA]
        found.append(
            SegmentVerdict(
                segment=segment,
                verdict=worst(verdicts),
                rows=profile.rows(segment),
                reference_rows=reference.rows(segment),
                metrics=moved,
            )
        )
    return sorted(found, key=lambda one: _badness(one.metrics[0]) if one.metrics else (0, 0.0, ""), reverse=True)
