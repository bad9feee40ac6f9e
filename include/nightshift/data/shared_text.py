"""Text that many prompts share (an instruction, a frame, a retrieved document): found, and left out of comparisons.

What a frame's prompts have in common says nothing about whether two of them ask the same. A text counts as shared when
at least ten different prompts hold it, and

- half of the prompts, in pieces of 8 characters: an instruction, or a frame of a few words. Where half of the prompts
  with it have fewer than 20 characters beside it (one question about one thing after another), the 12 characters next to
  these stay, too: of a word alone, one letter more or less would seem to make another question;
- or one in twenty, in pieces of 40 characters: one of several instructions, or a document that is asked about often.
  Where fewer than 20 characters would be left beside these, they are no frame but the question itself, which comes in
  variants, and stay.

A prompt of which nothing is left keeps its whole text. Pieces are of characters, not words, because not all languages
write spaces. They are kept as hashes: the text itself cannot be read from them.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

SHORT, LONG = 8, 40  # characters of a piece
SHARES = {SHORT: 0.5, LONG: 0.05}  # of the different prompts that hold it
LEAST_PROMPTS = 10
LEFT = 20  # characters beside shared pieces
CONTEXT = 12  # characters of a frame that stay next to a rest that is shorter
SAMPLE_CHARACTERS = 1_000_000
SAMPLE_PROMPTS = 2_000
MOST_PIECES = 50_000  # of one length, found in one interval
CHARACTERS_AT_ONCE = 20_000
BITS = 20  # of the table that rules most pieces out before they are looked up

Codes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]


class Sample:
    """Different texts of an interval: those with the smallest keys, which are a fair sample and need no order."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []  # the largest key first
        self._keys: set[int] = set()
        self._most = 1 << 64  # a larger key is not taken
        self._characters = 0

    def add(self, key: int, text: str) -> None:
        """Take a text with its key, unless its key is too large or there already."""
        if key > self._most or key in self._keys:
            return
        text = text[: SAMPLE_CHARACTERS // 50]
        heapq.heappush(self._heap, (-key, text))
        self._keys.add(key)
        self._characters += len(text)
        while len(self._heap) > SAMPLE_PROMPTS or self._characters - len(self._heap[0][1]) >= SAMPLE_CHARACTERS:
            largest, gone = heapq.heappop(self._heap)
            self._keys.remove(-largest)
            self._characters -= len(gone)
        if len(self._heap) == SAMPLE_PROMPTS or self._characters >= SAMPLE_CHARACTERS:
            self._most = -self._heap[0][0]

    @property
    def texts(self) -> list[str]:
        """The texts, in order of key."""
        return [text for _, text in sorted(self._heap, reverse=True)]


@dataclass(frozen=True)
class SharedText:
    """Hashes of the shared pieces by their length in characters; each array is sorted."""

    pieces: Mapping[int, Codes] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.pieces.values()))

    def plus(self, other: SharedText) -> SharedText:
        """Return the pieces of both."""
        return SharedText({length: np.union1d(self._of(length), other._of(length)) for length in SHARES})

    def minus(self, other: SharedText) -> SharedText:
        """Return the pieces that `other` does not have."""
        return SharedText(
            {length: np.setdiff1d(self._of(length), other._of(length), assume_unique=True) for length in SHARES}
        )

    def left_out(self, texts: list[str]) -> tuple[list[str], list[bytes]]:
        """Return the texts without what is shared, and for each a digest of what was taken (empty: nothing)."""
        if not len(self) or not texts:
            return texts, [b""] * len(texts)
        parts = [self._left_out(_Joined(some)) for some in in_cache(texts)]
        return [rest for rests, _ in parts for rest in rests], [each for _, taken in parts for each in taken]

    def _left_out(self, joined: _Joined) -> tuple[list[str], list[bytes]]:
        frame = self._covered(joined, SHORT)
        more = frame | self._covered(joined, LONG)
        kept_ink = np.concatenate([[0], np.cumsum(~more & joined.ink)])
        enough = kept_ink[joined.ends] - kept_ink[joined.starts] >= LEFT
        taken = np.where(np.repeat(enough, joined.lengths), more, frame)
        kept_ink = np.concatenate([[0], np.cumsum(~taken & joined.ink)])
        something = kept_ink[joined.ends] - kept_ink[joined.starts] > 0
        taken &= np.repeat(something, joined.lengths)
        # A space stands for each run that is taken.
        begins = taken.copy()
        begins[1:] &= ~taken[:-1]
        begins[joined.starts] = taken[joined.starts]
        codes = np.where(begins, ord(" "), joined.codes)
        rest = [" ".join(text.split()) for text in joined.cut(codes, ~taken | begins)]
        return rest, [
            hashlib.blake2b(text.encode(), digest_size=8).digest() if text else b""
            for text in joined.cut(joined.codes, taken)
        ]

    def _of(self, length: int) -> Codes:
        return self.pieces.get(length, np.empty(0, np.uint64))

    def _covered(self, joined: _Joined, length: int) -> Mask:
        """Which characters lie in a shared piece of this length."""
        shared, count = self._of(length), len(joined.codes)
        if not len(shared) or count < length:
            return np.zeros(count, dtype=bool)
        hashes = joined.hashes(length)
        places = hashes & np.uint64((1 << BITS) - 1)
        table = np.zeros(1 << BITS, dtype=bool)
        table[shared & np.uint64((1 << BITS) - 1)] = True
        likely = np.nonzero(table[places] & joined.inside(length))[0]
        found = likely[shared[np.minimum(np.searchsorted(shared, hashes[likely]), len(shared) - 1)] == hashes[likely]]
        return joined.covered(found, length)


