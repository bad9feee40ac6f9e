"""Selects the partitions of a training set, and excludes its rows from the held-out ones.

Everything is read from manifests: what is due never depends on why or when a run was started.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, tzinfo
from typing import Any

from upath import UPath

from nightshift.data.acceptance import why_not
from nightshift.data.examples import CORRECTIONS
from nightshift.storage.manifest import Manifest, Parent, read_manifest
from nightshift.storage.partition import partition_of

TRAIN = "train.parquet"
HELD_OUT = "held_out.parquet"
# Held-out corrections of answers that people were shown because these seemed bad: no sample of what users ask, so a file of
# their own. A snapshot without any has none.
REGRESSION = "regression.parquet"
# Of both sides: answers that people judged by themselves (`response`, good or bad by the metadata); none where nobody did.
JUDGED = "judged.parquet"
DEVELOPMENT = "development.parquet"  # of an application that has such a side
# What is left out of the held-out rows; another rule makes other snapshots.
RULE = "held out in the split map, version 2"


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
    def corrects(self) -> bool:
        """Whether its rows are answers that people corrected or preferred."""
        return self.manifest.kind == CORRECTIONS

    @property
    def content(self) -> list[str | int]:
        """What it holds, by name: its digest, and the number of the newest erasure that took rows out of it, if any."""
        erasure = self.manifest.erasure
        return [self.key, self.manifest.digest, *([erasure] if erasure else [])]

    @property
    def parent(self) -> Parent:
        """This partition, as the manifests of those made from it name it."""
        return Parent(uri=str(self.partition), digest=self.manifest.digest)


@dataclass(frozen=True)
class Selection:
    """What a snapshot is made from."""

    window: list[Published]  # training and held-out rows come from these
    left_out: dict[str, str]  # interval key -> why it is not used
    development: bool = False  # whether the application has a side to search by

    def inputs(self, segments: int) -> dict[str, Any]:
        """What determines the content of the snapshot: no place and no time, so that the same data is the same set.

        :param segments: of the split map, which tells what is held out.
        """
        return {
            "window": [published.content for published in self.window],
            "split_map": segments,
            "exclusion": RULE,
            **({"development": True} if self.development else {}),
        }


def published_examples(storage: str, application: str, zone: tzinfo = UTC) -> list[Published]:
    """Return every published partition of examples, in order of time; their days are of `zone`."""
    found = [
        Published(partition, manifest, why_not(partition, manifest), zone)
        for partition, manifest in _manifests(partition_of(storage, application, "examples"))
    ]
    return sorted(found, key=lambda published: (published.day, published.key))


def published_corrections(storage: str, application: str, zone: tzinfo = UTC) -> list[Published]:
    """Return the same of what people corrected; who validates examples does not look at it, its rows are judged one by one."""
    found = _manifests(partition_of(storage, application, CORRECTIONS))
    some = [Published(*pair, zone=zone) for pair in found if pair[1].counts["kept"]]
    return sorted(some, key=lambda published: (published.day, published.key))


def published_snapshots(storage: str, application: str) -> list[Published]:
    """Return every published snapshot, in order of address."""
    found = _manifests(partition_of(storage, application, "snapshots"))
    return sorted((Published(*pair) for pair in found), key=lambda published: published.key)


def select(examples: Sequence[Published], until: date | None, window_days: int, development: bool = False) -> Selection:
    """Choose by day: accepted partitions of the `window_days` days up to `until` (default: the newest accepted)."""
    # Corrections come after the examples of their interval.
    ordered = sorted(examples, key=lambda published: (published.day, published.key, published.corrects))
    past = [published for published in ordered if until is None or published.day <= until]
    accepted = [published for published in past if published.refused is None]
    last = until or max((published.day for published in accepted), default=date.min)
    first = date.fromordinal(max(date.min.toordinal(), last.toordinal() - window_days + 1))
    return Selection(
        window=[published for published in accepted if published.day >= first],
        left_out={
            published.key: published.refused for published in past if published.refused and published.day >= first
        },
        development=development,
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
