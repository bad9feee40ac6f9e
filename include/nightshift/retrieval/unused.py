"""Indexes that nothing answers from any more: how long they are kept, and that they are removed.

    <application>/indexes/<inputs>/used   when an index was last one that somebody may begin to answer from (UTC)

What answers from an index is for :mod:`nightshift.orchestration.old_indexes` to say.
"""

from __future__ import annotations

import logging
from collections.abc import Container
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from upath import UPath

from nightshift.retrieval.newest import INDEXES, USED, newest_index
from nightshift.storage.files import create, is_local, names_in, read_bytes, read_each
from nightshift.storage.manifest import MANIFEST, read_manifest
from nightshift.storage.partition import partition_of

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
    return [name for name in old if _removed(folder / name, since)]


def _removed(index: UPath, since: datetime) -> bool:
    """Remove an index that nobody began to use meanwhile; where that is interrupted, the next call goes on.

    Files that come after the manifest is gone are of somebody who makes the index anew.
    """
    used, content, names = _last_used(index), read_bytes(index / MANIFEST), names_in(index)
    if used is None or used >= since:
        return False
    create(index / USED, used.isoformat().encode())
    with suppress(FileNotFoundError):  # another process removes it at the same time
        if content:
            (index / MANIFEST).unlink()
        if (_last_used(index) or used) >= since:
            if content:
                create(index / MANIFEST, content)
            return False
        log.info("%s: no version that may answer has this index, it is removed", index)
        for name in sorted({*names, USED} - {MANIFEST}, key=lambda name: name == USED):
            index.fs.rm((index / name).path, recursive=True)
    if is_local(index):
        with suppress(OSError):
            Path(index.path).rmdir()
    return True


def _last_used(index: UPath) -> datetime | None:
    if used := read_bytes(index / USED):
        return datetime.fromisoformat(used.decode())
    manifest = read_manifest(index)
    return manifest.created.astimezone(UTC) if manifest else None
