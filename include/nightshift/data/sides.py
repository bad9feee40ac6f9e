"""Which side a row is on: that of the question it repeats or resembles, whenever that was first asked, else its own draw.

Rows are settled in their order, each by the rows of the map and of the interval that are settled already:

- its question is in the map: the side stays;
- it resembles rows of one side: it joins that side, and their group;
- it resembles rows of two sides: it is `between` them, neither trained on nor judged by, and binds nobody;
- else a hash of its digest draws the side by the configured shares, and it is the first of a new group.

A row to judge by that turns out to resemble one that was trained on (an earlier version put them there, or text that
they share was found since) steps between sides; what was trained on stays.

So no held-out row resembles a row of the training side, whether they come in one interval, in two at once or a year
apart, and the share of what is held out stays what was configured, because each group draws once.
"""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt

from nightshift.data.similarity import SIMILAR, VALUES, Keys, SimilarRows, connect, signatures
from nightshift.data.split_map import (
    BETWEEN,
    DEVELOPMENT,
    ENTRIES_AT_ONCE,
    HELD_OUT,
    TRAIN,
    UNKNOWN,
    Entries,
    State,
    places_in,
)

JUDGING = {HELD_OUT, DEVELOPMENT}
# Where both sides are known, less is left as it is: a pair of 0.7 is found on one day and not on the other, and is no leak.
TOO_NEAR = 0.75
Codes = npt.NDArray[np.uint8]


@dataclass
class Indexed:
    """What the map holds near the rows of an interval."""

    # By row of the interval: what the map says about its question (UNKNOWN and 0: nothing).
    known_sides: Codes
    known_groups: Keys
    # By row of the map in a :class:`SimilarRows`: the place of row -1 is 0, of row -2 is 1.
    keys: Keys
    sides: Codes
    groups: Keys


def find_near(state: State, rows: SimilarRows) -> Indexed:
    """Add to `rows` what the map holds near them, and close them. The map is read twice in parts: whole, then keys and sides.

    :raises BadInput: a segment is damaged.
    """
    own, places = np.unique(np.frombuffer(rows.keys, dtype=np.uint64), return_inverse=True)
    own_groups = np.zeros(len(own), dtype=np.uint64)
    keys, groups = array("Q"), array("Q")
    for entries in state.entries():
        at, hits = places_in(own, entries.keys)
        own_groups[at[hits]] = entries.groups[hits]
        near = rows.near(entries.signatures)
        rows.add_indexed(entries.signatures[near])
        keys.frombytes(entries.keys[entries.signed][near].tobytes())
        groups.frombytes(entries.groups[entries.signed][near].tobytes())
    rows.close()
    near_keys = np.frombuffer(keys, dtype=np.uint64)
    sides = state.sides(np.concatenate([own, near_keys]))
    return Indexed(
        sides[: len(own)][places],
        own_groups[places],
        near_keys,
        sides[len(own) :],
        np.frombuffer(groups, dtype=np.uint64),
    )


@dataclass
class Decided:
    """Side and group of each row (UNKNOWN and 0 where it is left out), and what is new for the map."""

    sides: Codes
    groups: Keys
    near_duplicates: npt.NDArray[np.bool_]
    entries: Iterator[Entries]  # to be read while the rows are open

    @property
    def largest_group(self) -> int:
        """Rows of the largest group."""
        counts = np.unique(self.groups[self.sides != UNKNOWN], return_counts=True)[1]
        return int(counts.max(initial=0))

    def spread(self, places: npt.NDArray[np.int64], count: int) -> Decided:
        """Return the same for `count` rows, of which these are at the given places; the others are left out."""
        sides, groups = np.full(count, UNKNOWN, dtype=np.uint8), np.zeros(count, dtype=np.uint64)
        near_duplicates = np.zeros(count, dtype=bool)
        sides[places], groups[places], near_duplicates[places] = self.sides, self.groups, self.near_duplicates
        return Decided(sides, groups, near_duplicates, self.entries)


def decide_sides(
    rows: SimilarRows,
    indexed: Indexed,
    draws: tuple[Codes, Keys],
    near_duplicates: float,
    *,
    database: duckdb.DuckDBPyConnection,
    wanted: Codes | None = None,
) -> Decided:
    """Decide which rows are near-duplicates, and the side of each other one.

    A near-duplicate has the answer of an earlier row of the interval, is estimated at least `near_duplicates` similar to
    it (Jaccard), and differs from it in a word or two, however long both are.

    :param draws: by row, the side that a hash of its digest draws, and 64 bits of that digest.
    :param wanted: by row, the side that it is on already. What was trained on is on the training side whatever it
        resembles, and a row to judge by that resembles it is between sides from then on.
    """
    settling = _Settling(rows, indexed, draws, wanted)
    left_out = np.zeros(rows.rows, dtype=bool)
    settled = 0
    for later, pairs in groupby(rows.pairs(database), key=itemgetter(1)):
        for row in range(settled, later):
            settling.settle(row, [])
        settled = later + 1
        near = []
        for earlier, _, similarity, same in pairs:
            if earlier < 0:
                near.append((earlier, similarity))
            elif not left_out[earlier]:
                near.append((earlier, similarity))
                if same and similarity >= near_duplicates and rows.differ_little(earlier, later):
                    left_out[later] = True
                    break
        if not left_out[later]:
            settling.settle(later, near)
    for row in range(settled, rows.rows):
        settling.settle(row, [])
    return Decided(settling.sides, settling.groups, left_out, settling.entries())


