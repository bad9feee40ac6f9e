"""Numbered announcements of files in an application's storage, so that new files are found without listing folders.

    <application>/arrivals/<number>.json   one file that was about to be written: its path, and what it would hold
    <application>/arrivals/newest          the newest number, or one shortly before it

An arrival is written before its file. A writer that is killed in between leaves an arrival too many, never one too few.
Numbers are taken by create-if-absent and leave no gap.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

from pydantic import BaseModel, ValidationError
from upath import UPath

from nightshift.storage.files import create, read_bytes, replace

log = logging.getLogger(__name__)


class Arrival(BaseModel):
    """A file that was about to be written.

    :param path: below the application's folder.
    :param sha256: of what it was to hold; None for a file that is never written again: whatever is there is right.
    """

    path: str
    sha256: str | None = None
    at: datetime


def announce(home: UPath, path: str, content: bytes | None = None) -> None:
    """Say that a file is about to be written, before it is.

    :param home: folder of the application.
    :param path: of the file, below it.
    :param content: that it will hold, of a file that may be written again.
    """
    arrival = Arrival(path=path, sha256=hashlib.sha256(content).hexdigest() if content else None, at=datetime.now(UTC))
    # Not from the hint alone: whoever may not replace files cannot write it, nor try a number that is taken.
    number = newest_arrival(home) + 1
    while not create(_path(home, number), arrival.model_dump_json().encode()):
        number = _last_from(home, number) + 1
    try:
        replace(home / "arrivals" / "newest", str(number).encode())
    except Exception as error:  # each object store has errors of its own, as one of a file that is written too often
        log.warning("%s: the hint could not be written, and the next writer looks a little longer: %s", home, error)


def arrivals_after(home: UPath, number: int) -> Iterator[tuple[int, Arrival]]:
    """Yield the arrivals after one, each with its number; one that cannot be read is left out."""
    while (content := read_bytes(_path(home, number + 1))) is not None:
        number += 1
        if arrival := _arrival(home, number, content):
            yield number, arrival


def arrivals_since(home: UPath, moment: datetime) -> list[Arrival]:
    """Return the arrivals since a moment, by the clocks of their writers."""
    found: list[Arrival] = []
    for number in range(newest_arrival(home), 0, -1):
        content = read_bytes(_path(home, number))
        arrival = _arrival(home, number, content) if content else None
        if arrival and arrival.at < moment:
            break
        found += [arrival] if arrival else []
    return found[::-1]


def newest_arrival(home: UPath) -> int:
    """Return the number of the newest arrival, 0 where there is none."""
    return _last_from(home, _hint(home))


def has_arrival(home: UPath, number: int) -> bool:
    """Return whether an arrival of this number was ever written."""
    return number == 0 or read_bytes(_path(home, number)) is not None


def _last_from(home: UPath, known: int) -> int:
    """The last number, of one that is taken: steps of doubling size, then of half the size, as numbers leave no gap."""
    step = 1
    while has_arrival(home, known + step):
        known += step
        step *= 2
    while step > 1:
        step //= 2
        if has_arrival(home, known + step):
            known += step
    return known


def _hint(home: UPath) -> int:
    content = read_bytes(home / "arrivals" / "newest") or b""
    number = int(content) if content.isdigit() else 0
    # A copy of a storage that is written to may have the hint of a moment later: numbers would leave a gap.
    return number if has_arrival(home, number) else 0


def _arrival(home: UPath, number: int, content: bytes) -> Arrival | None:
    try:
        return Arrival.model_validate_json(content)
    except ValidationError as error:
        log.warning("%s is not an arrival and is left out: %s", _path(home, number), error)
        return None


def _path(home: UPath, number: int) -> UPath:
    return home / "arrivals" / f"{number:08d}.json"
