"""Which rows that share a band are compared, as pairs in one number each."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

NEIGHBOURS = 3
ROW_BITS, LOWEST_ROW = 32, 1 << 31  # a row as an unsigned number: more than an interval or what is near it has
Number = TypeVar("Number", np.int64, np.uint64)


def compared(
    rows: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64], finer: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    """Return the pairs of rows of bands that are compared, sorted, each in one number: the later row above `ROW_BITS`.

    Each row is compared with the first row of its band and with its neighbours in the finer order.
    """
    order = np.argsort(keys)
    in_order = keys[order]
    alike = in_order[1:] == in_order[:-1]
    shared = np.zeros(len(keys), dtype=bool)
    shared[1:] = alike
    shared[:-1] |= alike
    order = order[shared]
    order = order[np.lexsort((rows[order], finer[order], keys[order]))]
    rows, keys = rows[order], keys[order]
    if not len(rows):
        return np.empty(0, dtype=np.int64)
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    found = [_pairs_of(np.repeat(np.minimum.reduceat(rows, starts), np.diff(np.append(starts, len(rows)))), rows)]
    for distance in range(1, min(NEIGHBOURS, len(rows) - 1) + 1):
        same = keys[distance:] == keys[:-distance]
        found.append(_pairs_of(rows[:-distance][same], rows[distance:][same]))
    return sorted_once(np.concatenate(found))


def _pairs_of(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Two different rows, of which one at least is none of the index, in one number."""
    later = np.maximum(one, other)
    kept = (one != other) & (later >= 0)
    return np.asarray((later[kept] << ROW_BITS) + np.minimum(one, other)[kept] + LOWEST_ROW)


def sorted_once(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Return values sorted, each once; for millions of different ones `np.unique` takes forty times as long."""
    values = np.sort(values)
    first = np.ones(len(values), dtype=bool)
    first[1:] = values[1:] != values[:-1]
    return values[first]
