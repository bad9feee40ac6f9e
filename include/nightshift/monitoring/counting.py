"""Counts how often each number and each category occurs, batch by batch, over all rows and by segment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nightshift.monitoring.cells import Counts, Numbers, from_raw, raw_cells, tally
from nightshift.settings.metrics import Metric

ALL_ROWS = ""
OTHER = "(other)"
MOST_SEGMENTS = 50  # values of one column by which rows are looked at apart
_MOST_NAMES = 20_000  # categories of one metric that are told apart while batches are counted
_LONGEST_NAME = 200  # characters of a category or a segment's value; longer ones are cut
_FOLD = 4  # bits: segments hold numbers in cells sixteen times as wide, within 1/240 of the number
_WHAT = 20  # bits of a key that say which cell or category; those above say which segment
_HELD = 16  # batches whose counts are held before they are added up
_NAN = pa.array(np.array([np.nan], np.float32))[0]  # made so, because pa.scalar(nan) imports pandas


@dataclass(frozen=True)
class Categories:
    """Counts of one categorical column by category; `missing` rows had none."""

    counts: dict[str, int]
    missing: int = 0

    @property
    def rows(self) -> int:
        """Rows with a category."""
        return sum(self.counts.values())


@dataclass
class Segmentation:
    """The values of one column that are segments, numbered from 1 in the order in which they were admitted."""

    column: str  # prompt_language, or a key of the metadata
    numbered: dict[str, int] = field(default_factory=dict)

    def numbers(self, batch: pa.RecordBatch) -> NDArray[np.uint32]:
        """Return each row's number, 0 for rows of no segment; new values are admitted, the most frequent first."""
        values = (
            batch[self.column]
            if self.column == Metric.PROMPT_LANGUAGE
            else pc.map_lookup(batch["metadata"], pa.scalar(self.column), "first")
        )
        names, places = _dictionary(values)
        counts = np.bincount(places, minlength=len(names) + 1)[1:].tolist()
        for count, name in sorted(zip(counts, names, strict=True), key=lambda one: (-one[0], one[1])):
            if count and name not in self.numbered and len(self.numbered) < MOST_SEGMENTS:
                self.numbered[name] = len(self.numbered) + 1
        return np.array([0, *(self.numbered.get(name, 0) for name in names)], np.uint32)[places]

    def names(self) -> list[str]:
        """Names of the segments, `column=value`, by their numbers; the first stands for no segment."""
        return ["", *(f"{self.column}={value}" for value in self.numbered)]


class _Sums:
    """Counts by key, added up over batches."""

    def __init__(self) -> None:
        self._held: list[tuple[NDArray[np.int64], Counts]] = []

    def add(self, keys: NDArray[np.int64], counts: Counts) -> None:
        """Add the counts of one batch."""
        self._held.append((keys, counts))
        if len(self._held) == _HELD:
            self._held = [self._total()]

    def by_segment(self) -> Iterator[tuple[int, NDArray[np.int64], Counts]]:
        """Yield each segment's number, the cells or categories that occur in it, ascending, and their counts."""
        keys, counts = self._total()
        numbers = keys >> _WHAT
        edges = np.flatnonzero(np.diff(numbers, prepend=-1, append=-1)).tolist()
        for start, end in pairwise(edges):
            yield int(numbers[start]), keys[start:end] & ((1 << _WHAT) - 1), counts[start:end]

    def _total(self) -> tuple[NDArray[np.int64], Counts]:
        if not self._held:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return tally(np.concatenate([keys for keys, _ in self._held]), np.concatenate([n for _, n in self._held]))


