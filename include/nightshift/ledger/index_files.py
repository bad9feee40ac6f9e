"""Builds an index from the files themselves: adds the arrivals since it was written, or reads everything."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

from pydantic import ValidationError
from upath import UPath

from nightshift.data.acceptance import ACCEPTANCE, acceptance_of, refusal
from nightshift.errors import BadInput
from nightshift.ledger.index import (
    FOLDERS,
    LOOK_BACK,
    MONITORS,
    NEWEST_INTERACTIONS,
    NUMBERED,
    Examples,
    Index,
    stored_index,
)  # fmt: skip
from nightshift.ledger.records import MonitoredInterval, Record
from nightshift.storage.arrivals import Arrival, arrivals_after, arrivals_since, newest_arrival
from nightshift.storage.files import names_in, read_bytes, read_each
from nightshift.storage.manifest import MANIFEST, Manifest, manifest_of

# After this time, a writer that announced a file and did not write it was killed, and jobs from before an update have ended.
A_DAY = timedelta(days=1)
LONGEST_NAME = 200  # characters

SomeRecord = TypeVar("SomeRecord", bound=Record)

log = logging.getLogger(__name__)


class _File(NamedTuple):
    """The content of a file, None if it is missing; for examples also that of their acceptance."""

    path: str
    content: bytes | None
    acceptance: bytes | None = None


def read_index(home: UPath) -> tuple[Index | None, Index]:
    """Return the stored index of an application (None if there is none), and the current one."""
    stored, now = stored_index(home), datetime.now(UTC)
    if stored is None:
        return None, read_arrivals(home, _made_anew(home, again=now + A_DAY))
    if stored.anew and stored.anew < now:
        return None, read_arrivals(home, _made_anew(home, again=None))
    return stored, read_arrivals(home, stored)


def read_arrivals(home: UPath, index: Index) -> Index:
    """Return an index with later arrivals added; the same object if there are none."""
    last, waiting, now = index.arrivals, list(index.pending), datetime.now(UTC)
    for number, arrival in arrivals_after(home, index.arrivals):
        last = number
        waiting.append(arrival)
    known = {(arrival.path, arrival.sha256): arrival for arrival in waiting if _is_indexed(arrival.path)}
    if not known and not index.unreadable and last == index.arrivals:
        return index
    new = index.copied()
    new.arrivals = last
    # Unreadable files may have been repaired or removed by hand.
    paths = list(dict.fromkeys([*index.unreadable, *(path for path, _ in known)]))
    files = {file.path: file for file in read_each(home, lambda path: _read(home, path), paths)}
    for file in files.values():
        _include(new, home, file)
    new.pending = [one for one in known.values() if not _is_there(files[one.path], one) and now - one.at < A_DAY]
    new.forget_old()
    return new


def monitored_interval(partition: UPath, manifest: Manifest) -> MonitoredInterval:
    """Return a published partition of drift or bias as the policy sees it."""
    return MonitoredInterval.model_validate(
        {
            **manifest.facts,
            "report": str(partition),
            "report_digest": manifest.digest,
            "files": [file.name for file in manifest.files],
            "created": manifest.created,
        }
    )


def record_of(path: UPath, content: bytes, model: type[SomeRecord]) -> SomeRecord:
    """Parse a record of the ledger.

    :raises BadInput: the file is not a valid record.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise BadInput(f"{path} cannot be read: {error.error_count()} errors, first {where}: {first['msg']}") from error


def _made_anew(home: UPath, again: datetime | None) -> Index:
    """Read everything. Recently announced files may appear only later, and are read again."""
    last, recent = newest_arrival(home), arrivals_since(home, datetime.now(UTC) - A_DAY)
    index = Index(arrivals=last, pending=recent, anew=again)
    for file in read_each(home, lambda path: _read(home, path), list(_everything(home))):
        _include(index, home, file)
    index.forget_old()
    return index


def _everything(home: UPath) -> Iterator[str]:
    for monitor in MONITORS:
        folders = [home / monitor / interval for interval in names_in(home / monitor)[-LOOK_BACK:]]
        for folder, addresses in zip(folders, read_each(home, names_in, folders), strict=True):
            yield from (f"{monitor}/{folder.name}/{address}/{MANIFEST}" for address in addresses)
    yield from (f"examples/{key}/{MANIFEST}" for key in names_in(home / "examples"))
    yield from (f"interactions/{key}/{MANIFEST}" for key in names_in(home / "interactions")[-NEWEST_INTERACTIONS:])
    for folder in FOLDERS:
        paths = (f"ledger/{folder}/{file}" for file in names_in(home / "ledger" / folder))
        yield from filter(_is_indexed, paths)


def _is_indexed(path: str) -> bool:
    """Whether an index holds files of this path. An arrival may name any path, so others are never read."""
    parts = path.split("/")
    if any(part in {"", ".", ".."} or len(part) > LONGEST_NAME or "\0" in part for part in parts):
        return False
    match parts:
        case ["drift" | "bias", _, _, file] | ["interactions", _, file]:
            return file == MANIFEST
        case ["examples", _, file]:
            return file in {MANIFEST, ACCEPTANCE}
        case ["ledger", folder, file] if folder in FOLDERS and file.endswith(".json"):
            return folder not in NUMBERED or file.removesuffix(".json").isdigit()
    return False


def _read(home: UPath, path: str) -> _File:
    if not path.startswith("examples/"):
        return _File(path, read_bytes(home / path))
    partition = (home / path).parent
    return _File(path, read_bytes(partition / MANIFEST), read_bytes(partition / ACCEPTANCE))


def _is_there(file: _File, arrival: Arrival) -> bool:
    """Whether a file has the announced content."""
    content = file.acceptance if file.path.endswith(ACCEPTANCE) else file.content
    return content is not None and arrival.sha256 in {None, hashlib.sha256(content).hexdigest()}


def _include(index: Index, home: UPath, file: _File) -> None:
    """Add a file to an index; errors are noted in `unreadable`."""
    index.unreadable.pop(file.path, None)
    if file.content is None:
        return
    path, parts = home / file.path, file.path.split("/")
    try:
        match parts:
            case ["drift" | "bias", _, _, _]:
                index.nights["/".join(parts[:-1])] = monitored_interval(path.parent, manifest_of(path, file.content))
            case ["interactions", key, _]:
                index.interactions[key] = manifest_of(path, file.content).created
            case ["examples", key, _]:
                manifest = manifest_of(path.parent / MANIFEST, file.content)
                acceptance = acceptance_of(path.parent, file.acceptance)
                train = int(manifest.facts.get("splits", {}).get("train", 0))
                index.examples[key] = Examples(train, refusal(acceptance, manifest) is None, manifest.created)
            case [_, folder, name]:
                stem = name.removesuffix(".json")
                record = record_of(path, file.content, FOLDERS[folder])
                getattr(index, folder)[int(stem) if folder in NUMBERED else stem] = record
    except (BadInput, ValidationError) as error:
        log.warning("%s", error)
        index.unreadable[file.path] = str(error)
