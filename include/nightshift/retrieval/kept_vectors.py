"""Vectors from a paid endpoint, kept until their index or answers are published, so that a killed job pays for no text twice.

    <application>/embeddings/<month>/<settings>/<digest>.npz   of one request: the digests of its texts, and their vectors

A job loads them into a database on its disk, so memory does not grow with the documents. A month (UTC) is deleted once the
next one is over.
"""

from __future__ import annotations

import io
import logging
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from upath import UPath

from nightshift.storage.files import create, names_in, read_bytes, read_each, replace
from nightshift.storage.partition import drop

FOLDER = "embeddings"
AT_ONCE = 500  # texts that are looked up together
FILES_AT_ONCE = 64  # that are read together

log = logging.getLogger(__name__)

Vector = np.ndarray[Any, np.dtype[np.float16]]


class KeptVectors:
    """The vectors of the passages of one index, or of the questions of one job, as 16-bit floats; several threads may keep some.

    :param home: the application's folder.
    :param settings: identifies the embedder and the set of texts.
    :param work: a folder for the database.
    """

    def __init__(self, home: UPath, settings: str, work: Path) -> None:
        self._place = home / FOLDER
        first = datetime.now(UTC).replace(day=1)
        months = (first, first - timedelta(days=1))
        self._folders = [self._place / f"{month:%Y-%m}" / settings for month in months]
        self._lock = threading.Lock()
        self._known = sqlite3.connect(work / "vectors.db", check_same_thread=False, isolation_level=None)
        self._known.execute("PRAGMA synchronous = off")
        self._known.execute("CREATE TABLE vectors (text TEXT PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        files = [folder / name for folder in self._folders for name in names_in(folder)]
        self._names = {file.name for file in files}
        self._damaged: set[str] = set()  # they are paid for again
        for start in range(0, len(files), FILES_AT_ONCE):
            some = files[start : start + FILES_AT_ONCE]
            for file, content in zip(some, read_each(home, read_bytes, some), strict=True):
                try:
                    kept = np.load(io.BytesIO(content or b""))
                    self._remember(kept["texts"].tolist(), kept["vectors"])
                except Exception as error:  # damaged archives raise a dozen kinds of errors
                    log.warning("%s cannot be read, and its texts are embedded again: %s", file, error)
                    self._damaged.add(file.name)

    def find(self, texts: Sequence[str]) -> dict[str, Vector]:
        """Return the kept vectors of these texts."""
        found: dict[str, Vector] = {}
        for start in range(0, len(texts), AT_ONCE):
            digests = {_digest(text): text for text in texts[start : start + AT_ONCE]}
            query = f"SELECT text, vector FROM vectors WHERE text IN ({', '.join('?' * len(digests))})"  # noqa: S608
            for digest, vector in self._known.execute(query, list(digests)):
                found[digests[digest]] = np.frombuffer(vector, np.float16)
        return found

    def keep(self, texts: Sequence[str], vectors: Vector) -> None:
        """Keep the vectors of one request."""
        digests, content = [_digest(text) for text in texts], io.BytesIO()
        np.savez(content, texts=np.array(digests), vectors=vectors)
        name = f"{_digest(''.join(digests))}.npz"
        write = replace if name in self._damaged else create
        write(self._folders[0] / name, content.getvalue())
        with self._lock:
            self._names.add(name)
            self._remember(digests, vectors)

    def drop(self) -> None:
        """Remove the vectors that this job found or kept, but not those of other jobs; and months that are over."""
        self._known.close()
        for folder in self._folders:
            if mine := [(folder / name).path for name in names_in(folder) if name in self._names]:
                with suppress(FileNotFoundError):  # another job that found them removes them at the same time
                    folder.fs.rm(mine)
        for name in names_in(self._place):
            if name < self._folders[1].parent.name:
                drop(self._place / name)

    def _remember(self, digests: Iterable[str], vectors: Vector) -> None:
        rows = [(digest, vector.tobytes()) for digest, vector in zip(digests, vectors, strict=True)]
        self._known.execute("BEGIN")
        self._known.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
        self._known.execute("COMMIT")


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
