"""Erasures from the jobs' side: no job runs during an erasure, and none restores an erased row.

<application>/ledger/erasures/<number>.json   that rows are to be erased
<application>/ledger/erased/<number>.json     that they are
<application>/ledger/erased.json              keyed hashes of all that was erased: what ingest leaves out
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from dataclasses import dataclass

from upath import UPath

from nightshift.errors import BadEnvironment
from nightshift.storage.files import names_in, read_bytes

ORDERED, ENDED, KEYS = "erasures", "erased", "erased.json"
# Number of the newest erasure before this job, and its application's folder: for the processes that a job starts, too.
VARIABLE = "NIGHTSHIFT_ERASURES"


def newest_erasure(home: UPath) -> int:
    """Return the number of an application's newest erasure, 0 where there was none."""
    names = names_in(home / "ledger" / ORDERED)
    return int(names[-1].removesuffix(".json")) if names else 0


def is_ended(home: UPath, number: int) -> bool:
    """Return whether an erasure has come to its end."""
    return number == 0 or read_bytes(record_at(home, ENDED, number)) is not None


def record_at(home: UPath, folder: str, number: int) -> UPath:
    """Return the address of what the ledger says of an erasure."""
    return home / "ledger" / folder / f"{number:06d}.json"


def begin(home: UPath) -> None:
    """Note which erasures came before this job, for :func:`came_since` in it and in processes that it starts.

    :raises BadEnvironment: rows are being erased.
    """
    number = newest_erasure(home)
    if not is_ended(home, number):
        raise BadEnvironment(
            f"{record_at(home, ORDERED, number)}: rows are being erased, and no job of this application runs until that has "
            "ended. If the command was interrupted, run it again"
        )
    os.environ[VARIABLE] = f"{number} {home}"


def came_since(partition: UPath) -> bool:
    """Return whether rows of the application of this job were erased, or are to be, since it began."""
    number, _, where = os.environ.get(VARIABLE, "").partition(" ")
    home = next((folder for folder in partition.parents if str(folder) == where), None)
    return home is not None and read_bytes(record_at(home, ORDERED, int(number) + 1)) is not None


@dataclass(frozen=True)
class ErasedHashes:
    """What ingest leaves out of an application's rows: keyed hashes of subjects, ids and digests."""

    application: str = ""
    hashes: frozenset[str] = frozenset()

    def holds(self, id_key: bytes, subject: str | None, row_id: str | None, digest: str | None = None) -> bool:
        """Return whether a row with these columns was erased."""
        known = {"subject": subject, "id": row_id, "digest": digest}
        return any(
            value is not None and hash_of(kind, value, id_key, self.application) in self.hashes
            for kind, value in known.items()
        )


def erased_of(home: UPath) -> ErasedHashes:
    """Return what was erased of the application whose folder is `home`."""
    return ErasedHashes(home.name, frozenset(json.loads(read_bytes(home / "ledger" / KEYS) or b"[]")))


def hash_of(kind: str, value: str, id_key: bytes, application: str) -> str:
    """Return what is kept of an erased subject, id or digest: HMAC-SHA-256, its first 32 hex digits.

    :param value: as a partition of examples has it. The key of a digest is the application's name, since an ingest whose
        sources have no ids is not given the installation's.
    """
    key = application.encode() if kind == "digest" else id_key
    return hmac.new(key, f"erased\0{kind}\0{value}".encode(), hashlib.sha256).hexdigest()[:32]
