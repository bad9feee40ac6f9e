"""What the jobs that judge intervals have in common: what they are asked for, and what they say about each interval."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, Field
from upath import UPath

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.ledger.records import of_challenger
from nightshift.settings.interval import Interval
from nightshift.storage.manifest import Manifest
from nightshift.verdict import Verdict, worst

# Of an interval that the result holds; the report has them all.
MOST_REASONS, MOST_FAILING = 5, 20


class MonitorSpec(JobSpec):
    """Which interval is asked for; without one, all that were not judged yet."""

    night: date | None = Field(
        None, description="judge the intervals of this day again; empty: every interval that was not judged"
    )
    expected_by: datetime | None = Field(
        None,
        description="moment (UTC) by which the last interval of the schedule must have arrived; empty: none is missed",
    )

    def asks_for(self, keys: Iterable[str]) -> bool:
        """Whether one of these intervals is of the day that is asked for, in the application's time zone."""
        intervals = filter(None, map(Interval.of_key, keys))
        return any(self.application.day_of(interval) == self.night for interval in intervals)


class IntervalResult(BaseModel):
    """What was said about one interval, or about what a challenger answered of it beside the champion."""

    night: str
    challenger: bool = False
    verdict: Verdict
    reasons: list[str]
    rows: int = 0
    failing: list[str] = []
    kinds: list[str] = []  # of drift
    worst: str | None = None  # metric
    report: str | None = None
    run_url: str | None = None


class MonitorResult(JobResult):
    """The worst verdict of the intervals that were judged now, and each of them in order of time."""

    verdict: Verdict
    reasons: list[str]
    nights: list[IntervalResult] = Field(default_factory=list)
    missing: str | None = None  # key of an interval that did not arrive


def said_of(results: Iterable[IntervalResult], missing: Interval | None) -> dict[str, Any]:
    """Return what a :class:`MonitorResult` says about these intervals."""
    results = sorted(results, key=lambda result: result.night)
    reasons = [f"{result.night} {result.verdict}: {'; '.join(result.reasons[:2])}" for result in results]
    return {
        # That a share of the traffic is little says nothing of the interval.
        "verdict": worst(
            result.verdict
            for result in results
            if not result.challenger or result.verdict is not Verdict.INSUFFICIENT_DATA or len(results) == 1
        ),
        "reasons": reasons or ["no interval is due"],
        "nights": results,
        "missing": missing.key if missing else None,
    }


def published_interval(partition: UPath, manifest: Manifest) -> IntervalResult:
    """Return what a published report says."""
    facts = manifest.facts
    return IntervalResult(
        night=facts["interval"],
        challenger=of_challenger(facts["interactions"]),
        verdict=Verdict(facts["verdict"]),
        reasons=facts["reasons"][:MOST_REASONS],
        rows=facts["rows"],
        failing=facts["failing"][:MOST_FAILING],
        kinds=facts.get("kinds", []),
        worst=facts.get("worst"),
        report=str(partition),
        run_url=facts.get("run_url"),
    )


def unreadable_interval(interval: str, reason: str) -> IntervalResult:
    """Return an error that is this interval's own: other intervals are judged all the same."""
    return IntervalResult(night=interval, verdict=Verdict.ERROR, reasons=[reason])


def unpublished_interval(day: date) -> IntervalResult:
    """Return what is said of an interval that a person asked for and that is not there."""
    reason = f"no interactions of {day} are published"
    return IntervalResult(night=day.isoformat(), verdict=Verdict.INSUFFICIENT_DATA, reasons=[reason])
