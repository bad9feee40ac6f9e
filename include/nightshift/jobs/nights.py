"""What the jobs that judge nights have in common: what they are asked for, and what they say about each night."""

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

# Of a night that the result holds; the report has them all.
MOST_REASONS, MOST_FAILING = 5, 20


class NightlySpec(JobSpec):
    """Which night is asked for; without one, all that were not judged yet."""

    night: date | None = Field(None, description="judge this night, by hand; empty: every night that was not judged")
    expected_by: datetime | None = Field(
        None,
        description="moment (UTC) by which the last night of the schedule must have arrived; empty: none is missed",
    )

    def asks_for(self, keys: Iterable[str]) -> bool:
        """Whether one of these nights is of the day that is asked for, in the application's time zone."""
        intervals = filter(None, map(Interval.of_key, keys))
        return any(self.application.day_of(interval) == self.night for interval in intervals)


class NightResult(BaseModel):
    """What was said about one night, or about what a challenger answered of it beside the champion."""

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


class NightlyResult(JobResult):
    """The worst verdict of the nights that were judged now, and each of them in order of time."""

    verdict: Verdict
    reasons: list[str]
    nights: list[NightResult] = Field(default_factory=list)
    missing: str | None = None  # key of a night that did not arrive


def said_of(nights: Iterable[NightResult], missing: Interval | None) -> dict[str, Any]:
    """Return what a :class:`NightlyResult` says about these nights."""
    nights = sorted(nights, key=lambda night: night.night)
    reasons = [f"{night.night} {night.verdict}: {'; '.join(night.reasons[:2])}" for night in nights]
    return {
        # That a share of the traffic is little says nothing of the night.
        "verdict": worst(
            night.verdict
            for night in nights
            if not night.challenger or night.verdict is not Verdict.INSUFFICIENT_DATA or len(nights) == 1
        ),
        "reasons": reasons or ["no night is due"],
        "nights": nights,
        "missing": missing.key if missing else None,
    }


def published_night(partition: UPath, manifest: Manifest) -> NightResult:
    """Return what a published report says."""
    facts = manifest.facts
    return NightResult(
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


def unreadable_night(night: str, reason: str) -> NightResult:
    """Return an error that is this night's own: other nights are judged all the same."""
    return NightResult(night=night, verdict=Verdict.ERROR, reasons=[reason])


def unpublished_night(night: date) -> NightResult:
    """Return what is said of a night that a person asked for and that is not there."""
    reason = f"no interactions of {night} are published"
    return NightResult(night=night.isoformat(), verdict=Verdict.INSUFFICIENT_DATA, reasons=[reason])
