"""The newest index of an application, named by one small file, so that indexes need not be listed."""

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
    """Return the newest index; None if there is none, or the file that names it is unreadable."""
    content = read_bytes(partition_of(storage, application, INDEXES) / FILE)
    try:
        return Newest.model_validate_json(content) if content else None
    except ValidationError:
        return None


def pinned_index(application: Application, storage: str) -> PinnedIndex | None:
    """Return the index for a new version: the newest one, with the search settings of the application's file.

    None: the file has no `retrieval`, or its documents are not indexed yet.
    """
    settings, newest = application.retrieval, newest_index(storage, application.name)
    if settings is None or newest is None:
        return None
    return PinnedIndex(uri=newest.uri, digest=newest.digest, search=settings.search, k=settings.k)


def last_read(storage: str, application: str, index: Manifest) -> tuple[datetime, bool]:
    """Return when the documents of an index were last read and unchanged (UTC), and whether they are the newest.

    For replaced documents it is the time at which their index, or the one that it was derived from, was made.

    :raises BadInput: the newest index is gone.
    """
    newest = newest_index(storage, application)
    if newest:
        of_newest = require_manifest(UPath(newest.uri), newest.digest)
        if of_newest.inputs["documents"] == index.inputs["documents"]:
            return newest.read, True
    return datetime.fromisoformat(index.facts["read"]) if "read" in index.facts else index.created, False


def name_newest(storage: str, application: str, newest: Newest) -> None:
    """Name a published index as the newest. Running jobs may still use the one before."""
    folder, before = partition_of(storage, application, INDEXES), newest_index(storage, application)
    if before and before.uri != newest.uri:
        mark_used(folder / UPath(before.uri).name)
    replace(folder / FILE, newest.model_dump_json(indent=1).encode())


def mark_used(index: UPath) -> None:
    """Record that an index is about to be used, which keeps it for another `retrieval.keep_days`.

    If its manifest exists afterwards, the index stays: a removal deletes the manifest first, and then checks this mark again.
    """
    replace(index / USED, datetime.now(UTC).isoformat().encode())
