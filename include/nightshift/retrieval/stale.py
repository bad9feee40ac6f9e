"""Whether the documents that a version answers from are too old."""

from __future__ import annotations

from datetime import datetime

from upath import UPath

from nightshift.retrieval.newest import last_read
from nightshift.settings.pinned_index import PinnedIndex
from nightshift.storage.manifest import require_manifest


def why_stale(application: str, storage: str, index: PinnedIndex | None, most_days: int, now: datetime) -> str:
    """Return why the documents are too old; "" if they are not.

    :param index: of the version.
    :raises BadInput: this index, or the newest one, is gone.
    """
    if index is None:
        return "it answers without documents: its version was made before the first index"
    at, current = last_read(storage, application, require_manifest(UPath(index.uri), index.digest))
    days = (now - at).total_seconds() / 86_400
    if days <= most_days:
        return ""
    waits = "" if current else "; a newer index is not in use yet"
    return f"its documents were read {days:.1f} days ago, retrieval.stale_after is {most_days}{waits}"
