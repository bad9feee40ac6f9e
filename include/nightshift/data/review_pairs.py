"""Between which two answers people choose: the champion's and the candidate's in a shadow, drawn by chance where they differ."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from heapq import nsmallest
from typing import Any

import pyarrow as pa

from nightshift.data.examples import MESSAGE
from nightshift.settings.feedback import CHOSEN_BY, PAIR
from nightshift.settings.interval import Interval
from nightshift.shown import shown_lines

PAIRS = "review_pairs"  # folder of the partitions; their file is that of a sample
VERSION = 2  # raised when the same shadow would give other pairs
SIDES = ("champion", "candidate")
MOST_OPEN = 20  # shadows at a time, so that nobody reads the manifests of all there ever were
PAIR_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # digest of both models, the prompt and both answers
        pa.field("night", pa.string(), nullable=False),  # key of the interval that the champion answered
        pa.field("row", pa.int64(), nullable=False),  # in its interactions
        pa.field("digest", pa.string(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),  # who asked, as a keyed hash, or the digest
        pa.field("messages", pa.list_(MESSAGE)),  # what was asked, with all turns before
        *(pa.field(f"{side}{what}", pa.string()) for side in SIDES for what in ("", "_model", "_model_digest")),
        *(pa.field(f"{side}_scores", pa.map_(pa.string(), pa.float32()), nullable=False) for side in SIDES),
    ]
)


def drawn_pairs(pairs: Sequence[Mapping[str, Any]], most: int) -> list[dict[str, Any]]:
    """Return at most so many pairs, with their `key`, in its order. The same pairs give the same ones.

    Both answers say something and look different on the page. Each pair is of another unit, as intervals over pairs assume.

    :param pairs: rows of `PAIR_SCHEMA` without `key`.
    """
    named = ("champion_model_digest", "candidate_model_digest", "digest", *SIDES)
    keyed = {}
    for pair in pairs:
        champion, candidate = (shown_lines(pair[side]).strip() for side in SIDES)
        if champion and candidate and champion != candidate:
            keyed[sha256("\0".join(pair[name] for name in named).encode()).hexdigest()] = pair
    of_units = {keyed[key]["unit"]: key for key in sorted(keyed, reverse=True)}
    return [{**keyed[key], "key": str(uuid.UUID(key[:32]))} for key in nsmallest(most, of_units.values())]


def is_chosen_of_two(row: Mapping[str, Any]) -> bool:
    """Whether people chose the answer of an example among those of two versions: versions are not measured by what one said."""
    return dict(row["metadata"] or ()).get(CHOSEN_BY) == PAIR


def shown_order(key: str, person: str) -> tuple[str, str]:
    """Return in which order a person is shown the sides of a pair: the same at each look, and by chance over pairs and people."""
    swapped = sha256(f"{key}\0{person}".encode()).digest()[0] % 2
    return SIDES[::-1] if swapped else SIDES


def newest_pairs(names: Iterable[str], before: datetime) -> list[str]:
    """Return the partitions, of some names, that people may be asked about at a time: the newest by interval, the first first."""
    known = [name for name in names if (of := interval_of(name)[0]) and of.start < before]
    return sorted(known)[: -MOST_OPEN - 1 : -1]


def interval_of(name: str) -> tuple[Interval | None, str]:
    """Return the newest interval that a partition of pairs is of, None for another name, and the name of its shadow."""
    key, _, shadow = name.rpartition("-")
    return Interval.of_key(key), shadow
