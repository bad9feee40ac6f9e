"""The index of an application: what decisions and pages look at, in one file, whatever its history.

    <application>/ledger/index.json

It holds the newest nights of each monitor, how many examples each day has, the newest records of the ledger, and the number
of the last arrival that it includes (:mod:`nightshift.storage.arrivals`). Whoever reads it reads what arrived since as well,
from the files themselves: so it is as fresh as they are, and may be as old as it likes. Records and manifests stay the truth;
an index that is gone, or of another version, is made anew from them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from upath import UPath

from nightshift.data.acceptance import why_not
from nightshift.errors import BadInput
from nightshift.ledger.records import (
    Answer,
    Claim,
    GateRecord,
    Monitor,
    Night,
    Order,
    Outcome,
    Record,
    Release,
    Request,
    Snooze,
)  # fmt: skip
from nightshift.storage.arrivals import Arrival, arrivals_after, arrivals_since, has_arrival, newest_arrival
from nightshift.storage.files import names_in, read_bytes, replace
from nightshift.storage.partition import MANIFEST, Manifest, manifest_of, require_manifest

VERSION = 1  # of what an index holds; another one is made anew
MONITORS: tuple[Monitor, ...] = ("drift", "bias")
LOOK_BACK = 90  # newest intervals of a monitor; older ones say nothing about today
NEWEST = 100  # records of a kind: as many orders as the policy allows in a week, the longest that it counts
GIVEN_UP = timedelta(days=1)  # a writer that announced a file so long ago was killed before it wrote it
FOLDERS: dict[str, type[Record]] = {
    "orders": Order,
    "claims": Claim,
    "outcomes": Outcome,
    "snoozes": Snooze,
    "releases": Release,
    "requests": Request,
    "answers": Answer,
    "gate": GateRecord,
}

NUMBERED = {"orders", "claims", "outcomes"}

SomeRecord = TypeVar("SomeRecord", bound=Record)

log = logging.getLogger(__name__)


class Examples(Record):
    """What a partition of examples has to train on: `train` rows, if its validation accepted them."""

    train: int
    accepted: bool
    created: datetime


class Index(BaseModel):
    """What decisions and pages look at. Nights are called `<monitor>/<interval>/<address>`, records by their names or numbers.

    :param arrivals: number of the last arrival that is included.
    :param pending: arrivals before it whose file was not there yet.
    :param interactions: when the newest partitions were published, by their keys.
    :param unreadable: what is wrong with a partition or record that cannot be read, by its path.
    """

    version: int = VERSION
    arrivals: int = 0
    pending: list[Arrival] = []
    unreadable: dict[str, str] = {}
    nights: dict[str, Night] = {}
    examples: dict[str, Examples] = {}
    interactions: dict[str, datetime] = {}
    orders: dict[int, Order] = {}
    claims: dict[int, Claim] = {}
    outcomes: dict[int, Outcome] = {}
    snoozes: dict[str, Snooze] = {}
    releases: dict[str, Release] = {}
    requests: dict[str, Request] = {}
    answers: dict[str, Answer] = {}
    gate: dict[str, GateRecord] = {}

    def require(self, *folders: str) -> None:
        """Insist on every record of some folders of the ledger: without one nobody may decide.

        :raises BadInput: one cannot be read.
        """
        for path, error in self.unreadable.items():
            if path.startswith(tuple(f"ledger/{folder}/" for folder in folders)):
                raise BadInput(error)


def read_index(home: UPath) -> Index:
    """Return what is known of an application now: two calls of storage, and two for each arrival since the index was written.

    :param home: the application's folder.
    """
    content = read_bytes(_path(home))
    index = _parsed(content) if content else None
    # Without the last arrival that it includes, storage is another one: arrivals are counted from the start.
    if index is None or not has_arrival(home, index.arrivals):
        index = _made_anew(home)
    return read_arrivals(home, index)


def read_arrivals(home: UPath, index: Index) -> Index:
    """Return an index with what arrived since it was made; the same one where nothing did."""
    last, waiting = index.arrivals, {arrival.path: arrival for arrival in index.pending}
    for number, arrival in arrivals_after(home, index.arrivals):
        last, waiting[arrival.path] = number, arrival
    if not waiting:
        return index
    now, new = datetime.now(UTC), _copy(index)
    new.arrivals = last
    new.pending = [arrival for arrival in waiting.values() if not _include(new, home, arrival, now)]
    _forget_old(new)
    return new


def keep_index(home: UPath, index: Index) -> None:
    """Write the index, where it is newer. Of two writers either may win: who reads it reads on from there."""
    content = read_bytes(_path(home))
    known = _parsed(content) if content else None
    if known is None or known.arrivals < index.arrivals or known.pending != index.pending:
        replace(_path(home), index.model_dump_json().encode())


def night_of(partition: UPath, manifest: Manifest) -> Night:
    """Return a published partition of drift or bias as the policy sees it."""
    return Night.model_validate(
        {
            **manifest.facts,
            "report": str(partition),
            "report_digest": manifest.digest,
            "files": [file.name for file in manifest.files],
            "created": manifest.created,
        }
    )


def _include(index: Index, home: UPath, arrival: Arrival, now: datetime) -> bool:
    """Read the file of an arrival into an index; return whether nothing is to be expected of this arrival any more."""
    parts = arrival.path.split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        return True
    content = read_bytes(home.joinpath(*parts))
    if content is not None:
        _include_file(index, home, parts, content)
    there = content is not None and arrival.sha256 in {None, hashlib.sha256(content).hexdigest()}
    return there or now - arrival.at > GIVEN_UP


def _include_file(index: Index, home: UPath, parts: list[str], content: bytes) -> None:
    """Read one file into an index; what of it cannot be read is noted."""
    path = "/".join(parts)
    index.unreadable.pop(path, None)
    try:
        match parts:
            case ["drift" | "bias", _, _, "manifest.json"]:
                index.nights["/".join(parts[:-1])] = night_of(
                    home.joinpath(*parts[:-1]), manifest_of(home / path, content)
                )
            case ["interactions", key, "manifest.json"]:
                index.interactions[key] = manifest_of(home / path, content).created
            case ["examples", key, "manifest.json" | "validation.json"]:
                index.examples[key] = _examples(home / "examples" / key)
            case ["ledger", folder, file] if folder in FOLDERS:
                name = file.removesuffix(".json")
                getattr(index, folder)[int(name) if folder in NUMBERED else name] = record_of(
                    home / path, content, FOLDERS[folder]
                )
    except (BadInput, ValueError) as error:
        log.warning("what cannot be read does not count: %s: %s", path, error)
        index.unreadable[path] = str(error)


def record_of(path: UPath, content: bytes, model: type[SomeRecord]) -> SomeRecord:
    """Return a record of the ledger.

    :raises BadInput: it is none.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise BadInput(f"{path} cannot be read: {error.error_count()} errors, first {where}: {first['msg']}") from error


