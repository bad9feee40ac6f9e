"""Similarity of questions: MinHash signatures and LSH bands of any number of rows, on disk.

A question is what a conversation asks: every text in front of the last answer, in lower case, white space collapsed,
without the text that it shares with many others (`shared_text`). Two are similar when their signatures agree: the share
of equal values estimates the Jaccard similarity of their sets of character 5-grams. A signature has 125 values of one
byte (b-bit MinHash, Li and König 2010); chance makes one value in 256 equal. Its 25 bands of 5 values are cut from it.

Of pairs with a Jaccard similarity of 0.8, 0.99995 share a band (1 - (1 - 0.8^5)^25) and 0.99995 of these are estimated
at SIMILAR or more (binomial). Only rows that share a band are compared, and of those each with four others: the first
row of the band, and its three neighbours in a finer order. So the work grows with the rows, not with their square. A band
that more than four rows share is searched incompletely; what is alike shares eight bands of 25, each in another order.
"""

from __future__ import annotations

import hashlib
import os
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, pairwise, product
from pathlib import Path
from struct import Struct
from typing import Any, BinaryIO

import duckdb
import numpy as np
import numpy.typing as npt
from rensa import RMinHash

from nightshift.data.processors import processors
from nightshift.data.shared_text import SharedText, in_cache
from nightshift.data.similar_pairs import LOWEST_ROW, ROW_BITS, compared, sorted_once
from nightshift.data.words import folded

SHINGLE = 5  # characters
VALUES = 125  # bytes of a signature
BAND = 5  # values
BANDS = VALUES // BAND
SEED = 7
PACK = Struct(f"={VALUES}I").pack
SIMILAR = 0.65  # rows estimated at least this similar belong on one side
# In a long text a whole question can be exchanged, and 0.95 is still alike. So many 5-grams may be in one of two texts only:
# an exchanged word makes about 18, two added ones 12. Similar by 0.85, two texts of 150 characters differ in 24.
DIFFERING, SHORT_PAIR = 24, 300
KEYS_AT_ONCE = 2_000_000  # of bands that are grouped together, some 100 bytes each
PAIRS_AT_ONCE = 50_000
RECORD = VALUES + 8  # bytes of a row's signature, with what tells equal answers
RECORDS_AT_ONCE = 1 << 13
CLOSE = 16  # reading past so many records for each one that is wanted takes no longer than a read of its own
PAIRS_IN_ORDER = 2_000_000  # that are put in order together
MEMORY_LIMIT = "256MB"
MOST_THREADS = 4
# Of the table that rules out bands of an index that no new row has, 64 MB: of 25 bands of a row it lets 0.01 through that none
# has beside 10,000 new rows, 0.1 beside 100,000, 1.1 beside a million.
FILTER_BITS = 29

FILES = ("signatures", "index", "texts", "ends", "keys")  # of rows; nothing of them stays in memory
NOT_ASKED = {"system", "tool"}
# Of an index, what is let through of a band: its key and that of the next band, as the finer order.
INDEX_BAND = np.dtype([("row", np.int64), ("key", np.uint64), ("finer", np.uint64)])
BANDS_READ_AT_ONCE = 200_000
Signatures = npt.NDArray[np.uint8]
Keys = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]


def question_of(messages: Sequence[dict[str, Any]]) -> str:
    """Return what a conversation asks: every text in front of the last answer, one line, lower case.

    A system message is no part of it: many rows share a long one, and would seem to ask the same. Nor is what tools answered:
    the same was asked, whatever they found.
    """
    turns = messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages
    return plain(" ".join([str(turn["content"]) for turn in turns if turn["role"] not in NOT_ASKED]))


def plain(text: str) -> str:
    """Return a text as questions are compared: lower case, white space collapsed; a space where nothing is left."""
    text = text.casefold()
    # What can be printed has no white space but spaces.
    return (text.strip() if text.isprintable() and "  " not in text else " ".join(text.split())) or " "


def key_of(question: str) -> int:
    """Return the key of a question in the split map, in the width that it is written in: 64 bits of its digest."""
    return int.from_bytes(hashlib.blake2b(question.encode(), digest_size=8).digest(), "big")


def signatures(texts: list[str]) -> Signatures:
    """Return the signatures of texts as :func:`folded` leaves them, shape (texts, VALUES)."""
    return np.concatenate([np.empty((0, VALUES), np.uint8), *map(_signed, in_cache(texts))])


