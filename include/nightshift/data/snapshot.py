"""Which partitions a training set is made of, and which rows no model made from it is judged on.

Everything is read from manifests: what is due never depends on why or when a run was started.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, tzinfo
from typing import Any

from upath import UPath

from nightshift.data.acceptance import why_not
from nightshift.storage.partition import Manifest, Parent, partition_of, read_manifest

TRAIN = "train.parquet"
HELD_OUT = "held_out.parquet"
# What `leakage` leaves out of the held-out rows; another rule makes other snapshots.
RULE = "character 5-grams, Jaccard >= 0.8, version 1"


@dataclass(frozen=True)
class Published:
    """A partition with its manifest; `refused` says why it may not be trained on (None: it may)."""

    partition: UPath
    manifest: Manifest
    refused: str | None = None
    zone: tzinfo = UTC

    @property
    def key(self) -> str:
        """Name of the partition's folder."""
        return str(self.partition.name)

    @property
    def day(self) -> date:
        """First day of the partition's data interval, in the application's time zone."""
        assert self.manifest.interval is not None  # noqa: S101  (every partition of examples has one)
        return self.manifest.interval.start.astimezone(self.zone).date()

    @property
    def parent(self) -> Parent:
        """This partition, as the manifests of those made from it name it."""
        return Parent(uri=str(self.partition), digest=self.manifest.digest)


@dataclass(frozen=True)
class Selection:
    """What a snapshot is made from."""

    window: list[Published]  # training and held-out rows come from these
    trained: list[Published]  # whatever resembles a training row of these is not held out
    snapshots: list[Published]  # and earlier training sets with rows that are in none of `trained`
    left_out: dict[str, str]  # interval key -> why it is not used

    @property
    def inputs(self) -> dict[str, Any]:
        """What determines the content of the snapshot: no place and no time, so that the same data is the same set."""
        return {
            "window": [[published.key, published.manifest.digest] for published in self.window],
            "trained": [[published.key, published.manifest.digest] for published in self.trained],
            "snapshots": [published.manifest.digest for published in self.snapshots],
            "exclusion": RULE,
        }


def published_examples(storage: str, application: str, zone: tzinfo = UTC) -> list[Published]:
    """Return every published partition of examples, in order of time; their days are of `zone`."""
    found = [
        Published(partition, manifest, why_not(partition, manifest), zone)
        for partition, manifest in _manifests(partition_of(storage, application, "examples"))
    ]
    return sorted(found, key=lambda published: (published.day, published.key))


def published_snapshots(storage: str, application: str) -> list[Published]:
    """Return every published snapshot, in order of address."""
    found = _manifests(partition_of(storage, application, "snapshots"))
    return sorted((Published(*pair) for pair in found), key=lambda published: published.key)


def select(
    examples: Sequence[Published], snapshots: Sequence[Published], until: date | None, window_days: int
) -> Selection:
    """Choose by day: accepted partitions of the `window_days` days up to `until` (default: the newest accepted).

    A snapshot that was made from other content than what lies in `examples` up to `until` (a day written again since,
    or a later one) holds rows that only it still knows; they were trained on all the same.
    """
    past = [published for published in examples if until is None or published.day <= until]
    accepted = [published for published in past if published.refused is None]
    last = until or max((published.day for published in accepted), default=date.min)
    first = date.fromordinal(max(date.min.toordinal(), last.toordinal() - window_days + 1))
    known = {(published.key, published.manifest.digest) for published in past}
    return Selection(
        window=[published for published in accepted if published.day >= first],
        trained=past,
        snapshots=[
            snapshot
            for snapshot in snapshots
            if any((UPath(parent.uri).name, parent.digest) not in known for parent in snapshot.manifest.parents)
        ],
        left_out={
            published.key: published.refused for published in past if published.refused and published.day >= first
        },
    )


def _manifests(folder: UPath) -> Iterator[tuple[UPath, Manifest]]:
    try:
        partitions = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for partition in partitions:
        manifest = read_manifest(partition)
        if manifest is not None:
            yield partition, manifest