def in_cache(texts: list[str]) -> Iterator[list[str]]:
    """Yield texts in lists of so few characters that arrays about these stay in the processor's cache: twice as fast."""
    begin = held = 0
    for end, text in enumerate(texts):
        held += len(text)
        if held >= CHARACTERS_AT_ONCE:
            yield texts[begin : end + 1]
            begin, held = end + 1, 0
    if begin < len(texts):
        yield texts[begin:]


def found_in(texts: list[str]) -> SharedText:
    """Return what different texts share."""
    if len(texts) < LEAST_PROMPTS:
        return SharedText()
    joined = _Joined(texts)
    rows = np.repeat(np.arange(len(texts)), joined.lengths)
    pieces = {}
    for length, share in SHARES.items():
        inside = np.nonzero(joined.inside(length))[0] if len(joined.codes) >= length else np.empty(0, np.int64)
        if not len(inside):
            continue
        hashes, place = np.unique(joined.hashes(length)[inside], return_inverse=True)
        # Each prompt counts once, however often it holds a piece.
        order = np.argsort(place, kind="stable")
        holders = rows[inside][order]
        again = (np.diff(place[order], prepend=-1) == 0) & (np.diff(holders, prepend=-1) == 0)
        counts = np.bincount(place[order][~again], minlength=len(hashes))
        ragged = np.zeros(len(joined.codes), dtype=bool)
        ragged[inside] = _over_an_edge(inside, counts[place], length)[inside]
        mostly_ragged = np.bincount(place, ragged[inside]) * 2 > np.bincount(place)
        enough = (counts >= max(LEAST_PROMPTS, share * len(texts))) & ~mostly_ragged
        if length == SHORT:
            beside = _beside_a_short_rest(joined, inside[enough[place]])[inside]
            enough &= np.bincount(place, beside) * 2 <= np.bincount(place)
        shared, counts = hashes[enough], counts[enough]
        pieces[length] = np.sort(shared[np.argsort(-counts, kind="stable")[:MOST_PIECES]])
    return SharedText(pieces)


