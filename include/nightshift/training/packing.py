"""Packing whole examples into rows without padding, so that no example sees another.

What all prompts begin with (the system message, the template's first tokens) stands once at the start of each row: a
causal model's states there depend on nothing that follows. The attention mask lets a token see this prefix and its own
example only.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nightshift.training.tokens import TokenizedExample

if TYPE_CHECKING:
    import torch

NOT_LEARNED = -100
PADDING, PREFIX = 0, -1  # in `document`, beside the numbers of the examples


@dataclass
class Packed:
    """Rows of packed examples.

    :param prefix: token ids that every example begins with; they are the first of each row.
    :param rows: the examples of each row, in order; an empty row is only padding.
    :param length: tokens of a row after the prefix.
    :param too_long: examples left out because they do not fit in one row.
    """

    prefix: list[int]
    rows: list[list[TokenizedExample]]
    length: int
    too_long: int = 0

    def tokens(self, row: int) -> int:
        """Tokens of the examples in a row, each with its whole prompt: what training them one by one would read."""
        return sum(len(example) for example in self.rows[row])

    @property
    def fill(self) -> float:
        """Share of the rows' places that hold a token."""
        used = sum(len(example) - len(self.prefix) for row in self.rows for example in row)
        return used / max(1, len(self.rows) * self.length)


@dataclass
class _Free:
    """Rows by free places, smallest first."""

    places: list[tuple[int, int]] = field(default_factory=list)

    def best(self, size: int) -> int | None:
        at = bisect_left(self.places, (size, -1))
        return self.places.pop(at)[1] if at < len(self.places) else None


def common_prefix(examples: Sequence[TokenizedExample]) -> list[int]:
    """Return the token ids that all prompts begin with.

    At least one prompt token stays outside, because the first token of an answer is predicted from it.
    """
    if not examples:
        return []
    low = min(example.prompt for example in examples)
    high = max(example.prompt for example in examples)
    shared = next((at for at, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    shared = min(shared, min(len(example.prompt) for example in examples) - 1)
    return low[:shared]


def pack(examples: Sequence[TokenizedExample], prefix: list[int], length: int) -> Packed:
    """Pack examples that all begin with `prefix` into rows of `length` more tokens: longest first, into the fullest fit.

    An example is never cut, because a prompt without its beginning is another task: what does not fit is left out
    and counted.
    """
    packed = Packed(prefix, [], length)
    free = _Free()
    used: list[int] = []
    for example in sorted(examples, key=len, reverse=True):
        size = len(example) - len(prefix)
        if size > length:
            packed.too_long += 1
            continue
        row = free.best(size)
        if row is None:
            row = len(packed.rows)
            packed.rows.append([])
            used.append(0)
        packed.rows[row].append(example)
        used[row] += size
        insort(free.places, (length - used[row], row))
    return packed


def collate(
    rows: Sequence[Sequence[TokenizedExample]], prefix: list[int], length: int, pad: int
) -> dict[str, torch.Tensor]:
    """Return the tensors of a batch of B rows, each of a prefix of P and L = `length` more tokens.

    `input_ids`, `position_ids`, `labels`, `document` (the number of the example in its row from 1, `PREFIX` or
    `PADDING`), `scored` (true where the *next* token is learned); all of them are B x (P + L).
    """
    import torch

    start = len(prefix)
    shape = len(rows), start + length
    input_ids, labels = torch.full(shape, pad), torch.full(shape, NOT_LEARNED)
    position_ids, document = torch.zeros(shape, dtype=torch.long), torch.full(shape, PADDING)
    input_ids[:, :start] = torch.tensor(prefix, dtype=torch.long)
    position_ids[:, :start] = torch.arange(start)
    document[:, :start] = PREFIX
    for row, examples in enumerate(rows):
        at = start
        for number, example in enumerate(examples, 1):
            ids = [*example.prompt[start:], *example.answer]
            end = at + len(ids)
            input_ids[row, at:end] = torch.tensor(ids)
            labels[row, end - len(example.answer) : end] = torch.tensor(example.answer)
            position_ids[row, at:end] = torch.arange(start, start + len(ids))
            document[row, at:end] = number
            at = end
    # The first token of an example belongs to its prompt, so the shift never reaches into the next example.
    scored = torch.nn.functional.pad(labels[:, 1:] != NOT_LEARNED, (0, 1))
    return {
        "input_ids": input_ids,
        "position_ids": position_ids,
        "labels": labels,
        "document": document,
        "scored": scored,
    }
