"""The index of an application: all that decisions and pages need, in one file.

    <application>/ledger/index.json

It holds the newest intervals of each monitor, how many examples each day has, the newest records of the ledger, and the number
of the last arrival that it includes (:mod:`nightshift.storage.arrivals`). Readers add later arrivals from the files themselves
(:mod:`nightshift.ledger.index_files`), so that an old index gives current data. Records and manifests stay the truth; a missing
index, or one of another version, is rebuilt from them.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from pydantic import BaseModel, ValidationError
from upath import UPath

from nightshift.errors import BadInput
from nightshift.ledger.records import (
    Answer,
    Claim,
    GateRecord,
    Monitor,
    MonitoredInterval,
    Order,
    Outcome,
    Record,
    Release,
    Request,
    Snooze,
    Split,
    SplitEnd,
    SplitLook,
)  # fmt: skip
from nightshift.storage.arrivals import Arrival, has_arrival
from nightshift.storage.files import read_bytes, replace

VERSION = 1  # of the content; an index of another version is rebuilt
MONITORS: tuple[Monitor, ...] = ("drift", "bias")
LOOK_BACK = 90  # newest intervals of a monitor; older ones do not matter for decisions
NEWEST = 100  # records of a kind: as many orders as the policy allows in a week, the longest that it counts
NEWEST_INTERACTIONS = 1_000  # intervals, so that some are older than the hours in which an interval is judged
FOLDERS: dict[str, type[Record]] = {
    "orders": Order,
    "claims": Claim,
    "outcomes": Outcome,
    "snoozes": Snooze,
    "releases": Release,
    "requests": Request,
    "answers": Answer,
    "gate": GateRecord,
    "splits": Split,
    "looks": SplitLook,
    "ends": SplitEnd,
}
NUMBERED = ("orders", "claims", "outcomes")


class Examples(NamedTuple):
    """A partition of examples: its number of `train` rows, and whether validation accepted them."""

    train: int
    accepted: bool
    created: datetime


class Index(BaseModel):
    """What decisions and pages look at.

    Reports of intervals are called `<monitor>/<interval>/<address>`, records by their names or numbers.

    :param arrivals: number of the last arrival that is included.
    :param pending: arrivals before it whose file was not there yet.
    :param anew: when to rebuild it once: during an update, an old version may still write without announcing.
    :param unreadable: errors of partitions and records that cannot be read, by path.
    :param interactions: when the newest partitions were published, by their keys.
    """

    version: int = VERSION
    arrivals: int = 0
    pending: list[Arrival] = []
    anew: datetime | None = None
    unreadable: dict[str, str] = {}
    nights: dict[str, MonitoredInterval] = {}
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
    splits: dict[str, Split] = {}
    looks: dict[str, SplitLook] = {}
    ends: dict[str, SplitEnd] = {}

    def require(self, *folders: str) -> None:
        """Require that all records of some folders of the ledger are readable, since decisions need all of them.

        :raises BadInput: a record cannot be read.
        """
        for path, error in self.unreadable.items():
            if path.startswith(tuple(f"ledger/{folder}/" for folder in folders)):
                raise BadInput(error)

    def copied(self) -> Index:
        """Return a copy with its own dictionaries, to be added to."""
        own = {name: dict(value) for name, value in self if isinstance(value, dict)}
        return self.model_copy(update=own)

    def forget_old(self) -> None:
        """Drop what decisions no longer need; only the partitions of examples grow with the history, a line each."""
        self.nights = _newest_intervals(self.nights)
        self.interactions = {key: self.interactions[key] for key in sorted(self.interactions)[-NEWEST_INTERACTIONS:]}
        numbers = sorted(self.orders)[-NEWEST:]
        asked = sorted(self.requests)[-NEWEST:]
        said = sorted(self.gate, key=lambda name: self.gate[name].decided)[-NEWEST:]
        asleep = sorted(self.snoozes, key=lambda name: self.snoozes[name].created)[-NEWEST:]
        self.orders = {number: self.orders[number] for number in numbers}
        self.claims = {number: self.claims[number] for number in numbers if number in self.claims}
        self.outcomes = {number: self.outcomes[number] for number in numbers if number in self.outcomes}
        self.requests = {name: self.requests[name] for name in asked}
        self.answers = {name: self.answers[name] for name in asked if name in self.answers}
        self.gate = {name: self.gate[name] for name in said}
        self.snoozes = {name: self.snoozes[name] for name in asleep}
        self.splits = {name: self.splits[name] for name in sorted(self.splits)[-NEWEST:]}
        self.looks = {name: self.looks[name] for name in sorted(self.looks)[-NEWEST:]}
        self.ends = {name: self.ends[name] for name in sorted(self.ends)[-NEWEST:]}


def stored_index(home: UPath) -> Index | None:
    """Return the stored index, which must not be modified; None if there is no valid one.

    :param home: the application's folder.
    """
    content = read_bytes(home / "ledger" / "index.json")
    if content is None:
        return None
    digest = hashlib.sha256(content).digest()
    known = _parsed.get(str(home))
    if known is None or known[0] != digest:
        try:
            known = (digest, Index.model_validate_json(content))
        except ValidationError:
            return None
        _parsed[str(home)] = known
    index = known[1]
    # If its last arrival is missing, the storage was replaced, and its arrivals are numbered from the start.
    return index if index.version == VERSION and has_arrival(home, index.arrivals) else None


def write_index(home: UPath, index: Index) -> None:
    """Write the index. Of two writers either may win: readers of the older one add later arrivals."""
    replace(home / "ledger" / "index.json", index.model_dump_json().encode())


# A cache for the API server, which reads indexes for every page: at most one for each application.
_parsed: dict[str, tuple[bytes, Index]] = {}


def _newest_intervals(monitored: dict[str, MonitoredInterval]) -> dict[str, MonitoredInterval]:
    """The newest report of each monitor, interval and model, of each monitor's newest intervals."""
    newest: dict[tuple[str, str, str], str] = {}
    for name, one in sorted(monitored.items(), key=lambda item: item[1].created):
        newest[one.monitor, one.interval, one.model_digest] = name
    kept: list[str] = []
    for _, group in groupby(sorted(newest), key=lambda key: key[0]):
        keys = list(group)
        first = sorted({interval for _, interval, _ in keys})[-LOOK_BACK:][0]
        kept += [newest[key] for key in keys if key[1] >= first]
    return {name: monitored[name] for name in kept}
