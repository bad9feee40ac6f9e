"""Between which two answers people choose: the champion's and the candidate's in a shadow, drawn by chance where they differ."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from hashlib import sha256
from heapq import nsmallest
from typing import Any

import pyarrow as pa

from nightshift.data.examples import MESSAGE
from nightshift.settings.interval import Interval

PAIRS = "review_pairs"  # folder of the partitions; their file is that of a sample
VERSION = 1  # raised when the same shadow would give other pairs
SIDES = ("champion", "candidate")
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
    """Return at most so many pairs whose answers differ, with their `key`, in its order. The same pairs give the same ones.

    :param pairs: rows of `PAIR_SCHEMA` without `key`.
    """
    named = ("champion_model_digest", "candidate_model_digest", "digest", *SIDES)
    differing = (pair for pair in pairs if pair["champion"].strip() != pair["candidate"].strip())
    keyed = {sha256("\0".join(pair[name] for name in named).encode()).hexdigest(): pair for pair in differing}
    return [{**keyed[key], "key": str(uuid.UUID(key[:32]))} for key in nsmallest(most, keyed)]


def shown_order(key: str, person: str) -> tuple[str, str]:
    """Return in which order a person is shown the sides of a pair: the same at each look, and by chance over pairs and people."""
    swapped = sha256(f"{key}\0{person}".encode()).digest()[0] % 2
    return SIDES[::-1] if swapped else SIDES


def interval_of(name: str) -> tuple[Interval | None, str]:
    """Return the newest interval that a partition of pairs is of, None for another name, and the name of its shadow."""
    night, _, shadow = name.rpartition("-")
    return Interval.of_key(night), shadow