class NumberCounter:
    """Counts a numeric column; segments in wider cells."""

    def __init__(self, segmentations: Sequence[Segmentation]) -> None:
        self._segmentations = segmentations
        self._all = _Sums()
        self._apart = [_Sums() for _ in segmentations]

    def add(self, column: pa.Array, numbers: Sequence[NDArray[np.uint32]]) -> None:
        """Count one batch; `numbers` are each row's segments, by segmentation."""
        if not len(column):
            return
        raw = raw_cells(_float32(column))
        found, counts = tally(raw)
        self._all.add(found, counts)
        half = 1 << (_FOLD - 1)
        first, last = (int(found[0]) + half) >> _FOLD, (int(found[-1]) + half) >> _FOLD
        width = last - first + 1
        for sums, rows in zip(self._apart, numbers, strict=True):
            # In place, and no wider than what occurs: these lines are a third of the time of a profile.
            keys = raw + np.uint32(half)
            keys >>= np.uint32(_FOLD)
            keys += rows * np.uint32(width) - np.uint32(first)
            found, counts = tally(keys)
            segment, cell = np.divmod(found, width)
            sums.add((segment << _WHAT) + ((cell + first) << _FOLD), counts)

    def distributions(self) -> Iterator[tuple[str, Numbers]]:
        """Yield the histogram of all rows, and those of the segments."""
        for _, raw, counts in self._all.by_segment():
            yield ALL_ROWS, from_raw(raw, counts)
        for segmentation, sums in zip(self._segmentations, self._apart, strict=True):
            names = segmentation.names()
            yield from ((names[number], from_raw(raw, counts)) for number, raw, counts in sums.by_segment() if number)


class CategoryCounter:
    """Counts a categorical column; of more than 20,000 categories, the later ones count as OTHER."""

    def __init__(self, segmentations: Sequence[Segmentation]) -> None:
        self._segmentations = segmentations
        self._all = _Sums()
        self._apart = [_Sums() for _ in segmentations]
        self._numbered = {OTHER: 1}

    def add(self, column: pa.Array, numbers: Sequence[NDArray[np.uint32]]) -> None:
        """Count one batch; `numbers` are each row's segments, by segmentation."""
        names, places = _dictionary(column)
        for name in names:
            if name not in self._numbered and len(self._numbered) <= _MOST_NAMES:
                self._numbered[name] = len(self._numbered) + 1
        meaning = np.array([0, *(self._numbered.get(name, 1) for name in names)], np.int64)
        found, counts = tally(places)
        self._all.add(meaning[found], counts)
        width = len(names) + 1
        for sums, rows in zip(self._apart, numbers, strict=True):
            found, counts = tally(rows * np.int64(width) + places)
            segment, place = np.divmod(found, width)
            sums.add((segment << _WHAT) + meaning[place], counts)

    def distributions(self) -> Iterator[tuple[str, Categories]]:
        """Yield the counts of all rows, and those of the segments."""
        for _, places, counts in self._all.by_segment():
            yield ALL_ROWS, self._named(places, counts)
        for segmentation, sums in zip(self._segmentations, self._apart, strict=True):
            names = segmentation.names()
            yield from ((names[number], self._named(*one)) for number, *one in sums.by_segment() if number)

    def _named(self, places: NDArray[np.int64], counts: Counts) -> Categories:
        names = ["", *self._numbered]
        named: Counter[str] = Counter()
        missing = 0
        for place, count in zip(places.tolist(), counts.tolist(), strict=True):
            if place:
                named[names[place]] += count
            else:
                missing = count
        return Categories(dict(named), missing)


def _float32(column: pa.Array) -> NDArray[np.float32]:
    """Return a numeric column as float32, nulls as NaN; one that is float32 and has none is not copied."""
    if column.type != pa.float32():
        column = pc.cast(column, pa.float32(), safe=False)
    if column.null_count:
        column = pc.fill_null(column, _NAN)
    return column.to_numpy(zero_copy_only=False)


def _dictionary(column: pa.Array) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names in a column of strings, and each row's place among them, from 1; 0 for null."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    names = [name[:_LONGEST_NAME] for name in encoded.dictionary.to_pylist()]
    indices = encoded.indices
    if indices.null_count:
        indices = pc.fill_null(indices, -1)
    return names, indices.to_numpy().astype(np.int64) + 1
