"""What lies in storage of an application's intervals: their interactions, and the reports about them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date, datetime, timedelta

from upath import UPath

from nightshift.errors import BadInput
from nightshift.ledger.records import Release
from nightshift.monitoring.due_intervals import Answered, answered_interval
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.storage.files import names_in
from nightshift.storage.manifest import Manifest, read_manifest
from nightshift.storage.partition import partition_of

NEWEST_SPLITS = 3  # of those that may have intervals among the newest without a verdict


def published_interactions(
    storage: str, application: str, newest: int, also: date | None = None
) -> tuple[list[Answered], dict[str, str]]:
    """Return the `newest` intervals of interactions and those around the day `also`, and what is wrong with unreadable ones.

    The second value says it by the interval's key. What a challenger answered of an interval counts as one of its own. Keys begin
    with their date, so names are enough to find the newest.
    """
    folder = partition_of(storage, application, "interactions")
    names = names_in(folder)
    # Keys are in UTC: the day of another time zone may begin on the day before or after.
    near = tuple((also + timedelta(days=days)).isoformat() for days in (-1, 0, 1)) if also else ()
    wanted = {*names[-newest:], *(name for name in names if near and name.startswith(near))}
    found, broken = [], {}
    for name, partition in [
        *((name, folder / name) for name in sorted(wanted)),
        *_of_challengers(storage, application, wanted),
    ]:
        try:
            manifest = read_manifest(partition)
        except BadInput as error:
            broken[name] = str(error)
            continue
        if manifest is not None:  # else it is half-written: its time will come
            found.append(answered_interval(partition, manifest))
    return sorted(found, key=lambda one: one.key), broken


def interactions_between(storage: str, application: str, start: datetime, end: datetime) -> list[Answered]:
    """Return the intervals of interactions that overlap a stretch of time, the newest first, with those of challengers.

    :raises BadInput: a manifest cannot be read.
    """
    folder = partition_of(storage, application, "interactions")
    intervals = ((name, Interval.of_key(name)) for name in names_in(folder))
    return interactions_of(
        storage, application, {name for name, of in intervals if of and of.start < end and start < of.end}
    )


def interactions_of(storage: str, application: str, wanted: Collection[str]) -> list[Answered]:
    """Return the interactions of the intervals with these keys, as :func:`interactions_between` does."""
    at = [partition_of(storage, application, "interactions", name) for name in wanted]
    at += [partition for _, partition in _of_challengers(storage, application, wanted)]
    found = [answered_interval(partition, manifest) for partition in at if (manifest := read_manifest(partition))]
    return sorted(found, key=lambda one: (one.interval.start, str(one.partition)), reverse=True)


def arms_partition(storage: str, application: str, split: int) -> UPath:
    """Return the folder of what the challenger of a split answered, by interval."""
    return partition_of(storage, application, "arms", f"{split:04d}")


def _of_challengers(storage: str, application: str, wanted: Collection[str]) -> Iterator[tuple[str, UPath]]:
    """What challengers of the newest splits answered of these intervals, by their names."""
    folder = partition_of(storage, application, "arms")
    for split in names_in(folder)[-NEWEST_SPLITS:]:
        yield from ((name, folder / split / name) for name in names_in(folder / split) if name in wanted)


def answered_by(
    storage: str, application: Application, champion: str, release: Release | None, newest: int
) -> list[Answered]:
    """Return those of the `newest` intervals that the champion answered, the newest first; unreadable ones are none.

    :param champion: digest of its model.
    :param release: the newest one. What was served elsewhere since it became the champion is its answers, too.
    """
    found, _ = published_interactions(storage, application.name, newest)
    return of_champion(found, champion, release)[::-1]


def of_champion(answered: list[Answered], champion: str, release: Release | None) -> list[Answered]:
    """Return those intervals that the champion answered, with parameters as in :func:`answered_by`."""
    released = release.released if release and release.model_digest == champion else None
    return [
        one
        for one in answered
        if one.model_digest == champion
        or (not one.model_digest and released is not None and one.interval.start >= released)
    ]


def reports_of(storage: str, application: str, kind: str, interval: str) -> list[tuple[UPath, Manifest]]:
    """Return the published reports about an interval, in order of time; unreadable ones are none.

    :param kind: `drift` or `bias`.
    """
    folder = partition_of(storage, application, kind, interval)
    found = []
    for name in names_in(folder):
        try:
            manifest = read_manifest(folder / name)
        except BadInput:
            continue
        if manifest is not None:
            found.append((folder / name, manifest))
    return sorted(found, key=lambda pair: pair[1].created)
