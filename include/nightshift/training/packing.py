"""Packing whole examples into rows without padding, so that no example sees another.

What all prompts begin with (the system message, the template's first tokens) stands once at the start of each row: a
causal model's states there depend on nothing that follows. The attention mask lets a token see this prefix and its own
example only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nightshift.settings.training import Training
from nightshift.training.token_files import LEARNED, Examples, Tokens

if TYPE_CHECKING:
    import torch

NOT_LEARNED = -100
PADDING, PREFIX = 0, -1  # in `document`, beside the numbers of the examples


@dataclass(frozen=True)
class Packing:
    """Which examples make up each row.

    :param examples: numbers of the examples, row after row.
    :param starts: where each row begins among them, and at last their number.
    :param too_long: examples that do not fit in one row.
    """

    examples: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    too_long: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def row(self, number: int) -> npt.NDArray[np.int64]:
        """Return the numbers of the examples in a row, in order; those of row -1, which only fills a batch, are none."""
        return self.examples[self.starts[number] : self.starts[number + 1]] if number >= 0 else self.examples[:0]


def pack(sizes: npt.NDArray[Any], length: int) -> Packing:
    """Pack examples of so many tokens into rows of `length`: longest first, each into the row that it fills best.

    Of rows that are equally full the first one is taken. What is longer than a row is left out and counted. Time grows
    with n log n.
    """
    order = np.argsort(-sizes.astype(np.int64), kind="stable")
    order = order[np.searchsorted(-sizes[order].astype(np.int64), -length) :]
    row_of = np.empty(len(order), dtype=np.int64)
    free: defaultdict[int, list[int]] = defaultdict(list)  # rows by free places; of each number of places a heap
    some, rows, at = 0, 0, 0  # of `some` the bit n says that some row has n free places
    for size, count in zip(*_runs(sizes[order]), strict=True):
        end = at + count
        while at < end:
            fitting = some >> size
            if fitting:
                places = size + (fitting & -fitting).bit_length() - 1
                row = heappop(free[places])
                if not free[places]:
                    some ^= 1 << places
            else:
                row, places = rows, length
                rows += 1
            # The row that was the best is now even better for the next example of this size.
            taken = min(end - at, places // size)
            row_of[at : at + taken] = row
            at += taken
            left = places - taken * size
            if left:
                heappush(free[left], row)
                some |= 1 << left
    starts = np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=rows))])
    return Packing(order[np.argsort(row_of, kind="stable")], starts, len(sizes) - len(order))


def _runs(ordered: npt.NDArray[Any]) -> tuple[list[int], list[int]]:
    """The values of an array whose equal values follow each other, and how often each is there."""
    firsts = np.flatnonzero(np.diff(ordered, prepend=-1))
    return ordered[firsts].tolist(), np.diff(firsts, append=len(ordered)).tolist()


@dataclass(frozen=True)
class Packed:
    """Examples in rows: each row begins with the `prefix` of all examples, and has room for `length` more tokens."""

    examples: Examples
    packing: Packing
    prefix: list[int]
    length: int

    @classmethod
    def of(cls, examples: Examples, prefix: list[int], training: Training) -> Packed:
        """Pack examples as a training asks for: one that is too long is left out, or cut when it is read.

        The last answer is never cut, and at least one token of what is given stays before it.
        """
        sizes, length = examples.lengths - np.uint32(len(prefix)), training.sequence_length
        if training.too_long == "cut":
            sizes = np.where(examples.answers < length, np.minimum(sizes, length), sizes)
        return cls(examples, pack(sizes, length), prefix, length)

    def __len__(self) -> int:
        return len(self.packing)

    @property
    def tokens(self) -> npt.NDArray[np.int64]:
        """Tokens of each row's examples, each with its whole prompt: what training them one by one would read."""
        read = np.minimum(self.examples.lengths[self.packing.examples], len(self.prefix) + self.length)
        return np.add.reduceat(read, self.packing.starts[:-1], dtype=np.int64)

    def batch(self, rows: Iterable[int], pad: int) -> dict[str, torch.Tensor]:
        """Return the tensors of some rows, by number, as :func:`collate` does; row -1 is empty and only fills a batch."""
        examples = [[self.examples[number] for number in self.packing.row(row)] for row in rows]
        return collate(examples, self.prefix, self.length, pad)


def collate(rows: Sequence[Sequence[Tokens]], prefix: Sequence[int], length: int, pad: int) -> dict[str, torch.Tensor]:
    """Return the tensors of a batch of B rows of examples, each of a prefix of P and L = `length` more tokens.

    An example that is longer than a row lacks the oldest tokens behind the prefix.
    `input_ids`, `position_ids`, `labels`, `document` (the number of the example in its row from 1, `PREFIX` or
    `PADDING`), `scored` (true where the *next* token is learned); all of them are B x (P + L).
    """
    import torch

    start = len(prefix)
    shape = len(rows), start + length
    input_ids, labels = np.full(shape, pad), np.full(shape, NOT_LEARNED)
    position_ids, document = np.zeros(shape, dtype=np.int64), np.full(shape, PADDING)
    input_ids[:, :start] = prefix
    position_ids[:, :start] = np.arange(start)
    document[:, :start] = PREFIX
    for row, examples in enumerate(rows):
        at = start
        for number, example in enumerate(examples, 1):
            tokens = example[max(start, len(example) - length) :]
            end = at + len(tokens)
            input_ids[row, at:end] = ids = tokens & ~LEARNED
            # Never the first one, which follows another example, or what is gone.
            labels[row, at + 1 : end] = np.where(tokens >= LEARNED, ids.astype(np.int64), NOT_LEARNED)[1:]
            position_ids[row, at:end] = np.arange(start, start + len(tokens))
            document[row, at:end] = number
            at = end
    scored = np.pad(labels[:, 1:] != NOT_LEARNED, ((0, 0), (0, 1)))
    arrays = {
        "input_ids": input_ids,
        "position_ids": position_ids,
        "labels": labels,
        "document": document,
        "scored": scored,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
