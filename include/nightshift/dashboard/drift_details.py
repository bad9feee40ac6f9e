"""Details of the newest drift verdict: metrics that moved, in which segments, and novel prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from nightshift.dashboard.intervals import JudgedInterval
from nightshift.dashboard.stored import Store
from nightshift.verdict import Verdict

SEGMENTS_SHOWN = 5
NOVEL_SHOWN = 6
MOVED = (Verdict.FAIL, Verdict.WARN)


class Moved(BaseModel):
    """A metric of an interval as far as the page shows it; `excess` is its effect beyond chance in units of `fail`, its floor."""

    metric: str
    verdict: Verdict
    effect: float = 0.0
    excess: float = 0.0
    fail: float
    direction: str = ""
    learned: bool = False


class Segment(BaseModel):
    """The comparison of one segment, with the metrics that moved in it, the worst first."""

    segment: str
    verdict: Verdict
    rows: int
    metrics: list[Moved] = []


class Novel(BaseModel):
    """A prompt, its response, and how far it is from what the champion was trained on: 0 (the same) to 2."""

    prompt: str = ""
    response: str = ""
    novelty: str = ""


@dataclass(frozen=True)
class DriftDetails:
    """What to show of one interval."""

    judged: JudgedInterval
    metrics: Sequence[Moved]
    segments: Sequence[Segment]
    novel: Sequence[Novel]


class _Verdict(BaseModel):
    metrics: list[Moved] = []
    segments: list[Segment] = []


class _Report(BaseModel):
    new: list[Novel] = []


def drift_details(store: Store, judged: Sequence[JudgedInterval]) -> DriftDetails | None:
    """Return the details of the newest judged interval, or None if there is none.

    :raises BadInput: a file of its partition cannot be read.
    """
    if not judged:
        return None
    newest = judged[-1]
    place = ("drift", newest.interval, newest.address)
    manifest = store.manifest(*place)
    verdict = store.model(_Verdict, *place, manifest.file("verdict.json").path) if manifest else None
    listed = manifest if "report.json" in newest.files else None
    report = store.model(_Report, *place, listed.file("report.json").path) if listed else None
    return DriftDetails(
        newest,
        [one for one in verdict.metrics if one.verdict in MOVED] if verdict else [],
        [one for one in verdict.segments if one.verdict in MOVED][:SEGMENTS_SHOWN] if verdict else [],
        report.new[:NOVEL_SHOWN] if report else [],
    )