class _Settling:
    def __init__(self, rows: SimilarRows, indexed: Indexed, draws: tuple[Codes, Keys], wanted: Codes | None) -> None:
        self.sides = np.full(rows.rows, UNKNOWN, dtype=np.uint8)
        self.groups = np.zeros(rows.rows, dtype=np.uint64)
        self._rows, self._indexed, self._wanted = rows, indexed, wanted
        self._drawn_sides, self._drawn_groups = draws
        self._keys = np.frombuffer(rows.keys, dtype=np.uint64)
        _, self._question = np.unique(self._keys, return_inverse=True)  # by row
        # By question that is new to the map, its first settled row.
        self._first = np.full(rows.rows, -1, dtype=np.int64)
        self._changed: dict[int, tuple[int, int]] = {}  # key of the map -> side and group from now on

    def settle(self, row: int, near: list[tuple[int, float]]) -> None:
        """Decide the side of a row by those near it (row and similarity), which are settled."""
        question = self._question[row]
        known, group = int(self._indexed.known_sides[row]), int(self._indexed.known_groups[row])
        if (first := self._first[question]) >= 0:
            known, group = int(self.sides[first]), int(self.groups[first])
        is_new = known == UNKNOWN
        if is_new:
            group = int(self._drawn_groups[row])
            self._first[question] = row
        wanted = None if self._wanted is None else int(self._wanted[row])
        if wanted == TRAIN:
            side = TRAIN
            if known not in {TRAIN, UNKNOWN}:
                self._change(int(self._keys[row]), TRAIN, group)
        elif not is_new:
            side = known
        elif wanted is not None:
            resembles_trained = any(self._side(other) == TRAIN for other, _ in near)
            side = BETWEEN if wanted in JUDGING and resembles_trained else wanted
        else:
            side, group = self._joined_or_drawn(row, [other for other, _ in near])
        self.sides[row], self.groups[row] = side, group
        if is_new and wanted != TRAIN:
            return  # it has adapted to what is near
        # Two questions whose sides are known turn out to be near when the text that is shared is known better.
        enough = SIMILAR if wanted is not None else TOO_NEAR
        very_near = [other for other, similarity in near if similarity >= enough]
        if side == TRAIN:
            for other in very_near:
                if self._side(other) in JUDGING:
                    self._step_between(other)
        elif side in JUDGING and any(self._side(other) == TRAIN for other in very_near):
            self._step_between(row)

    def _joined_or_drawn(self, row: int, near: list[int]) -> tuple[int, int]:
        """Side and group of a row with a new question."""
        drawn = int(self._drawn_groups[row])
        by_side = {self._side(other): other for other in reversed(near) if self._side(other) != BETWEEN}
        if not by_side:
            return int(self._drawn_sides[row]), drawn
        if len(by_side) > 1:
            return BETWEEN, drawn
        ((side, other),) = by_side.items()
        return side, int(self.groups[other] if other >= 0 else self._indexed.groups[-1 - other])

    def entries(self) -> Iterator[Entries]:
        """The questions that the map does not have yet, in order, and its own that changed sides; in parts."""
        firsts = np.sort(self._first[self._first >= 0])
        for begin in range(0, len(firsts), ENTRIES_AT_ONCE):
            part = firsts[begin : begin + ENTRIES_AT_ONCE]
            signed = np.ones(len(part), dtype=bool)
            yield Entries(
                self._keys[part], self.sides[part], self.groups[part], signed, self._rows.values_of(part)
            )  # fmt: skip
        if self._changed:
            sides, groups = zip(*self._changed.values(), strict=True)
            yield Entries(
                np.array(list(self._changed), np.uint64), np.array(sides, np.uint8), np.array(groups, np.uint64),
                np.zeros(len(sides), dtype=bool), np.empty((0, VALUES), np.uint8),
            )  # fmt: skip

    def _side(self, row: int) -> int:
        return int(self.sides[row] if row >= 0 else self._indexed.sides[-1 - row])

    def _step_between(self, row: int) -> None:
        if row < 0:
            self._change(int(self._indexed.keys[-1 - row]), BETWEEN, int(self._indexed.groups[-1 - row]))
        elif (first := self._first[self._question[row]]) >= 0:
            self.sides[row] = self.sides[first] = BETWEEN
        else:
            self.sides[row] = BETWEEN
            self._change(int(self._keys[row]), BETWEEN, int(self.groups[row]))

    def _change(self, key: int, side: int, group: int) -> None:
        self._changed[key] = (side, group)
        self._indexed.known_sides[self._keys == np.uint64(key)] = side
        self._indexed.sides[self._indexed.keys == np.uint64(key)] = side


def resembling_trained(
    state: State, questions: Iterable[list[str]], folder: Path, trained: Iterable[list[str]] = ()
) -> set[int]:
    """Return which questions (by number, from 0) repeat or resemble one of the training side.

    :param trained: questions that are on it, to be compared without the text that only later ones showed to be shared.
    :raises BadInput: a segment is damaged.
    """
    rows = SimilarRows(folder / "similar", state.shared)
    try:
        for batch in questions:
            rows.add(batch, [""] * len(batch))
        for batch in trained:
            values = signatures(state.shared.left_out(batch)[0])
            rows.add_indexed(values[rows.near(values)])
        first = rows.indexed
        indexed = find_near(state, rows)
        sides = np.concatenate([np.full(first, TRAIN, dtype=np.uint8), indexed.sides])
        with connect(folder / "similar") as database:
            found = {
                later for earlier, later, _, _ in rows.pairs(database) if earlier < 0 and sides[-1 - earlier] == TRAIN
            }
        return found | set(np.nonzero(indexed.known_sides == TRAIN)[0].tolist())
    finally:
        rows.release()
        shutil.rmtree(folder / "similar", ignore_errors=True)
