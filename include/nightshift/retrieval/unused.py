"""Indexes that nothing answers from any more: how long they are kept, and that they are removed.

    <application>/indexes/<inputs>/used   when an index was last one that somebody may begin to answer from (UTC)

What answers from an index is for :mod:`nightshift.orchestration.old_indexes` to say.
"""

from __future__ import annotations

import logging
from collections.abc import Container
from datetime import UTC, datetime

from upath import UPath

from nightshift.retrieval.newest import INDEXES, newest_index
from nightshift.storage.files import names_in, read_bytes, read_each
from nightshift.storage.manifest import read_manifest
from nightshift.storage.partition import drop, partition_of

log = logging.getLogger(__name__)


def remove_unused(storage: str, application: str, since: datetime, pinned: Container[str]) -> list[str]:
    """Remove the indexes that nobody could begin to answer from since a moment, and return their names.

    The newest stays, and so does one that has no manifest yet: somebody may just be making it.

    :param pinned: names of those that a version which may answer pins.
    :raises BadInput: a manifest cannot be read.
    """
    folder, newest = partition_of(storage, application, INDEXES), newest_index(storage, application)
    kept = UPath(newest.uri).name if newest else None
    names = [name for name in names_in(folder) if name != kept and name not in pinned]
    last = read_each(folder, lambda name: _last_used(folder / name), names)
    old = [name for name, used in zip(names, last, strict=True) if used and used < since]
    if newest is None or newest != newest_index(storage, application):
        return []  # it is not known which is the newest, or one of these has just become that
    for name in old:
        log.info("%s: no version that may answer has this index, it is removed", folder / name)
        drop(folder / name)
    return old


def _last_used(index: UPath) -> datetime | None:
    if used := read_bytes(index / "used"):
        return datetime.fromisoformat(used.decode())
    manifest = read_manifest(index)
    return manifest.created.astimezone(UTC) if manifest else None
