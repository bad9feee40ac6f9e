"""Raw rows of a file in pieces that whoever has time can parse: cut off in order, which is the smaller part of the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from nightshift.data.quarantine import Quarantined, RawRows, Row

PIECE_ROWS, PIECE_BYTES = 1_000, 2_000_000

Item = TypeVar("Item")


class Piece(Protocol):
    """Rows that follow each other. It can be pickled for another process."""

    def __len__(self) -> int: ...

    def rows(self) -> RawRows:
        """Yield the rows; a blank line is none.

        :raises BadInput: the file as a whole cannot be used.
        """


class Rows(list[Row | Quarantined]):
    """Rows that are parsed already, because nothing else tells where one ends."""

    def rows(self) -> RawRows:
        """Yield them."""
        return iter(self)


def in_pieces(items: Iterable[Item], size: Callable[[Item], int] = lambda _item: 0) -> Iterator[list[Item]]:
    """Yield lists of items, each of a bounded number and size (bytes); the same items always make the same lists."""
    piece: list[Item] = []
    held = 0
    for item in items:
        piece.append(item)
        held += size(item)
        if len(piece) == PIECE_ROWS or held >= PIECE_BYTES:
            yield piece
            piece, held = [], 0
    if piece:
        yield piece
