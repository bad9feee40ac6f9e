"""Verifies the audit log: every entry, its position, its link, and its anchors elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, Field

from nightshift.audit.anchor import Anchor
from nightshift.audit.chain import COLLECTED, Chain, lines_of
from nightshift.audit.entry import BEFORE_ALL, hash_of, line_of
from nightshift.audit.signature import is_genuine
from nightshift.errors import BadInput

# What a line must have to be looked at as an entry.
SHAPE = {"number": int, "previous": str, "hash": str, "did": str}


class Verified(BaseModel):
    """What was looked at and what is wrong. Without problems the log is whole up to `anchored`.

    :param begin: the number of the first entry that was looked at.
    :param matched: anchors that agree with the chain and count: those with a signature of a trusted key, where some are given.
    :param anchored: the newest entry that one of them agrees with; what follows it is only protected by its hashes.
    :param witnesses: the places that hold such anchors.
    """

    begin: int = 1
    count: int = 0
    head: str = BEFORE_ALL
    files: int = 0
    matched: int = 0
    anchored: int = 0
    witnesses: set[str] = set()
    problems: list[str] = Field([], description="each with its place")


def verify(chain: Chain, anchors: Iterable[Anchor], begin: int = 1, trusted: frozenset[str] = frozenset()) -> Verified:
    """Read the chain from the file that holds entry `begin` to its end, and hold it against the anchors from there on.

    One file is in memory at a time. Anchors of another chain count where they name the storage of this one.

    :param trusted: public keys; without any, every anchor counts whose signature is right or that has none.
    """
    identity, files = _identity(chain), chain.files(begin)
    own = [anchor for anchor in anchors if anchor.chain == identity]
    others = [anchor for anchor in anchors if anchor.chain != identity and anchor.storage == chain.storage]
    anchored = {anchor.count for anchor in own}
    walk, hashes = _Walk(min(begin, files[0][0]) if files else 1), {}
    for first, path in files:
        for entry in walk.through(first, path.path, lines_of(path)):
            if entry["number"] in anchored:
                hashes[entry["number"]] = entry["hash"]
    found = Verified(
        begin=walk.begin, count=walk.number, head=walk.head or "", files=len(files), problems=walk.problems
    )
    for place in sorted({anchor.place for anchor in own}):
        in_order = sorted((anchor for anchor in own if anchor.place == place), key=lambda anchor: anchor.count)
        _hold_against(found, in_order, hashes, _believed(found, in_order, trusted))
        if begin == 1:
            _hold_together(found, in_order)
    for chain_id, place in sorted({(anchor.chain, anchor.place) for anchor in others}):
        last = max((a for a in others if (a.chain, a.place) == (chain_id, place)), key=lambda a: a.count)
        found.problems.append(
            f"another log lay in {last.storage}: {last}. It was removed, or its beginning was rewritten"
        )
    return found


class _Walk:
    """Goes from line to line and knows what must come next; after a break it goes on from what it finds."""

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self.number = begin - 1
        # None: unknown, whatever comes is not held against it.
        self.head: str | None = BEFORE_ALL if begin == 1 else None
        self.problems: list[str] = []

    def through(self, first: int, path: str, lines: list[str]) -> Iterator[dict[str, Any]]:
        """Check the lines of the file that begins with entry `first`, and yield what is an entry."""
        if first > self.number + 1:
            self._tell(f"{_entries(self.number + 1, first - 1)} missing: no file holds them before {path}")
        elif first < self.number + 1:
            self._tell(f"{path} begins with entry {first}, but the file before it goes on to entry {self.number}")
        if first != self.number + 1:
            self.number, self.head = first - 1, None
        entries = [_parsed(line) for line in lines]
        self._tell_order(first, path, [entry["number"] for entry in entries if entry], whole=None not in entries)
        for position, (line, entry) in enumerate(zip(lines, entries, strict=True), start=1):
            place = f"{path} line {position}"
            if entry is None:
                self._tell(f"entry {self.number + 1} was edited: {place} is no entry any more")
                self.number, self.head = self.number + 1, None
                continue
            if not _fits(entry, line):
                self._tell(f"entry {entry['number']} was edited: {place} is not what its hash was made of")
            elif entry["number"] == self.number + 1 and self.head not in {None, entry["previous"]}:
                self._tell(
                    f"entry {self.number} or {entry['number']} was replaced: at {place} one does not follow the other"
                )
            self.number, self.head = entry["number"], entry["hash"]
            yield entry
        if not entries or (entries[-1] and entries[-1]["did"] != COLLECTED):
            self._tell(
                f"entries are missing after entry {self.number}: {path} was cut off, it does not end as it was written"
            )

    def _tell_order(self, first: int, path: str, numbers: list[int], whole: bool) -> None:
        """Say which entries of a file are missing, doubled or out of order."""
        expected = list(range(first, first + len(numbers)))
        if numbers == expected or not whole:
            return
        if sorted(numbers) == expected:
            line, found, belongs = next(
                (line, *pair)
                for line, pair in enumerate(zip(numbers, expected, strict=True), start=1)
                if pair[0] != pair[1]
            )
            self._tell(
                f"entries are out of order: {path} line {line} holds entry {found} where entry {belongs} belongs"
            )
            return
        must = first
        for line, number in enumerate(numbers, start=1):
            if number > must:
                self._tell(f"{_entries(must, number - 1)} missing: {path} line {line} holds entry {number}")
            elif number < must:
                self._tell(f"entry {number} is in a wrong place, or there twice: {path} line {line}")
            must = max(must, number + 1)

    def _tell(self, problem: str) -> None:
        self.problems.append(problem)


def _believed(found: Verified, anchors: list[Anchor], trusted: frozenset[str]) -> set[int]:
    """Return the entries of those anchors of one place, in order, that count as witnesses, and say which were forged.

    Anchors from before there was a key, or from before one of the trusted keys, are none, and not wrong either.
    """
    believed: set[int] = set()
    for anchor in anchors:
        if not is_genuine(anchor):
            found.problems.append(f"{anchor}, but that is not what was signed: the anchor was edited")
        elif not trusted or anchor.public_key in trusted:
            believed.add(anchor.count)
        elif believed:
            by = f"signed by the key {anchor.public_key}, which was not given" if anchor.public_key else "not signed"
            found.problems.append(f"{anchor}, but that anchor is {by}, unlike the one of entry {max(believed)}")
    return believed


def _hold_against(found: Verified, anchors: list[Anchor], hashes: dict[int, str], believed: set[int]) -> None:
    """Hold what was read against the anchors of one place, which are in order."""
    good = 0
    for anchor in anchors:
        if anchor.count > found.count:
            missing = f"{_entries(found.count + 1, anchor.count)} missing"
            found.problems.append(f"the log ends with entry {found.count}, but {anchor}: {missing}")
        elif hashes.get(anchor.count) == anchor.head:
            good = anchor.count
            if anchor.count in believed:
                found.matched += 1
                found.anchored = max(found.anchored, anchor.count)
                found.witnesses.add(anchor.place)
        elif anchor.count in hashes:
            found.problems.append(
                f"the log was rewritten: {anchor} with the hash {anchor.head[:12]}…, which is {hashes[anchor.count][:12]}… now; "
                f"something from entry {good + 1} to entry {anchor.count} is not what it was"
            )


def _hold_together(found: Verified, anchors: list[Anchor]) -> None:
    """Say which anchors of one place are missing, by the names that later ones give them."""
    counts = {anchor.count for anchor in anchors}
    found.problems += [
        f"the anchor of entry {anchor.previous} in {anchor.place} is gone: the one of entry {anchor.count} names it"
        for anchor in anchors
        if anchor.previous and anchor.previous not in counts
    ]


def _identity(chain: Chain) -> str:
    try:
        return chain.id()
    except BadInput:
        return ""


def _entries(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"


def _fits(entry: dict[str, Any], line: str) -> bool:
    try:
        return hash_of(entry) == entry["hash"] and line_of(entry) == line
    except (ValueError, RecursionError):
        return False


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
        whole = all(isinstance(entry[name], kind) for name, kind in SHAPE.items())
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return dict(entry) if whole else None
