"""Reviews from the review page: one record for each person and answer, created once.

    <application>/reviews/<interval or name of the shadow>/<key of the answer or pair>-<hash of the name>.json

They are kept outside the ledger, since the API server writes them and may not write the ledger. Each is announced before it is
written (:mod:`nightshift.storage.arrivals`), so that the audit log finds new ones without listing all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from upath import UPath

from nightshift.ledger.index_files import record_of
from nightshift.ledger.records import Review
from nightshift.storage.arrivals import announce
from nightshift.storage.files import create, names_in, read_bytes, read_each

REVIEWS = "reviews"


def keep(home: UPath, review: Review) -> bool:
    """Write a review unless this person has reviewed this answer already; return whether this call wrote it.

    :param home: the application's folder.
    """
    person = hashlib.sha256(review.by.encode()).hexdigest()[:12]
    path = f"{REVIEWS}/{review.shadow or review.interval}/{review.key}-{person}.json"
    if read_bytes(home / path) is not None:
        return False
    announce(home, path)
    return create(home / path, review.model_dump_json(indent=1).encode())


def reviews_of(home: UPath, folders: Iterable[str]) -> list[Review]:
    """Return the reviews of intervals or shadows, in their order: one listing for each, one read for each review.

    :raises BadInput: a record cannot be read.
    """
    return [review for _, review in reviews_by_path(home, folders)]


def reviews_by_path(home: UPath, folders: Iterable[str] | None = None) -> Iterator[tuple[str, Review]]:
    """Yield reviews with their paths below the application's folder; of all folders if none are given."""
    folders = sorted(names_in(home / REVIEWS) if folders is None else folders)
    listed = read_each(home, lambda folder: names_in(home / REVIEWS / folder), folders)
    paths = [f"{REVIEWS}/{folder}/{name}" for folder, names in zip(folders, listed, strict=True) for name in names]
    for path, content in zip(paths, read_each(home, lambda path: read_bytes(home / path), paths), strict=True):
        if content is not None:
            yield path, record_of(home / path, content, Review)
