"""The questions of an interval's rows, on disk until all are there, and their way into the split map."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.data.dedup import KEPT, NEAR_DUPLICATE
from nightshift.data.examples import side_of
from nightshift.data.shared_text import Sample, found_in
from nightshift.data.sides import Codes, Decided, decide_sides, find_near
from nightshift.data.similarity import Keys, SimilarRows, key_of
from nightshift.data.split_map import NAMES, SplitMap
from nightshift.settings.intake import Splits
from nightshift.settings.interval import Interval

# The side and the group (64 bits) that a hash of the conversation's digest draws.
SCHEMA = pa.schema(
    [
        ("question", pa.string()),
        ("key", pa.uint64()),
        ("answer", pa.string()),
        ("side", pa.uint8()),
        ("group", pa.uint64()),
    ]
)


Bonds = tuple[str | None, str | None]  # subject and split group of a row, as examples have them


def bond_keys(bonds: Sequence[Bonds]) -> list[int]:
    """Return the keys of bonds in the split map, two for each row (0: none); an empty list where no row has any."""
    if not any(map(any, bonds)):
        return []
    # No question has a zero byte.
    kinds = ("subject", "split_group")
    return [key_of(f"\0{kind}\0{of}") if of else 0 for row in bonds for kind, of in zip(kinds, row, strict=True)]


class Questions:
    """A file of questions with their answers, and what each row draws; its bonds, if any, are in memory (16 bytes)."""

    def __init__(self, path: Path, splits: Splits) -> None:
        self._path, self._splits = path, splits
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="lz4", use_dictionary=False)
        self._sample = Sample()
        self._wanted = array("B")
        self._bonds = array("Q")  # two a row, as far as a row had one

    def add(
        self,
        digests: list[str],
        questions: list[str],
        answers: list[str],
        bonds: Sequence[Bonds] = (),
        wanted: int = 0,
    ) -> None:
        """Add rows: digests of their conversations, questions (`similarity.question_of`), last answers and bonds.

        :param wanted: the side that all of them are on already, where they are.
        """
        sides = [NAMES.index(side_of(digest, self._splits)) for digest in digests]
        groups = [int(digest[:16], 16) for digest in digests]
        of_questions = array("Q", map(key_of, questions))
        self._writer.write_table(pa.table([questions, np.asarray(of_questions), answers, sides, groups], schema=SCHEMA))
        if keys := bond_keys(bonds):
            self._bonds.frombytes(bytes(16 * len(self._wanted) - 8 * len(self._bonds)))
            self._bonds.extend(keys)
        self._wanted.extend([wanted] * len(digests))
        for key, question in zip(of_questions, questions, strict=True):
            self._sample.add(key, question)

    def close(self) -> None:
        """Finish the file; no row can be added after that."""
        self._writer.close()

    def settle(
        self,
        split_map: SplitMap,
        made_by: Sequence[str],
        fates: Codes,
        near_duplicates: float,
        *,
        work: Path,
        interval: Interval | None = None,
        already: bool = False,
    ) -> Decided:
        """Decide the sides of the rows that `fates` keeps, and add what is new to the map; mark near-duplicates in `fates`.

        Where the map has a segment of the same inputs, the decision is the one of then.

        :param made_by: digests of the inputs that the rows are made from.
        :param already: the rows are on the sides that they were added with.
        :raises BadInput: a segment of the map is damaged.
        """
        found = found_in(self._sample.texts)
        kept = np.nonzero(fates == KEPT)[0]
        wanted = np.frombuffer(self._wanted, dtype=np.uint8)[kept] if already else None
        bonds = None
        if self._bonds:
            bonds = np.zeros((len(fates), 2), dtype=np.uint64)
            bonds.ravel()[: len(self._bonds)] = np.frombuffer(self._bonds, dtype=np.uint64)
            bonds = bonds[kept]
        while True:
            state = split_map.state()
            own = state.made_by.get(made_by[0])
            if own:
                state, shared = split_map.state(before=own), split_map.shared_up_to(own)
            else:
                shared = state.shared.plus(found)
            rows = SimilarRows(work / "similar", shared)
            try:
                self._sign(rows, fates == KEPT)
                indexed = find_near(state, rows, bonds)
                decided = decide_sides(rows, indexed, self._draws(kept), near_duplicates, wanted=wanted)
                new = shared.minus(state.shared)
                added = own or split_map.add(state, made_by, decided.entries, new, interval)
            finally:
                rows.release()
                shutil.rmtree(work / "similar")
            if added:
                decided = decided.spread(kept, len(fates))
                fates[decided.near_duplicates] = NEAR_DUPLICATE
                return decided

    def _draws(self, kept: npt.NDArray[np.int64]) -> tuple[Codes, Keys]:
        """The side and group that each row draws which is kept."""
        sides, groups = np.empty(len(self._wanted), np.uint8), np.empty(len(self._wanted), np.uint64)
        begin = 0
        with pq.ParquetFile(self._path, pre_buffer=False) as file:
            for number in range(file.num_row_groups):
                drawn = file.read_row_group(number, columns=["side", "group"])
                end = begin + drawn.num_rows
                sides[begin:end], groups[begin:end] = drawn["side"], drawn["group"]
                begin = end
        return (sides, groups) if len(kept) == begin else (sides[kept], groups[kept])

    def _sign(self, rows: SimilarRows, kept: npt.NDArray[np.bool_]) -> None:
        begin = 0
        with pq.ParquetFile(self._path, pre_buffer=False) as file:
            for number in range(file.num_row_groups):
                group = file.read_row_group(number, columns=["question", "key", "answer"])
                chosen = group.filter(pa.array(kept[begin : begin + group.num_rows]))
                begin += group.num_rows
                if chosen.num_rows:
                    rows.add(chosen["question"].to_pylist(), chosen["answer"].to_pylist(), chosen["key"].to_numpy())
