"""What the monitors said about each of the newest intervals, and the numbers behind it that make a trend."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Any

from nightshift.dashboard.stored import Store
from nightshift.errors import BadInput
from nightshift.ledger.index import MONITORS, Index
from nightshift.ledger.records import Monitor, MonitoredInterval, Split
from nightshift.settings.interval import Interval
from nightshift.verdict import Verdict

STRIP = 14  # intervals in a row of the overview
TREND = 30  # intervals on an application's page
MEANS = ("exact_match", "rouge_l", "judge", "groundedness")  # of the quality of responses, the most telling first
# What is read of an interval never changes, so it is kept: at about a kilobyte each, a year of 50 applications fits.
KEPT = 40_000


@dataclass(frozen=True, slots=True)
class JudgedInterval:
    """A published verdict: the facts of its manifest, and its address below `<application>/<monitor>`."""

    monitor: Monitor
    interval: str
    name: str  # of the interval, for people
    address: str
    verdict: Verdict
    model_digest: str
    model_version: str
    rows: int
    failing: tuple[str, ...]
    kinds: tuple[str, ...]  # of drift; verdicts of before have none
    worst: str
    worst_segment: str
    reasons: tuple[str, ...]
    run_url: str
    files: tuple[str, ...]
    created: datetime

    @property
    def starts(self) -> datetime:
        """When the interval begins."""
        return start_of(self.interval)


@dataclass(frozen=True, slots=True)
class Effect:
    """The measure of an interval that came nearest to its floor, or went furthest past it, with both floors."""

    name: str
    value: float
    warn: float
    fail: float


@dataclass(frozen=True, slots=True)
class Answered:
    """What is known of an interval's interactions: rows, the mean of each score that they have, and what made own scores."""

    interval: str
    name: str
    rows: int
    means: dict[str, float]
    made_by: dict[str, Any]  # digest and bounds of the function behind each own score
    model_version: str
    share: float | None = None  # of the units, where a challenger answered them in a split

    def mean(self, name: str, newest: Answered) -> float | None:
        """Return the mean of a score; None where another version of its function made it than that of the newest interval."""
        return self.means.get(name) if self.made_by.get(name) == newest.made_by.get(name) else None


def judged_intervals(
    index: Index, monitor: Monitor, most: int, zone: tzinfo = UTC
) -> tuple[list[JudgedInterval], list[str]]:
    """Return what a monitor said about its newest `most` intervals, in order, and what of it cannot be read.

    Of several verdicts on an interval the newest counts, whichever model it was about; those on a challenger's share do not.
    """
    newest: dict[str, JudgedInterval] = {}
    for name, one in index.nights.items():
        known = newest.get(one.interval)
        if one.monitor == monitor and not one.of_challenger and (known is None or known.created <= one.created):
            newest[one.interval] = _judged(name, one, zone)
    shown = sorted(newest)[-most:] if most else []
    first = shown[0] if shown else ""
    broken = [
        said
        for path, said in index.unreadable.items()
        if path.startswith(f"{monitor}/") and path.split("/")[1] >= first
    ]
    return [newest[key] for key in shown], broken


def newest_of_challenger(index: Index, version: str, zone: tzinfo = UTC) -> JudgedInterval | None:
    """Return what the drift monitor last said about the share that a challenger of this version answered."""
    found = [
        (monitored.interval, monitored.created, name)
        for name, monitored in index.nights.items()
        if monitored.monitor == "drift" and monitored.of_challenger and monitored.model_version == version
    ]
    return _judged(name, index.nights[name], zone) if found and (name := max(found)[-1]) else None


def last_judged(index: Index, most: int, zone: tzinfo = UTC) -> tuple[dict[Monitor, list[JudgedInterval]], list[str]]:
    """Return :func:`judged_intervals` of every monitor by its name, and what cannot be read of any."""
    found, broken = {}, []
    for monitor in MONITORS:
        found[monitor], unreadable = judged_intervals(index, monitor, most, zone)
        broken += unreadable
    return found, broken


def answered_intervals(store: Store, index: Index, most: int) -> list[Answered]:
    """Return the newest intervals of interactions that can be read, in order. An interval may be written again."""
    found = [_answered(store, "interactions", interval) for interval in sorted(index.interactions)[-most:]]
    return [one for one in found if one]


def challenged_intervals(store: Store, splits: Sequence[Split], first: str) -> dict[str, Answered]:
    """Return what challengers answered since the interval `first`, by interval.

    :param splits: of the application, in order; only the newest are looked at.
    """
    found: dict[str, Answered] = {}
    for split in reversed(splits):
        folder = ("arms", f"{split.number:04d}")
        names = store.names(*folder)
        found |= {name: one for name in names if name >= first and (one := _answered(store, *folder, name))}
        if names and names[0] < first:
            break
    return found


