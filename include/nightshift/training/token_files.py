"""Tokenized examples in files: written as a stream, mapped into memory by whoever trains on them.

A part is a folder of two arrays. `tokens.npy` has the ids of all its examples, one after the other, four bytes each; the
highest bit of a token says that it is learned. `lengths.npy` has a row for each example: its tokens, and how many of them are
the last answer. Of judged answers, which have two examples each, `desirable.npy` says of each whether it was a good one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from nightshift.settings.fields import Model
from nightshift.training.tokens import TokenizedExample

Tokens = npt.NDArray[np.uint32]

TOKENS, LENGTHS, DESIRABLE = "tokens.npy", "lengths.npy", "desirable.npy"
LEARNED = np.uint32(1 << 31)  # no vocabulary has two thousand million tokens


class TokenFiles(Model):
    """The tokens of a snapshot on this machine.

    :param train: the folders of the parts, in order.
    :param prefix: token ids that all examples begin with.
    """

    train: list[Path]
    held_out: list[Path]
    prefix: list[int]


def as_tokens(example: TokenizedExample) -> Tokens:
    """Return the ids of an example; the highest bit is set where a token is learned."""
    tokens = np.array(example.ids, dtype="<u4")
    for begin, end in example.learned:
        tokens[begin:end] |= LEARNED
    return tokens


def common_prefix(examples: Iterable[Tokens]) -> Tokens:
    """Return the tokens that all examples, or the prefixes of several sets of them, begin with.

    At least one token before the first learned one stays outside, because that one is predicted from it.
    """
    shared: Tokens | None = None
    for example in examples:
        start = example if shared is None else example[: len(shared) + 1]
        learned = np.flatnonzero(start >= LEARNED)[:1]
        given = start[: max(0, learned[0] - 1)] if len(learned) else start
        shared = given if shared is None else shared
        size = min(len(given), len(shared))
        unlike = np.flatnonzero(given[:size] != shared[:size])[:1]
        shared = shared[: unlike[0] if len(unlike) else size]
    return np.empty(0, dtype="<u4") if shared is None else shared


def write_part(folder: Path, examples: Iterable[Tokens]) -> Tokens:
    """Write examples as a part into a folder, one at a time; return their common prefix."""
    lengths: list[tuple[int, int]] = []
    with (folder / TOKENS).open("wb") as file:
        size = _write_header(file, 0)

        def written() -> Iterable[Tokens]:
            for example in examples:
                file.write(example.tobytes())
                given = np.flatnonzero(example < LEARNED)
                lengths.append((len(example), len(example) - int(given[-1]) - 1))
                yield example

        prefix = common_prefix(written())
        file.seek(0)
        # The format leaves room for any length, so that an array may grow.
        assert _write_header(file, sum(length for length, _ in lengths)) == size  # noqa: S101
    np.save(folder / LENGTHS, np.array(lengths, dtype="<u4"))
    return prefix


def _write_header(file: BinaryIO, length: int) -> int:
    np.lib.format.write_array_header_1_0(file, {"descr": "<u4", "fortran_order": False, "shape": (length,)})
    return file.tell()


class Examples:
    """The examples of some parts, in order, mapped into memory: what nobody reads lies on the disk alone.

    A process holds sixteen bytes an example. The arrays `lengths` and `answers` have the tokens of each, and of its last answer.

    :param parts: folders that :func:`write_part` wrote into.
    """

    def __init__(self, parts: Sequence[Path]) -> None:
        self._parts = parts
        self._tokens = [np.load(part / TOKENS, mmap_mode="r", allow_pickle=False) for part in parts]
        lengths = [np.load(part / LENGTHS, allow_pickle=False) for part in parts]
        self.lengths, self.answers = np.concatenate(lengths).T.copy()
        self._ends = np.concatenate([part[:, 0].cumsum(dtype=np.int64) for part in lengths])
        self._firsts = np.cumsum([0, *map(len, lengths[:-1])])

    @cached_property
    def desirable(self) -> npt.NDArray[np.bool_]:
        """Which judged answers were good ones."""
        return np.concatenate([np.load(part / DESIRABLE, allow_pickle=False) for part in self._parts])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> Tokens:
        """Return the tokens of an example; the highest bit is set where one is learned."""
        end = self._ends[number]
        part = int(np.searchsorted(self._firsts, number, side="right")) - 1
        return self._tokens[part][end - self.lengths[number] : end]
