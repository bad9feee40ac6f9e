"""Packing whole examples into rows, so that no example sees another.

For short rows, what all prompts begin with (the system message, the template's first tokens) stands once at the start of
each: a causal model's states there depend on nothing that follows. The attention mask lets a token see this prefix and
its own example only. For long rows each example has its whole prompt, and nothing else is in a row.
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
    """Examples in rows of `length` tokens.

    :param prefix: token ids that all examples begin with.
    :param shared: whether it stands once in each row, before the `length` tokens, or in every example.
    """

    examples: Examples
    packing: Packing
    prefix: list[int]
    length: int
    shared: bool = True

    @classmethod
    def of(cls, examples: Examples, prefix: list[int], training: Training, *, shared: bool = True) -> Packed:
        """Pack examples as a training asks for: one that is too long is left out, or cut when it is read.

        The last answer is never cut, and at least one token of what is given stays before it. Examples 2n and
        2n+1 of preference pairs (chosen and rejected) and judged answers (that, and an unrelated one) share a row, one behind the
        other.
        """
        outside, inside = (len(prefix), 0) if shared else (0, len(prefix))
        sizes, length = examples.lengths - np.uint32(outside), training.sequence_length
        if training.together == 2:
            packed = pack(sizes.reshape(-1, 2).sum(axis=1), length)
            both = (2 * packed.examples[:, None] + np.arange(2)).ravel()
            return cls(examples, Packing(both, 2 * packed.starts, packed.too_long), prefix, length, shared)
        if training.too_long == "cut":
            sizes = np.where(examples.answers + np.uint32(inside) < length, np.minimum(sizes, length), sizes)
        return cls(examples, pack(sizes, length), prefix, length, shared)

    def __len__(self) -> int:
        return len(self.packing)

    @property
    def longest(self) -> int:
        """The most tokens that one example can have in a row, with its whole prompt."""
        return self.length + (len(self.prefix) if self.shared else 0)

    @property
    def tokens(self) -> npt.NDArray[np.int64]:
        """Tokens of each row's examples, each with its whole prompt: what training them one by one would read."""
        return np.add.reduceat(self._read_lengths, self.packing.starts[:-1], dtype=np.int64)

    @property
    def squares(self) -> npt.NDArray[np.int64]:
        """The squares of the lengths of each row's examples, added up: what attention has to do grows with it."""
        return np.add.reduceat(self._read_lengths.astype(np.int64) ** 2, self.packing.starts[:-1])

    @property
    def _read_lengths(self) -> npt.NDArray[np.uint32]:
        return np.minimum(self.examples.lengths[self.packing.examples], np.uint32(self.longest))

    def batch(self, rows: Iterable[int], pad: int) -> dict[str, torch.Tensor]:
        """Return the tensors of some rows, by number, as :func:`collate` does; row -1 is empty and only fills a batch."""
        examples = [[self.examples[number] for number in self.packing.row(row)] for row in rows]
        return collate(examples, self.prefix, self.length, pad)

    def in_line(self, rows: Iterable[int], pad: int) -> dict[str, Any]:
        """Return the tensors of some rows, by number, as :func:`in_line` does."""
        examples = [self.examples[number] for row in rows for number in self.packing.row(row)]
        return in_line([self._cut(example) for example in examples], pad)

    def _cut(self, example: Tokens) -> Tokens:
        """An example without what does not fit: the oldest tokens behind the prefix."""
        if len(example) <= self.longest:
            return example
        kept, rest = example[: len(self.prefix)], example[len(self.prefix) - self.longest :].copy()
        rest[0] &= ~LEARNED  # what it followed is gone
        return np.concatenate([kept, rest])


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


def in_line(examples: Sequence[Tokens], pad: int) -> dict[str, Any]:
    """Return the tensors of some examples, one after the other: of T tokens in all, or of one `pad` where there are none.

    `input_ids`, `position_ids`, `labels`, `targets` (the next token where it is learned), all of them 1 x T; `starts`
    (where each example begins, and T), and `longest` (tokens, a number).
    """
    import torch

    lines = examples or [np.array([pad], dtype=np.uint32)]
    tokens, lengths = np.concatenate(lines), np.array([len(line) for line in lines])
    starts = np.concatenate([[0], lengths.cumsum()])
    ids = (tokens & ~LEARNED).astype(np.int64)
    labels = np.where(tokens >= LEARNED, ids, NOT_LEARNED)
    labels[starts[:-1]] = NOT_LEARNED  # they follow another example
    arrays = {
        "input_ids": ids,
        "position_ids": np.arange(len(ids)) - np.repeat(starts[:-1], lengths),
        "labels": labels,
        "targets": np.append(labels[1:], NOT_LEARNED),
    }
    tensors: dict[str, Any] = {name: torch.from_numpy(array)[None] for name, array in arrays.items()}
    return {**tensors, "starts": torch.from_numpy(starts.astype(np.int32)), "longest": int(lengths.max())}