def _answered(store: Store, *address: str) -> Answered | None:
    try:
        manifest = store.manifest(*address)
    except BadInput:
        return None
    if manifest is None:
        return None
    facts, arm = manifest.facts, manifest.inputs.get("arm") or {}
    return Answered(
        interval=address[-1],
        name=named(address[-1], store.zone),
        rows=manifest.counts.get("rows", 0),
        means={str(name): float(value) for name, value in facts.get("means", {}).items()},
        made_by=manifest.inputs.get("scorers", {}),
        model_version=str(facts.get("model", "")),
        share=float(arm["share"]) if arm.get("challenger") else None,
    )


def quality_shown(answered: Sequence[Answered], own: Sequence[str] = ()) -> str | None:
    """Return the name of the score to show a trend of: the most telling one that the newest interval has.

    :param own: names of own scorers that give a share as a measure of quality; they come after ours.
    """
    known = answered[-1].means if answered else {}
    return next((name for name in (*MEANS, *own) if name in known), None)


@lru_cache(maxsize=KEPT)
def largest_effect(store: Store, judged: JudgedInterval) -> Effect | None:
    """Return what moved most in an interval, in units of its floor; None where nothing was measured.

    :raises BadInput: the verdict's file is damaged.
    """
    content = verdict_file(store, judged)
    if judged.monitor == "drift":
        effects = [
            Effect(str(one["metric"]), float(one["excess"]), float(one["warn"]), float(one["fail"]))
            for one in content.get("metrics", [])
            if one["verdict"] != Verdict.INSUFFICIENT_DATA
        ]
        return max(effects, key=lambda one: one.value / one.fail, default=None)
    bound = float(content.get("policy", {}).get("max_gap", 0.1))
    gaps = [
        Effect("/".join(str(one[key]) for key in ("dimension", "group", "metric")), gap_of(one), bound, bound)
        for one in content.get("findings", [])
        if one.get("value") is not None and one.get("verdict") not in {None, Verdict.INSUFFICIENT_DATA}
    ]
    return max(gaps, key=lambda one: one.value, default=None)


def verdict_file(store: Store, judged: JudgedInterval) -> dict[str, Any]:
    """Return what an interval's `verdict.json` holds.

    :raises BadInput: it is gone or damaged.
    """
    manifest = store.manifest(judged.monitor, judged.interval, judged.address)
    if manifest is None:
        raise BadInput(f"{store.address(judged.monitor, judged.interval, judged.address)}: the verdict is gone")
    path = manifest.file("verdict.json").path
    content = store.read(judged.monitor, judged.interval, judged.address, path)
    try:
        return dict(json.loads(content or b""))
    except (ValueError, TypeError) as error:
        raise BadInput(
            f"{store.address(judged.monitor, judged.interval, judged.address, path)}: not a verdict: {error}"
        ) from error


def gap_of(finding: dict[str, Any]) -> float:
    """Return how large a gap between groups is that has a value."""
    value = float(finding["value"])
    return max(value, 0.0) if finding.get("only_above") else abs(value)


def start_of(interval: str) -> datetime:
    """Return when an interval begins, of its key; a key that is none counts as the beginning of time."""
    known = Interval.of_key(interval)
    return known.start if known else datetime.fromtimestamp(0, UTC)


def named(interval: str, zone: tzinfo) -> str:
    """Return what people call an interval, of its key: its day or days in their time zone, or when it begins and ends.

    One of less than a day is called by its beginning; a key that is none stays as it is.
    """
    known = Interval.of_key(interval)
    if known is None:
        return interval
    try:
        first, after = known.start.astimezone(zone), known.end.astimezone(zone)
    except OverflowError:  # a day at the edge of the calendar, which no schedule has
        return interval
    if first.time() == after.time() == time():
        last = after.date() - timedelta(days=1)
        return f"{first:%Y-%m-%d}" if first.date() == last else f"{first:%Y-%m-%d} to {last}"
    begins = f"{first:%Y-%m-%d %H:%M %Z}"
    return begins if known.end - known.start < timedelta(hours=23) else f"{begins} to {after:%Y-%m-%d %H:%M %Z}"


def _judged(name: str, monitored: MonitoredInterval, zone: tzinfo) -> JudgedInterval:
    """An interval of the index, which is called by its address there."""
    return JudgedInterval(
        monitor=monitored.monitor,
        interval=monitored.interval,
        name=named(monitored.interval, zone),
        address=name.rpartition("/")[2],
        verdict=monitored.verdict,
        model_digest=monitored.model_digest,
        model_version=monitored.model_version,
        rows=monitored.rows,
        failing=tuple(monitored.failing),
        kinds=tuple(monitored.kinds),
        worst=monitored.worst or "",
        worst_segment=monitored.worst_segment or "",
        reasons=tuple(monitored.reasons),
        run_url=monitored.run_url or "",
        files=tuple(monitored.files),
        created=monitored.created,
    )
