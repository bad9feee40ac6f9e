"""Why an interval has its verdict, in sentences for people."""

from __future__ import annotations

from collections.abc import Sequence

from nightshift.data.interactions import OF_SOME_LANGUAGES
from nightshift.monitoring.metric_verdict import MetricVerdict, SegmentVerdict
from nightshift.monitoring.wording import clean, number
from nightshift.settings.metrics import FEEDBACK, DriftKind, Metric
from nightshift.settings.policies import Drift
from nightshift.verdict import Verdict

MOVED = (Verdict.FAIL, Verdict.WARN)
NAMED_SHARE = 0.05  # of the rows in a language that a scorer does not know, from which the reasons name it


def reasons_of(  # noqa: PLR0917
    rows: int,
    reference_rows: int,
    policy: Drift,
    metrics: list[MetricVerdict],
    segments: list[SegmentVerdict],
    kinds: dict[Metric, DriftKind],
) -> list[str]:
    """Return sentences for people: what keeps the interval from being judged, what moved, where, and what was left out."""
    reasons = []
    for whose, count in (("The interval", rows), ("The reference", reference_rows)):
        if count < policy.min_rows:
            reasons.append(f"{whose} has {count:,} rows; {policy.min_rows:,} are needed for a verdict.")
    moved = [one for one in metrics if one.verdict in MOVED]
    missing: dict[str, list[MetricVerdict]] = {}
    for one in (one for one in moved if one.missing):
        missing.setdefault(one.missing, []).append(one)
    reasons += [f"{_names(several)}: {why}." for why, several in missing.items()]
    for one in moved:
        if only_missing(one, policy):
            continue
        floor = one.fail if one.verdict is Verdict.FAIL else one.warn
        known = " The champion was retrained for this change." if one.learned else ""
        unchanged = ", while the inputs are unchanged" if kinds[one.metric] is DriftKind.CONCEPT else ""
        reasons.append(
            f"{kinds[one.metric].capitalize()}: {one.metric.label}, {one.direction}{unchanged}. "
            f"Effect {number(one.effect)}, of which chance explains {number(one.expected_by_chance)}; {one.verdict} from "
            f"{number(floor)} beyond chance.{known}"
        )
    first = segments[0] if segments else None
    if first and first.metrics:
        reasons.append(
            f"Most in {clean(first.segment)} ({first.rows:,} rows): {first.metrics[0].metric.label}, "
            f"{first.metrics[0].direction}."
        )
    judged = [one for one in metrics if one.verdict is not Verdict.INSUFFICIENT_DATA]
    if judged and not moved:
        reasons.append(
            f"None of {len(judged)} metrics moved by more than chance and the floors allow; {judged[0].metric.label} "
            f"came nearest, {number(judged[0].excess)} beyond chance."
        )
    if reasons and not judged:
        return reasons
    reasons += [
        f"{_name(one)} was not judged: people judged {one.rows:,} answers; {policy.min_rows:,} are needed."
        if one.metric in FEEDBACK
        else f"{_name(one)} was not judged: {one.rows:,} rows of the interval and {one.reference_rows:,} of the reference "
        f"have it; {policy.min_rows:,} of each are needed."
        for one in metrics
        if one.verdict is Verdict.INSUFFICIENT_DATA
    ]
    unknown: dict[int, list[MetricVerdict]] = {}
    for one in metrics:
        if one.metric in OF_SOME_LANGUAGES and one.not_applicable >= NAMED_SHARE * rows:
            unknown.setdefault(one.not_applicable, []).append(one)
    return reasons + [
        f"{_names(several)}: no value for {count:,} of {rows:,} rows, whose language the scorer does not know."
        for count, several in unknown.items()
    ]


def only_missing(one: MetricVerdict, policy: Drift) -> bool:
    """Return whether a metric is WARN for its missing values alone: those that are there did not move."""
    return bool(one.missing) and (one.q_value >= policy.significance or one.excess < one.warn)


def _name(one: MetricVerdict) -> str:
    return one.metric.label[0].upper() + one.metric.label[1:]


def _names(several: Sequence[MetricVerdict]) -> str:
    *first, last = sorted((one.metric.label for one in several), key=str.casefold)
    text = f"{', '.join(first)} and {last}" if first else last
    return text[0].upper() + text[1:]
