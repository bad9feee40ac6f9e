"""What the retraining policy looks at, read from manifests and the ledger, never from a run or an event."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from upath import UPath

from nightshift.ledger.index import NUMBERED, Index
from nightshift.ledger.index_files import monitored_interval
from nightshift.ledger.policy import History
from nightshift.ledger.records import Monitor, MonitoredInterval, Release
from nightshift.ledger.splits import running, sentence, share_of
from nightshift.ledger.store import Ledger
from nightshift.storage.application_version import weights_below
from nightshift.storage.manifest import read_manifest, require_manifest


def monitored_intervals(ledger: Ledger) -> list[MonitoredInterval]:
    """Return what the monitors said about the newest 90 intervals, in order of time.

    Of several partitions for one monitor, interval and model the newest counts.
    """
    return _newest(_monitored(ledger.home, ledger.index()))


def published(report: str) -> MonitoredInterval:
    """Return what a report says, by its URI.

    :raises BadInput: it is gone, or cannot be read.
    """
    partition = UPath(report)
    return monitored_interval(partition, require_manifest(partition))


def newest_about_champion(ledger: Ledger, monitor: Monitor) -> list[MonitoredInterval]:
    """Return what a monitor said of the newest interval that the champion was judged by; nothing where there is none."""
    champion = ledger.newest_release()
    about = [
        one
        for one in monitored_intervals(ledger)
        if champion and one.monitor == monitor and one.model_digest == champion.model_digest
    ]
    return about[-1:]


def history(ledger: Ledger, monitored: MonitoredInterval, now: datetime) -> History:
    """Return what is known after `monitored`, which was judged in this moment and may not be among the listed ones yet.

    The champion is the model of the newest release; where none was ever written down, that of the interval.
    """
    release, snooze = ledger.newest_release(), ledger.snooze()
    champion = release.model_digest if release else monitored.model_digest
    known, split = ledger.index(*NUMBERED), running(ledger)
    return History(
        now=now,
        champion=champion,
        released=release.released if release else None,
        nights=_newest([*_monitored(ledger.home, known), monitored]),
        orders=known.orders,
        claims=known.claims,
        outcomes=known.outcomes,
        snooze=snooze,
        split=sentence(split, share_of(ledger, split)) if split else "",
        new_examples=new_examples(ledger, release),
    )


def _monitored(home: UPath, index: Index) -> list[MonitoredInterval]:
    """The intervals of an index, with their reports where storage is now."""
    return [monitored.model_copy(update={"report": str(home / name)}) for name, monitored in index.nights.items()]


def _newest(found: Iterable[MonitoredInterval]) -> list[MonitoredInterval]:
    newest: dict[tuple[str, str, str], MonitoredInterval] = {}
    for monitored in found:
        key = (monitored.interval, monitored.monitor, monitored.model_digest)
        if key not in newest or newest[key].created <= monitored.created:
            newest[key] = monitored
    return [newest[key] for key in sorted(newest)]


def new_examples(ledger: Ledger, release: Release | None) -> int:
    """Count the training examples of accepted days that the snapshot of the released model does not have.

    Days before the snapshot's first are not new: it left them out on purpose. Where nothing was released, or the model or its
    snapshot is gone, every accepted day counts.
    """
    known = _days_of(ledger.home, release) if release else set()
    first = min(known, default="")
    return sum(
        day.train for key, day in ledger.index().examples.items() if day.accepted and key not in known and key >= first
    )


def _days_of(home: UPath, release: Release) -> set[str]:
    """The interval keys of the snapshot that a released model was trained on, wherever storage has moved to since."""
    model = weights_below(home, release.model, release.model_digest) if release.model else None
    if model is None or not model.parents:
        return set()
    snapshot = read_manifest(home / "snapshots" / UPath(model.parents[0].uri).name)
    return {UPath(parent.uri).name for parent in snapshot.parents} if snapshot else set()
