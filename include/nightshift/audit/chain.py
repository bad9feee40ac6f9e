"""The audit log in storage: files of JSON lines that are only ever added, each by all writers or by one.

    <storage>/audit/000000/000000001.jsonl    named by the number of its first entry, in a folder of 10,000 numbers
    <storage>/audit/000000/000000043.jsonl

One file holds what one collection appended together. It is created only if it is not there yet, under the number after the
last entry; so of two writers who saw the same end one wins, the other looks again, and the chain never forks. The last entry
of a file, `collected`, says until when each source was read: nothing beside the chain has to be right.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel
from upath import UPath

from nightshift.audit.entry import BEFORE_ALL, AuditEvent, Entry, Source, chained, line_of
from nightshift.errors import BadInput
from nightshift.storage.files import create, names_in

BEGAN, COLLECTED = "began", "collected"
ENTRY = frozenset(Entry.model_fields)
IN_A_FOLDER = 10_000  # numbers of entries
IN_A_FILE = 1_000  # entries that are appended together at most
# Events become visible late and clocks differ: a source is read again from so long before it was last read.
LOOK_BACK = timedelta(hours=3)

# What one appending knows of the files that it read, by their first number: the events in it, and when they were appended.
Seen = dict[int, tuple[frozenset[str], datetime]]


class End(BaseModel):
    """Where the chain ends: its last entry, and until when each source was read."""

    count: int = 0
    head: str = BEFORE_ALL
    until: dict[Source, datetime] = {}


class Chain:
    """The audit log below a storage URI.

    :raises BadInput: what must be read to go on is no entry (every method).
    """

    def __init__(self, storage: str) -> None:
        self.storage = storage.rstrip("/")
        self._folder = UPath(storage).joinpath("audit")

    def files(self, holding: int = 1) -> list[tuple[int, UPath]]:
        """Return the files in order, with the number of their first entry, from the one that holds entry `holding` on."""
        found = [file for name in names_in(self._folder) for file in self._files_in(name)]
        before = [first for first, _ in found if first <= holding]
        return [(first, path) for first, path in found if not before or first >= before[-1]]

    def id(self) -> str:
        """Return what tells this chain from others, the hash of its first entry; empty where there is none."""
        path = self._path(1)
        try:
            return str(_entries_of(path)[0]["hash"])
        except FileNotFoundError:
            return ""

    def end(self) -> End:
        """Return where the chain ends."""
        folders = names_in(self._folder)
        files = next((files for name in reversed(folders) if (files := self._files_in(name))), [])
        if not files:
            return End()
        last = _entries_of(files[-1][1])[-1]
        return End(count=last["number"], head=last["hash"], until=last["details"].get("until", {}))

    def since(self, source: Source) -> datetime | None:
        """Return from when on a source has to be read; None: from its beginning."""
        until = self.end().until.get(source)
        return until - LOOK_BACK if until else None

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield every entry in order, one file in memory at a time."""
        for _, path in self.files():
            yield from _entries_of(path)

    def append(self, source: Source, events: Iterable[AuditEvent], until: datetime) -> int:
        """Append the events that are not in the chain yet, and return how many.

        Killed at any point, the next call appends the rest: until it says otherwise, a source counts as read until before.
        So does one that breaks off: what it gave is appended, and its error goes on.

        :param until: when the reading of the source began.
        :raises BadEnvironment: storage cannot be reached, or cannot create files atomically.
        """
        since, appended = self.since(source), 0
        batch: list[AuditEvent] = []
        seen: Seen = {}
        try:
            for event in events:
                if len(batch) == IN_A_FILE:
                    appended += self._append(batch, since, {}, seen)
                    batch = []
                batch.append(event)
        except Exception:  # of whatever kind a source's are: it goes on, after what the source gave is kept
            self._append(batch, since, {}, seen)
            raise
        return appended + self._append(batch, since, {source: until}, seen)

    def _append(
        self, events: list[AuditEvent], since: datetime | None, until: Mapping[Source, datetime], seen: Seen
    ) -> int:
        while events:
            end = self.end()
            known = self._known(events, since, seen)
            new = {event.source_id: event for event in events if event.source_id not in known}
            if not new:
                return 0
            entries = _chain_on(end, sorted(new.values(), key=lambda event: event.at), {**end.until, **until})
            content = "".join(line_of(entry.model_dump(mode="json")) for entry in entries)
            if create(self._path(end.count + 1), content.encode()):
                return len(new)
        return 0

    def _known(self, events: list[AuditEvent], since: datetime | None, seen: Seen) -> set[str]:
        """The events of the chain among these: what was appended since the source was last read, or whole for older ones.

        An event cannot be in the chain from before it was done; but a file that was put back from a backup looks new to a
        source and holds an old event. A file never changes, so it is read once.
        """
        asked = {event.source_id for event in events}
        known: set[str] = set()
        for first, path in reversed(self.files()):
            if first not in seen:
                entries = _entries_of(path)
                seen[first] = (
                    frozenset(entry["source_id"] for entry in entries),
                    datetime.fromisoformat(entries[-1]["at"]),
                )
            ids, appended = seen[first]
            known |= asked & ids
            if (
                since
                and appended < since - LOOK_BACK
                and all(d.at >= since for d in events if d.source_id not in known)
            ):
                break
        return known

    def _path(self, number: int) -> UPath:
        return self._folder.joinpath(f"{number // IN_A_FOLDER:06d}", f"{number:09d}.jsonl")

    def _files_in(self, folder: str) -> list[tuple[int, UPath]]:
        names = names_in(self._folder / folder)
        numbers = [int(name.removesuffix(".jsonl")) for name in names if name.removesuffix(".jsonl").isdigit()]
        return [(number, self._folder / folder / f"{number:09d}.jsonl") for number in sorted(numbers)]


def lines_of(path: UPath) -> list[str]:
    """Return the lines of one file of the chain with their ends, read past the storage client's cache."""
    *lines, rest = path.fs.cat_file(path.path).decode("utf-8", "replace").split("\n")
    return [f"{line}\n" for line in lines] + ([rest] if rest else [])


def _chain_on(end: End, events: list[AuditEvent], until: Mapping[Source, datetime]) -> list[Entry]:
    now = datetime.now(UTC)
    if not end.count:
        name = uuid.uuid4().hex
        first = AuditEvent(at=now, who="nightshift", did=BEGAN, source="audit", source_id=f"{BEGAN} {name}")
        events = [first, *events]
    last = AuditEvent(
        at=now,
        who="nightshift",
        did=COLLECTED,
        details={"until": {source: moment.isoformat() for source, moment in until.items()}},
        source="audit",
        source_id=f"{COLLECTED} {end.count + len(events) + 1}",
    )
    entries: list[Entry] = []
    head = end.head
    for number, event in enumerate([*events, last], start=end.count + 1):
        entries.append(chained(event, number, head))
        head = entries[-1].hash
    return entries


def _entries_of(path: UPath) -> list[dict[str, Any]]:
    try:
        entries = [{**json.loads(line)} for line in lines_of(path)]
        if entries and all(entry.keys() >= ENTRY for entry in entries):
            return entries
    except (ValueError, TypeError, RecursionError):
        pass
    raise BadInput(f"{path} is damaged, so the audit log cannot go on; `nightshift audit verify` says more")
