"""Removes unused indexes after a time.

    <application>/indexes/<inputs>/used   when an index was last about to be used (UTC)

:mod:`nightshift.orchestration.old_indexes` determines which versions use an index.
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
    """Remove the indexes that were not used since a time, and return their names.

    The newest index is kept, and so is one without a manifest, which may just be being made.

    :param pinned: names of indexes that active versions have pinned.
    :raises BadInput: a manifest cannot be read.
    """
    folder, newest = partition_of(storage, application, INDEXES), newest_index(storage, application)
    kept = UPath(newest.uri).name if newest else None
    names = [name for name in names_in(folder) if name != kept and name not in pinned]
    last = read_each(folder, lambda name: _last_used(folder / name), names)
    old = [name for name, used in zip(names, last, strict=True) if used and used < since]
    if newest is None or newest != newest_index(storage, application):
        return []  # the newest index is unknown, or has just changed
    return [name for name in old if _removed(folder / name, since)]


def _removed(index: UPath, since: datetime) -> bool:
    """Remove an index unless its use began meanwhile; the next call continues an interrupted removal.

    Files that appear after the manifest is gone belong to a job that makes the index again.
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
        log.info("removing index %s, which no active version uses", index)
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
