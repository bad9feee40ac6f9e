"""Which answers of an interval people are shown to judge: some at random, and those from which most is learned.

Strata, in this order: `random`, of all rows; `lowest`, the lowest mean of the quality scores that a row has; `uncertain`, where
the judge's score is nearest to one half; `novel`, where the best passage that was found is the least relevant. A quarter of the
rows each; `random` has what a stratum without values leaves.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Mapping, Sequence
from heapq import nsmallest
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.data.examples import MESSAGE, ROWS_AT_ONCE
from nightshift.data.interactions import JUDGE_REASON, SCORES
from nightshift.settings.feedback import RANDOM
from nightshift.settings.metrics import Metric
from nightshift.settings.scorers import Scorer

SAMPLES, SAMPLE = "review_samples", "review.parquet"  # folder of the partitions, and their file
VERSION = 1  # raised when the same interactions would give another sample
QUALITY = ("valid", "groundedness", "judge", "exact_match", "rouge_l")  # 0 to 1, higher is better
LOWEST, UNCERTAIN, NOVEL, REST = "lowest", "uncertain", "novel", "rest"
TEXTS = ("digest", "prompt", "response", "context", "model", "model_digest", JUDGE_REASON)
SAMPLE_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # keyed digest of interactions and row: no user can choose it
        pa.field("chosen", pa.string(), nullable=False),  # the stratum
        pa.field("row", pa.int64(), nullable=False),  # in the interactions
        *(pa.field(name, pa.string()) for name in TEXTS),
        pa.field("messages", pa.list_(MESSAGE)),  # what was asked, with all turns before; null: not known any more
        pa.field("scores", pa.map_(pa.string(), pa.float32()), nullable=False),
    ]
)


def chosen(
    interactions: Path, digest: str, rows: int, id_key: bytes, own: Mapping[str, Scorer]
) -> list[dict[str, Any]]:
    """Return the rows of the sample, without `messages`, in order of their keys. The same interactions give the same rows.

    In memory are four times `rows` row numbers, and 5,000 rows of scores at a time.

    :param interactions: a local `interactions.parquet`.
    :param digest: of its partition.
    :param id_key: with which the digests are keyed.
    :param own: the application's own scorers; shares of the group quality count as quality scores.
    """
    quality = quality_of(own)
    scores = [*SCORES, Metric.RETRIEVAL_RELEVANCE, *(name for name, one in own.items() if one.kind != "category")]
    best: dict[str, list[tuple[float, str, int]]] = {}
    with pq.ParquetFile(interactions, pre_buffer=False) as file:
        known = {*file.schema_arrow.names}
        read = [name for name in ("row", *scores) if name in known]
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=read):
            found: dict[str, list[tuple[float, str, int]]] = {}
            for values in batch.to_pylist():
                key = _key(id_key, digest, values["row"])
                for stratum, value in _values(values, quality).items():
                    found.setdefault(stratum, []).append((value, key, values["row"]))
            for stratum, ranked in found.items():
                best[stratum] = nsmallest(rows, best.get(stratum, []) + ranked)
    picked = _picked(best, rows)
    return sorted(_rows(interactions, picked, scores, known), key=lambda row: row["key"])


def quality_of(own: Mapping[str, Scorer]) -> list[str]:
    """Return the scores that say how good an answer is, 0 to 1, those of own scorers among them."""
    return [*QUALITY, *(name for name, one in own.items() if (one.kind, one.group) == ("share", "quality"))]


def write_sample(rows: list[dict[str, Any]], target: Path, schema: pa.Schema = SAMPLE_SCHEMA) -> None:
    """Write rows of the sample as a file."""
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), target, compression="zstd")


def sample_rows(
    content: bytes, columns: Sequence[str] | None = None, schema: pa.Schema = SAMPLE_SCHEMA
) -> list[dict[str, Any]]:
    """Return the rows of a sample from the bytes of its file, with all columns unless some are named."""
    table = pq.read_table(pa.BufferReader(content), columns=columns, schema=schema)
    return list(table.to_pylist(maps_as_pydicts="strict"))


def _key(id_key: bytes, digest: str, row: int) -> str:
    return str(uuid.UUID(bytes=hmac.digest(id_key, f"review\0{digest}\0{row}".encode(), "sha256")[:16]))


def _values(row: dict[str, Any], quality: Sequence[str]) -> dict[str, float]:
    """By what each stratum ranks a row, the first ones lowest; it ranks none without a value."""
    ranks = {RANDOM: 0.0}
    if scores := [row[name] for name in quality if row.get(name) is not None]:
        ranks[LOWEST] = fmean(scores)
    if row.get(Metric.JUDGE) is not None:
        ranks[UNCERTAIN] = abs(row[Metric.JUDGE] - 0.5)
    if row.get(Metric.RETRIEVAL_RELEVANCE) is not None:
        ranks[NOVEL] = row[Metric.RETRIEVAL_RELEVANCE]
    return ranks


def _picked(best: dict[str, list[tuple[float, str, int]]], rows: int) -> dict[int, tuple[str, str]]:
    """The stratum and key of each row of the sample, by its number. What is random is drawn first, from all rows."""
    picked: dict[int, tuple[str, str]] = {}
    others = [stratum for stratum in (LOWEST, UNCERTAIN, NOVEL) if stratum in best]
    each = {other: min(rows // 4, len(best[other])) for other in others}
    # What is drawn last is no chance draw: the worst are gone by then.
    for stratum, count in [(RANDOM, rows - sum(each.values())), *each.items(), (REST, rows)]:
        drawn = best.get(RANDOM if stratum == REST else stratum, [])
        left = [(row, key) for _, key, row in drawn if row not in picked]
        picked |= {row: (stratum, key) for row, key in left[: min(count, rows - len(picked))]}
    return picked


def _rows(
    interactions: Path, picked: dict[int, tuple[str, str]], scores: Sequence[str], known: set[str]
) -> list[dict[str, Any]]:
    wanted, found = pa.array(sorted(picked), pa.int64()), []
    columns = [name for name in ("row", *TEXTS, *scores) if name in known]
    with pq.ParquetFile(interactions, pre_buffer=False) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
            for row in batch.filter(pc.is_in(batch["row"], value_set=wanted)).to_pylist():
                stratum, key = picked[row["row"]]
                values = {name: row[name] for name in scores if row.get(name) is not None}
                texts = {name: row.get(name) for name in TEXTS}
                found.append({"key": key, "chosen": stratum, "row": row["row"], **texts, "scores": values})
    return found
