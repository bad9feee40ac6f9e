"""Splits the text of a document into passages: overlapping windows of words."""

from __future__ import annotations

from collections.abc import Iterator

from nightshift.data.words import BOUNDARY, FLAGS, WORD
from nightshift.settings.retrieval import Chunk


def chunks(text: str, settings: Chunk) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of each passage of a text, in characters; none if the text has no words.

    Words are those of Unicode (UAX #29), in any script.
    """
    starts = _word_starts(text)
    if not starts:
        return
    for first in range(0, max(1, len(starts) - settings.overlap), settings.words - settings.overlap):
        after = first + settings.words
        yield starts[first] if first else 0, starts[after] if after < len(starts) else len(text)


def _word_starts(text: str) -> list[int]:
    starts, place = [], 0
    for segment in BOUNDARY.split(FLAGS.sub(lambda flags: " " * len(flags[0]), text)):
        if WORD.search(segment):
            starts.append(place)
        place += len(segment)
    return starts