def _signed(texts: list[str]) -> Signatures:
    padded = [text.ljust(SHINGLE) for text in texts]
    lengths = np.array([len(text) for text in padded])
    codes = np.frombuffer("".join(padded).encode("utf-32-le"), dtype="<u4").astype(np.uint64) + np.uint64(1)
    count = len(codes) - SHINGLE + 1
    pieces = np.zeros(count, dtype=np.uint64)
    for offset in range(SHINGLE):
        pieces *= np.uint64(0x9E3779B97F4A7C15)
        pieces += codes[offset : offset + count]
        pieces ^= pieces >> np.uint64(29)
    # A piece that begins in the last four characters of a text reaches into the next one.
    inside = np.ones(len(codes), dtype=bool)
    ends = np.cumsum(lengths)
    for offset in range(1, SHINGLE):
        inside[ends - offset] = False
    offsets = np.concatenate([[0], np.cumsum(lengths - SHINGLE + 1)]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(pieces[inside[:count]], offsets, VALUES, SEED)
    packed = b"".join([PACK(*row) for row in matrix.to_rows()])
    return np.frombuffer(packed, dtype=np.uint32).reshape(len(texts), VALUES).astype(np.uint8)  # the lowest byte


def bands_of(values: Signatures) -> Keys:
    """Return the bands of signatures, shape (rows, BANDS): five values and the number of the band in one integer."""
    parts = values.reshape(len(values), BANDS, BAND)
    keys = np.broadcast_to(np.arange(BANDS, dtype=np.uint64), (len(values), BANDS)).copy()
    for position in range(BAND):
        keys <<= np.uint64(8)
        keys |= parts[:, :, position]
    return keys


class SimilarRows:
    """Files in `folder` with the signatures and bands of an interval's rows, and of what an index holds that is near.

    Rows are added in order and counted from 0; those of the index count -1, -2, … and are earlier than all others.
    """

    def __init__(self, folder: Path, shared: SharedText) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self.rows = self.indexed = 0
        self._shared = shared
        self._characters = 0  # bytes of the compared texts
        self._files = {name: (folder / name).open("w+b") for name in FILES}
        self._bands = [(folder / f"band_{band}").open("w+b") for band in range(BANDS)]
        self._index_bands = [(folder / f"index_band_{band}").open("w+b") for band in range(BANDS)]

    def add(self, questions: list[str], answers: Iterable[str], keys: Keys | None = None) -> None:
        """Add one row for each question (as :func:`question_of` gives it), with its answer, and its key where that is known."""
        texts, taken = self._shared.left_out(questions)
        texts = list(map(folded, texts))
        values = signatures(texts)
        # Near-duplicates have the same answer, and the same text was left out of them.
        same = [
            hashlib.blake2b(a.encode() + b"\0" + t, digest_size=8).digest() for a, t in zip(answers, taken, strict=True)
        ]
        extra = np.frombuffer(b"".join(same), dtype=np.uint8).reshape(len(same), 8)
        self._files["signatures"].write(np.hstack([values, extra]).tobytes())
        ends = array("Q")
        for text in texts:
            self._characters += self._files["texts"].write(text.encode())
            ends.append(self._characters)
        self._files["ends"].write(ends.tobytes())
        self._files["keys"].write((keys if keys is not None else array("Q", map(key_of, questions))).tobytes())
        for file, band in zip(self._bands, np.ascontiguousarray(bands_of(values).T), strict=True):
            file.write(band)
        self.rows += len(texts)

    def add_indexed(self, values: Signatures) -> npt.NDArray[np.bool_]:
        """Add those rows of an index, in its order, that may share a band with a row; return which these are.

        All other rows must be added before.
        """
        bands = bands_of(values)
        byte, bit = _places(bands)
        shared = (self._filter[byte] & bit) != 0
        near = shared.any(axis=1)
        kept, of_band = np.nonzero(shared[near])
        if len(kept):
            values, bands = values[near], bands[near]
            self._files["index"].write(np.hstack([values, np.zeros((len(values), 8), dtype=np.uint8)]).tobytes())
            found = np.empty(len(kept), INDEX_BAND)
            found["row"], found["key"] = -1 - (self.indexed + kept), bands[kept, of_band]
            found["finer"] = bands[kept, (of_band + 1) % BANDS]
            for band, file in enumerate(self._index_bands):
                file.write(found[of_band == band])
            self.indexed += len(values)
        return np.asarray(near)

    @cached_property
    def _filter(self) -> npt.NDArray[np.uint8]:
        """A bit for each place of :func:`_places`, which says whether a row has a band there."""
        table = np.zeros(1 << FILTER_BITS - 3, dtype=np.uint8)
        for band in range(BANDS):
            for _, keys, _ in self._of_band(band):
                byte, bit = _places(keys)
                while len(byte):  # of several bits of one byte, one is set at a time; faster than `bitwise_or.at`
                    table[byte] |= bit
                    unset = (table[byte] & bit) == 0
                    byte, bit = byte[unset], bit[unset]
        return table

    def close(self) -> None:
        """Finish the files; no row can be added after that."""
        for file in self._all_files():
            file.flush()

    def release(self) -> None:
        """Close the files for good."""
        for file in self._all_files():
            file.close()

    def _all_files(self) -> list[BinaryIO]:
        return [*self._files.values(), *self._bands, *self._index_bands]

    def keys(self) -> Keys:
        """Return the key of each row's question in the split map."""
        self._files["keys"].flush()
        return np.fromfile(self._files["keys"].name, dtype=np.uint64)

    def values_of(self, rows: Rows) -> Signatures:
        """Return the signatures of rows, shape (rows, VALUES)."""
        return self._read(rows)[:, :VALUES]

    def differ_little(self, one: int, other: int) -> bool:
        """Whether of two similar rows few character 5-grams are in one compared text alone; of short texts that is so."""
        begin, end = zip(self._span(one), self._span(other), strict=True)
        size = sum(end) - sum(begin)
        return size <= SHORT_PAIR or len(shingles(self._text(one)) ^ shingles(self._text(other))) <= DIFFERING

    def pairs(self) -> Iterator[tuple[int, int, float, bool]]:
        """Yield (earlier row, later row, similarity, whether the answers are equal) of similar rows, by the later row.

        Pairs of two rows of the index are left out.
        """
        if self.rows + self.indexed < 2:
            return
        for earlier, later in self._in_order(self._find_pairs()):
            equal = self._read(earlier) == self._read(later)
            similarity = equal[:, :VALUES].view(np.uint8).sum(axis=1, dtype=np.uint8) / VALUES
            same = equal[:, VALUES:].all(axis=1)
            for index in np.nonzero(similarity >= SIMILAR)[0]:
                yield int(earlier[index]), int(later[index]), float(similarity[index]), bool(same[index])

    def _find_pairs(self) -> list[Path]:
        """Write the pairs of some bands, or of a part of one, to a file, sorted, and return the files."""
        candidates, runs = self.rows + self.indexed, []
        at_once = max(1, min(BANDS, KEYS_AT_ONCE // candidates))
        slices = -(-candidates * at_once // KEYS_AT_ONCE)
        for start, part in product(range(0, BANDS, at_once), range(slices)):
            bands = range(start, min(start + at_once, BANDS))
            found = chain.from_iterable(self._of_band(band, slices, part) for band in bands)
            pairs = compared(*(np.concatenate(column) for column in zip(*found, strict=True)))
            path = self._folder / f"pairs-{start}-{part}"
            pairs.tofile(path)
            runs.append(path)
        return runs

    def _of_band(self, band: int, slices: int = 1, part: int = 0) -> Iterator[tuple[Rows, Keys, Keys]]:
        """Yield the rows of a band with their keys there and in the next one, some at a time; of `slices` parts by key, one."""
        self.close()
        for begin in range(0, self.rows, BANDS_READ_AT_ONCE):
            keys, finer = (
                np.fromfile(self._bands[number % BANDS].name, np.uint64, BANDS_READ_AT_ONCE, offset=8 * begin)
                for number in (band, band + 1)
            )
            chosen = keys % np.uint64(slices) == part
            yield begin + np.flatnonzero(chosen), keys[chosen], finer[chosen]
        file = self._index_bands[band]
        for begin in range(0, file.tell(), BANDS_READ_AT_ONCE * INDEX_BAND.itemsize):
            index = np.fromfile(file.name, INDEX_BAND, BANDS_READ_AT_ONCE, offset=begin)
            index = index[index["key"] % np.uint64(slices) == part]
            yield index["row"], index["key"], index["finer"]

    def _in_order(self, runs: list[Path]) -> Iterator[tuple[Rows, Rows]]:
        """Yield earlier and later rows of the pairs, once each, by the later row, some at a time."""
        runs = [run for run in runs if run.stat().st_size]
        count = sum(run.stat().st_size for run in runs) // 8
        parts = max(1, -(-count // PAIRS_IN_ORDER))
        bounds = np.array([number * self.rows // parts for number in range(parts + 1)], dtype=np.int64) << ROW_BITS
        # Looked up in a mapped file, and read from it: what is mapped and read would stay in memory.
        cuts = [np.searchsorted(np.memmap(run, dtype=np.int64, mode="r"), bounds) for run in runs]
        for number in range(parts if runs else 0):
            found = [
                np.fromfile(run, np.int64, count=int(cut[number + 1] - cut[number]), offset=8 * int(cut[number]))
                for run, cut in zip(runs, cuts, strict=True)
            ]
            pairs = sorted_once(np.concatenate(found))
            for start in range(0, len(pairs), PAIRS_AT_ONCE):
                some = pairs[start : start + PAIRS_AT_ONCE]
                yield (some & ((1 << ROW_BITS) - 1)) - LOWEST_ROW, some >> ROW_BITS

    def _read(self, rows: Rows) -> Signatures:
        """Signatures with what tells equal answers, read a few at a time: a mapped file would fill the memory."""
        wanted, places = np.unique(rows, return_inverse=True)
        own = np.searchsorted(wanted, 0)
        found = [
            _records(self._files[name].fileno(), of_file)
            for name, of_file in (("index", -1 - wanted[:own][::-1]), ("signatures", wanted[own:]))
        ]
        return np.concatenate([found[0][::-1], found[1]])[places]

    def _span(self, row: int) -> tuple[int, int]:
        """Where a row's compared text begins and ends in their file."""
        ends = self._files["ends"].fileno()
        start, end = (
            int.from_bytes(os.pread(ends, 8, 8 * at), sys.byteorder) if at >= 0 else 0 for at in (row - 1, row)
        )
        return start, end

    def _text(self, row: int) -> str:
        start, end = self._span(row)
        return os.pread(self._files["texts"].fileno(), end - start, start).decode()


def _records(file: int, numbers: Rows) -> Signatures:
    """Records of a file, shape (numbers, RECORD), by their numbers, which are sorted: in one read where they lie close."""
    found = np.empty((len(numbers), RECORD), np.uint8)
    starts = np.flatnonzero(np.diff(numbers // RECORDS_AT_ONCE, prepend=-1)).tolist()
    for start, end in pairwise([*starts, len(numbers)]):
        some = numbers[start:end]
        first, count = int(some[0]), int(some[-1] - some[0] + 1)
        if count < CLOSE * len(some):
            content, places = os.pread(file, RECORD * count, RECORD * first), some - first
        else:
            content = b"".join([os.pread(file, RECORD, RECORD * number) for number in some.tolist()])
            places = np.arange(len(some))
        found[start:end] = np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD)[places]
    return found


def shingles(text: str) -> set[str]:
    """Return the character 5-grams of a text; a shorter text is its only one."""
    return {text[start : start + SHINGLE] for start in range(max(1, len(text) - SHINGLE + 1))}


def connect(folder: Path) -> duckdb.DuckDBPyConnection:
    """Return an empty database that spills to `folder` when its tables outgrow 256 MB.

    Rows are in order only where a query orders them. Each thread has buffers of its own, so they are few.
    """
    database = duckdb.connect()
    database.execute(f"SET threads = {min(MOST_THREADS, processors())}")
    database.execute("SET preserve_insertion_order = false")
    database.execute("SET enable_progress_bar = false")  # it would draw on stdout, whoever reads that
    database.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
    database.execute("SET temp_directory = ?", [str(folder / "spill")])
    return database


def _places(bands: Keys) -> tuple[Rows, npt.NDArray[np.uint8]]:
    """The byte of each band in the table, and its bit in there."""
    mixed = bands * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(64 - FILTER_BITS)
    return (mixed >> np.uint64(3)).astype(np.int64), np.left_shift(
        1, mixed & np.uint64(7), dtype=np.uint8, casting="unsafe"
    )