def _beside_a_short_rest(joined: _Joined, starts: npt.NDArray[np.int64]) -> Mask:
    """Where a piece begins that lies next to what is left of a text, if that is short.

    :param starts: where the shared pieces begin.
    """
    rest = np.concatenate([[0], np.cumsum(~joined.covered(starts, SHORT) & joined.ink)])
    short = np.repeat(rest[joined.ends] - rest[joined.starts] < LEFT, joined.lengths)
    places = np.arange(len(joined.codes))
    first = np.maximum(places - CONTEXT, np.repeat(joined.starts, joined.lengths))
    last = np.minimum(places + SHORT + CONTEXT, np.repeat(joined.ends, joined.lengths))
    return np.asarray(short & (rest[last] > rest[first]))


def _over_an_edge(starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], length: int) -> Mask:
    """Where a piece begins that reaches over an edge of shared text.

    Where a frame ends, the piece one character further on has at most half of the prompts. Without this, a frame would
    take the usual beginnings of the messages with it ("How do I …"), and each day others.

    :param counts: of prompts that hold the piece at each of `starts`.
    """
    next_to = np.diff(starts) == 1
    falls = starts[:-1][next_to & (counts[:-1] >= 2 * counts[1:])]
    rises = starts[:-1][next_to & (counts[1:] >= 2 * counts[:-1])]
    change = np.zeros(int(starts[-1]) + 2 * length + 1, dtype=np.int32)
    np.add.at(change, falls + 1, 1)
    np.add.at(change, falls + length, -1)
    np.add.at(change, np.maximum(rises - length + 2, 0), 1)
    np.add.at(change, rises + 1, -1)
    return np.cumsum(change) > 0


class _Joined:
    """Texts one after the other, none of them empty, as an array of code points."""

    def __init__(self, texts: list[str]) -> None:
        self.lengths = np.array([len(text) for text in texts], dtype=np.int64)
        self.codes = np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<u4").astype(np.uint64)
        self.ends = np.cumsum(self.lengths)
        self.starts = self.ends - self.lengths
        self._hashes: dict[int, Codes] = {}

    @property
    def ink(self) -> Mask:
        """Which characters are no spaces."""
        return self.codes != ord(" ")

    def inside(self, length: int) -> Mask:
        """Where a piece of this length begins that does not reach into the next text."""
        room = np.repeat(self.ends, self.lengths) - np.arange(len(self.codes))
        return np.asarray(room[: len(self.codes) - length + 1] >= length)

    def covered(self, starts: npt.NDArray[np.int64], length: int) -> Mask:
        """Which characters lie in a piece of this length that begins at one of `starts`."""
        change = np.zeros(len(self.codes) + 1, dtype=np.int32)
        change[starts] += 1
        change[starts + length] -= 1
        return np.cumsum(change[:-1]) > 0

    def hashes(self, length: int) -> Codes:
        """The hash of the piece that begins at each character, made of those of its parts."""
        if length in self._hashes:
            return self._hashes[length]
        if length == 1:
            return _mixed(self.codes + np.uint64(1))
        first = 1 << (length - 1).bit_length() - 1
        count = len(self.codes) - length + 1
        one = self.hashes(first)
        other = one if length == 2 * first else self.hashes(length - first)
        found = _mixed(one[:count] * np.uint64(0x9E3779B97F4A7C15) + other[first : first + count])
        if length == SHORT:  # the long pieces are made of these
            self._hashes[length] = found
        return found

    def cut(self, codes: Codes, kept: Mask) -> list[str]:
        """The kept characters of each text."""
        text = codes[kept].astype("<u4").tobytes().decode("utf-32-le")
        ends = np.cumsum(kept)[self.ends - 1].tolist()
        return [text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _mixed(values: Codes) -> Codes:
    values = (values ^ (values >> np.uint64(31))) * np.uint64(0xD6E8FEB86659FD93)
    return values ^ (values >> np.uint64(29))
