"""Which index of an application is the newest: one small file, so that nobody lists all of them."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ValidationError
from upath import UPath

from nightshift.settings.application import Application
from nightshift.settings.pinned_index import PinnedIndex
from nightshift.storage.files import read_bytes, replace
from nightshift.storage.manifest import Manifest, require_manifest
from nightshift.storage.partition import partition_of

INDEXES, FILE, USED = "indexes", "newest.json", "used"


class Newest(BaseModel):
    """A published index, and when its documents were last read (UTC)."""

    uri: str
    digest: str
    read: datetime


def newest_index(storage: str, application: str) -> Newest | None:
    """Return the newest index; None where there is none, or where the file that names it cannot be read."""
    content = read_bytes(partition_of(storage, application, INDEXES) / FILE)
    try:
        return Newest.model_validate_json(content) if content else None
    except ValidationError:
        return None


def pinned_index(application: Application, storage: str) -> PinnedIndex | None:
    """Return what a version that is made now answers from: the newest index, searched as the application's file says.

    None: the file has no `retrieval`, or its documents were not indexed yet.
    """
    settings, newest = application.retrieval, newest_index(storage, application.name)
    if settings is None or newest is None:
        return None
    return PinnedIndex(uri=newest.uri, digest=newest.digest, search=settings.search, k=settings.k)


def last_read(storage: str, application: str, index: Manifest) -> tuple[datetime, bool]:
    """Return when the documents of an index were last read and were the same (UTC), and whether they are the newest.

    Those that newer ones have replaced were read when their index was made, or when that was which it was made from.

    :raises BadInput: the newest index is gone.
    """
    newest = newest_index(storage, application)
    if newest:
        of_newest = require_manifest(UPath(newest.uri), newest.digest)
        if of_newest.inputs["documents"] == index.inputs["documents"]:
            return newest.read, True
    return datetime.fromisoformat(index.facts["read"]) if "read" in index.facts else index.created, False


def name_newest(storage: str, application: str, newest: Newest) -> None:
    """Name an index that is published as the newest. The one before may still be answered from by what began with it."""
    folder, before = partition_of(storage, application, INDEXES), newest_index(storage, application)
    if before and before.uri != newest.uri:
        mark_used(folder / UPath(before.uri).name)
    replace(folder / FILE, newest.model_dump_json(indent=1).encode())


def mark_used(index: UPath) -> None:
    """Write down that somebody may begin to answer from an index: from now on it is kept for another `retrieval.keep_days`.

    Whoever finds its manifest afterwards has it: whoever removes it takes the manifest first, and then looks here once more.
    """
    replace(index / USED, datetime.now(UTC).isoformat().encode())