def _examples(partition: UPath) -> Examples:
    manifest = require_manifest(partition)
    train = int(manifest.facts.get("splits", {}).get("train", 0))
    return Examples(train=train, accepted=why_not(partition, manifest) is None, created=manifest.created)


def _made_anew(home: UPath) -> Index:
    """Read everything. What was announced lately may be there only after it, and is read again."""
    last = newest_arrival(home)
    recent = {arrival.path: arrival for arrival in arrivals_since(home, datetime.now(UTC) - GIVEN_UP)}
    index = Index(arrivals=last, pending=list(recent.values()))
    for parts in _everything(home):
        if (content := read_bytes(home.joinpath(*parts))) is not None:
            _include_file(index, home, parts, content)
    _forget_old(index)
    return index


def _everything(home: UPath) -> Iterator[list[str]]:
    for monitor in MONITORS:
        for interval in names_in(home / monitor)[-LOOK_BACK:]:
            yield from ([monitor, interval, address, MANIFEST] for address in names_in(home / monitor / interval))
    yield from (["examples", key, MANIFEST] for key in names_in(home / "examples"))
    yield from (["interactions", key, MANIFEST] for key in names_in(home / "interactions")[-NEWEST:])
    for folder in FOLDERS:
        yield from (["ledger", folder, file] for file in names_in(home / "ledger" / folder) if file.endswith(".json"))


def _forget_old(index: Index) -> None:
    """Keep what can matter today: an index does not grow with the history, but by a line for each partition of examples."""
    newest: dict[tuple[str, str, str], str] = {}
    for name, night in sorted(index.nights.items(), key=lambda item: item[1].created):
        newest[night.monitor, night.interval, night.model_digest] = name
    kept = []
    for _, group in groupby(sorted(newest), key=lambda key: key[0]):
        keys = list(group)
        first = sorted({interval for _, interval, _ in keys})[-LOOK_BACK:][0]
        kept += [newest[key] for key in keys if key[1] >= first]
    index.nights = {name: index.nights[name] for name in kept}
    index.interactions = {key: index.interactions[key] for key in sorted(index.interactions)[-NEWEST:]}
    numbers = sorted(index.orders)[-NEWEST:]
    asked = sorted(index.requests)[-NEWEST:]
    said = sorted(index.gate, key=lambda name: index.gate[name].decided)[-NEWEST:]
    asleep = sorted(index.snoozes, key=lambda name: index.snoozes[name].created)[-NEWEST:]
    index.orders = {number: index.orders[number] for number in numbers}
    index.claims = {number: index.claims[number] for number in numbers if number in index.claims}
    index.outcomes = {number: index.outcomes[number] for number in numbers if number in index.outcomes}
    index.requests = {name: index.requests[name] for name in asked}
    index.answers = {name: index.answers[name] for name in asked if name in index.answers}
    index.gate = {name: index.gate[name] for name in said}
    index.snoozes = {name: index.snoozes[name] for name in asleep}


def _copy(index: Index) -> Index:
    """A copy whose folders are its own."""
    own = {name: dict(value) for name, value in index if isinstance(value, dict)}
    return index.model_copy(update=own)


@lru_cache(maxsize=100)
def _parsed(content: bytes) -> Index | None:
    """An index, not to be changed; None of another version, or of what is none."""
    try:
        index = Index.model_validate_json(content)
    except ValidationError:
        return None
    return index if index.version == VERSION else None


def _path(home: UPath) -> UPath:
    return home / "ledger" / "index.json"
