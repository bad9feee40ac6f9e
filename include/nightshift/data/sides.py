"""The split side of a row: that of an earlier question that it repeats or resembles, else its own draw.

Rows are settled in their order, each by the rows of the map and of the interval that are settled already:

- its question is in the map: the side stays;
- it resembles rows of one side: it joins that side, and their group;
- it resembles rows of two sides: it is `between` them, neither trained on nor judged by, and binds nobody;
- it resembles none, and its subject or split group (its bonds) has a side: it joins that;
- else a hash of its digest draws the side by the configured shares, and it is the first of a new group.

Subject and split group are on the side of their first row. A row that one of them has on another side than its question
is between, too: its question and its bonds stay where they are.

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

import numpy as np
import numpy.typing as npt

from nightshift.data.similar_pairs import sorted_once
from nightshift.data.similarity import SIMILAR, VALUES, Keys, Signatures, SimilarRows
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
FEW = 10  # rows that are settled faster one by one
Codes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]
SEEN = (1 << 24) - 1  # mask of the table that rules out later words about questions that are not near


@dataclass
class Indexed:
    """What the map holds about the rows of an interval, and near them."""

    # What it says of the keys of the rows: questions, subjects and split groups, sorted (UNKNOWN and 0: nothing).
    own: Keys
    own_sides: Codes
    own_groups: Keys
    questions: Places  # by row, in `own`
    bonds: Places  # shape (rows, 0 or 2), in `own`; -1: the row has none
    # By row of the map in a :class:`SimilarRows`: the place of row -1 is 0, of row -2 is 1.
    keys: Keys
    sides: Codes
    groups: Keys


def find_near(state: State, rows: SimilarRows, bonds: Keys | None = None) -> Indexed:
    """Add to `rows` what the map holds near them, and close them. The map is read once, in parts.

    :param bonds: keys of each row's subject and split group, shape (rows, 2); 0: it has none.
    :raises BadInput: a segment is damaged.
    """
    bonds = np.empty((rows.rows, 0), np.uint64) if bonds is None else bonds
    own = sorted_once(np.concatenate([rows.keys(), bonds[bonds > 0]]))
    own_sides, own_groups = np.full(len(own), UNKNOWN, dtype=np.uint8), np.zeros(len(own), dtype=np.uint64)
    keys, sides, groups = array("Q"), array("B"), array("Q")
    seen = np.zeros(SEEN + 1, dtype=bool)
    later: list[tuple[Keys, Codes]] = []
    for entries in state.entries():
        # Of two entries of one key the later one holds.
        at, hits = places_in(own, entries.keys)
        own_sides[at[hits]], own_groups[at[hits]] = entries.sides[hits], entries.groups[hits]
        near = rows.add_indexed(entries.signatures)
        signed = np.nonzero(entries.signed)[0][near]
        for column, values in ((keys, entries.keys), (sides, entries.sides), (groups, entries.groups)):
            column.frombytes(values[signed].tobytes())
        seen[entries.keys[signed] & np.uint64(SEEN)] = True
        changed = ~entries.signed & seen[entries.keys & np.uint64(SEEN)]
        if changed.any():
            later.append((entries.keys[changed], entries.sides[changed]))
    rows.close()
    near_keys, near_sides = np.frombuffer(keys, dtype=np.uint64), np.frombuffer(sides, dtype=np.uint8).copy()
    if later:
        order = np.argsort(near_keys)
        for changed_keys, changed_sides in later:
            at, hits = places_in(near_keys[order], changed_keys)
            near_sides[order[at[hits]]] = changed_sides[hits]
    return Indexed(
        own, own_sides, own_groups, np.searchsorted(own, rows.keys()),
        np.where(bonds > 0, np.searchsorted(own, bonds), -1),
        near_keys, near_sides, np.frombuffer(groups, dtype=np.uint64),
    )  # fmt: skip


@dataclass
class Decided:
    """Side and group of each row (UNKNOWN and 0 where it is left out), and what is new for the map."""

    sides: Codes
    groups: Keys
    near_duplicates: npt.NDArray[np.bool_]
    largest_group: int  # rows of the largest group, subject or split group
    entries: Iterator[Entries]  # to be read while the rows are open

    def spread(self, places: Places, count: int) -> Decided:
        """Return the same for `count` rows, of which these are at the given places; the others are left out."""
        sides, groups = np.full(count, UNKNOWN, dtype=np.uint8), np.zeros(count, dtype=np.uint64)
        near_duplicates = np.zeros(count, dtype=bool)
        sides[places], groups[places], near_duplicates[places] = self.sides, self.groups, self.near_duplicates
        return Decided(sides, groups, near_duplicates, self.largest_group, self.entries)


def decide_sides(
    rows: SimilarRows,
    indexed: Indexed,
    draws: tuple[Codes, Keys],
    near_duplicates: float,
    *,
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
    for later, pairs in groupby(rows.pairs(), key=itemgetter(1)):
        settling.settle_unlike(settled, later)
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
    settling.settle_unlike(settled, rows.rows)
    return settling.decided(left_out)


class _Settling:
    def __init__(self, rows: SimilarRows, indexed: Indexed, draws: tuple[Codes, Keys], wanted: Codes | None) -> None:
        self._rows, self._indexed, self._wanted = rows, indexed, wanted
        self._drawn_sides, self._drawn_groups = draws
        # By key of the rows, and changed with each row.
        self._sides, self._groups = indexed.own_sides, indexed.own_groups
        self._first = np.full(len(indexed.own), -1, dtype=np.int32)  # the first settled row of a new question
        self._changed = np.zeros(len(indexed.own), dtype=bool)  # what the map does not say so, and is no new question
        self._torn = np.zeros(rows.rows, dtype=bool)  # rows with a bond on another side than their question
        self._near_changed: list[int] = []  # of the map's rows, those that stepped between sides
        places, known = places_in(indexed.own, indexed.keys)
        self._near_own = np.where(known, places, -1)

    def settle_unlike(self, begin: int, end: int) -> None:
        """Decide the sides of rows that resemble no earlier one."""
        if end - begin < FEW or self._wanted is not None or self._indexed.bonds.size:
            for row in range(begin, end):
                self.settle(row, [])
            return
        questions, rows = np.unique(self._indexed.questions[begin:end], return_index=True)  # the first row of each
        new = self._sides[questions] == UNKNOWN
        questions, rows = questions[new], begin + rows[new]
        self._first[questions] = rows
        self._sides[questions], self._groups[questions] = self._drawn_sides[rows], self._drawn_groups[rows]

    def settle(self, row: int, near: list[tuple[int, float]]) -> None:
        """Decide the side of a row by those near it (row and similarity), which are settled."""
        question = int(self._indexed.questions[row])
        bonds = [bond for bond in self._indexed.bonds[row].tolist() if bond >= 0]
        known, group = int(self._sides[question]), int(self._groups[question])
        is_new = known == UNKNOWN
        if is_new:
            group = int(self._drawn_groups[row])
            self._first[question] = row
        wanted = None if self._wanted is None else int(self._wanted[row])
        if wanted == TRAIN:
            side = TRAIN
            self._changed[question] |= known not in {TRAIN, UNKNOWN}
        elif not is_new:
            side = known
        elif wanted is not None:
            resembles_trained = any(self._side(other) == TRAIN for other, _ in near)
            side = BETWEEN if wanted in JUDGING and resembles_trained else wanted
        else:
            side, group = self._joined_or_drawn(row, [other for other, _ in near], bonds)
        self._sides[question], self._groups[question] = side, group
        if bonds:
            self._bind(row, bonds, side, group, trained=wanted == TRAIN)
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

    def _joined_or_drawn(self, row: int, near: list[int], bonds: list[int]) -> tuple[int, int]:
        """Side and group of a row with a new question."""
        drawn = int(self._drawn_groups[row])
        groups = {self._side(other): self._group(other) for other in reversed(near) if self._side(other) != BETWEEN}
        groups = groups or {
            int(self._sides[bond]): int(self._groups[bond]) for bond in bonds if self._sides[bond] != UNKNOWN
        }
        if not groups:
            return int(self._drawn_sides[row]), drawn
        if len(groups) > 1:
            return BETWEEN, drawn
        (joined,) = groups.items()
        return joined

    def _bind(self, row: int, bonds: list[int], side: int, group: int, *, trained: bool) -> None:
        """Put the subject and split group of a row on its side, unless it is between sides."""
        held = {int(self._sides[bond]) for bond in bonds} - {UNKNOWN, side}
        self._torn[row] = bool(held) and not trained
        if side == BETWEEN or self._torn[row]:
            return
        for bond in bonds:
            if self._sides[bond] != side:
                self._sides[bond], self._groups[bond], self._changed[bond] = side, group, True

    def decided(self, left_out: npt.NDArray[np.bool_]) -> Decided:
        """Return what was decided; the rows that were left out were not settled."""
        questions, bonds = self._indexed.questions, self._indexed.bonds
        sides, groups = self._sides[questions], self._groups[questions]
        sides[self._torn] = BETWEEN
        sides[left_out], groups[left_out] = UNKNOWN, 0
        there = ~left_out
        largest = max(
            int(np.unique(ids[there & (ids != none)], return_counts=True)[1].max(initial=0))
            for ids, none in [(groups, 0), *((ids, -1) for ids in bonds.T)]
        )
        return Decided(sides, groups, left_out, largest, self._entries())

    def _entries(self) -> Iterator[Entries]:
        """The questions that the map does not have yet, in order, and what changed sides or got one; in parts."""
        firsts = np.sort(self._first[self._first >= 0])
        for begin in range(0, len(firsts), ENTRIES_AT_ONCE):
            part = firsts[begin : begin + ENTRIES_AT_ONCE].astype(np.int64)
            own = self._indexed.questions[part]
            signed = np.ones(len(part), dtype=bool)
            yield Entries(
                self._indexed.own[own], self._sides[own], self._groups[own], signed, self._rows.values_of(part)
            )
        changed = np.nonzero(self._changed)[0]
        for begin in range(0, len(changed), ENTRIES_AT_ONCE):
            own = changed[begin : begin + ENTRIES_AT_ONCE]
            yield _unsigned(self._indexed.own[own], self._sides[own], self._groups[own])
        if self._near_changed:
            index = self._indexed
            near = self._near_changed
            yield _unsigned(index.keys[near], index.sides[near], index.groups[near])

    def _side(self, row: int) -> int:
        own = self._own(row)
        return int(self._sides[own] if own >= 0 else self._indexed.sides[-1 - row])

    def _group(self, row: int) -> int:
        own = self._own(row)
        return int(self._groups[own] if own >= 0 else self._indexed.groups[-1 - row])

    def _own(self, row: int) -> int:
        """The place of a row's question among the keys of the rows; -1: none of them asks it."""
        return int(self._indexed.questions[row] if row >= 0 else self._near_own[-1 - row])

    def _step_between(self, row: int) -> None:
        own = self._own(row)
        if own < 0:
            self._indexed.sides[-1 - row] = BETWEEN
            self._near_changed.append(-1 - row)
        else:
            self._sides[own] = BETWEEN
            self._changed[own] |= self._first[own] < 0


def _unsigned(keys: Keys, sides: Codes, groups: Keys) -> Entries:
    return Entries(keys, sides, groups, np.zeros(len(keys), dtype=bool), np.empty((0, VALUES), np.uint8))


def resembling_trained(
    state: State, questions: Iterable[list[str]], folder: Path, trained: Iterable[Signatures] = ()
) -> npt.NDArray[np.bool_]:
    """Return which questions repeat or resemble one of the training side.

    :param trained: signatures of questions that are on it, without the text that only later ones showed to be shared.
    :raises BadInput: a segment is damaged.
    """
    rows = SimilarRows(folder / "similar", state.shared)
    try:
        for batch in questions:
            rows.add(batch, [""] * len(batch))
        for values in trained:
            rows.add_indexed(values)
        first = rows.indexed
        indexed = find_near(state, rows)
        found = indexed.own_sides[indexed.questions] == TRAIN
        for earlier, later, _, _ in rows.pairs():
            if earlier < 0 and (-1 - earlier < first or indexed.sides[-1 - earlier - first] == TRAIN):
                found[later] = True
        return np.asarray(found)
    finally:
        rows.release()
        shutil.rmtree(folder / "similar", ignore_errors=True)
