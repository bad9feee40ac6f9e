"""Which answers of an interval people are shown to judge: some at random, and those from which most is learned.

Strata, in this order: `random`, of all rows; `lowest`, the lowest mean of the quality scores that a row has, below 1;
`uncertain`, the answer that the model finds the least likely or, where nobody knows that, the judge's score nearest to one half;
`novel`, where the best passage that was found is the least relevant. Half of the rows are random, the strata with values
share the others. They leave out what is the same question as a chosen one, or nearly the same while they have another: the second
of two such teaches little.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.data.examples import MESSAGE, ROWS_AT_ONCE
from nightshift.data.interactions import JUDGE_REASON, LOGPROB, SCORES
from nightshift.settings.feedback import RANDOM
from nightshift.settings.metrics import Metric
from nightshift.settings.scorers import Scorer

SAMPLES, SAMPLE = "review_samples", "review.parquet"  # folder of the partitions, and their file
VERSION = 3  # raised when the same interactions would give another sample; those of before stay
QUALITY = ("valid", "groundedness", "judge", "exact_match", "rouge_l")  # 0 to 1, higher is better
ALIKE = 0.9  # cosine from which on two questions are nearly the same
CANDIDATES = 4  # different questions that a stratum chooses from, for each row of the sample
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

Embed = Callable[[Sequence[str]], Any]
Ranked = tuple[float, str, int, str]  # value, key and number of a row, and the question, of which a stratum has one row


def chosen(  # noqa: PLR0917
    interactions: Path, digest: str, rows: int, id_key: bytes, own: Mapping[str, Scorer], embed: Embed
) -> list[dict[str, Any]]:
    """Return the rows of the sample, without `messages`, in order of their keys. The same interactions give the same rows.

    In memory are the vectors of `CANDIDATES` times `rows` prompts for each stratum, and 5,000 rows of scores at a time.

    :param interactions: a local `interactions.parquet`.
    :param digest: of its partition.
    :param id_key: with which the digests are keyed.
    :param own: the application's own scorers; shares of the group quality count as quality scores.
    :param embed: gives prompts unit vectors, shape (prompts, dimensions).
    """
    quality = quality_of(own)
    numbers = (name for name, one in own.items() if one.kind != "category")
    scores = [*SCORES, LOGPROB, Metric.RETRIEVAL_RELEVANCE, *numbers]
    best: dict[str, list[Ranked]] = {}
    with pq.ParquetFile(interactions, pre_buffer=False) as file:
        known = {*file.schema_arrow.names}
        read = [name for name in ("row", "digest", *scores) if name in known]
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=read):
            found: dict[str, list[Ranked]] = {}
            for values in batch.to_pylist():
                key = _key(id_key, digest, values["row"])
                for stratum, value in _values(values, quality).items():
                    question = key if stratum == RANDOM else values["digest"]  # by chance also what is asked often
                    found.setdefault(stratum, []).append((value, key, values["row"], question))
            for stratum, ranked in found.items():
                first: dict[str, Ranked] = {}
                for one in sorted(best.get(stratum, []) + ranked):
                    first.setdefault(one[-1], one)
                best[stratum] = [*first.values()][: CANDIDATES * rows]
    candidates = {row for ranked in best.values() for _, _, row, _ in ranked}
    picked = _picked(best, rows, _vectors(interactions, candidates, embed))
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
    scores = [row[name] for name in quality if row.get(name) is not None]
    if scores and (mean := fmean(scores)) < 1:
        ranks[LOWEST] = mean
    if row.get(LOGPROB) is not None:
        ranks[UNCERTAIN] = row[LOGPROB]
    elif row.get(Metric.JUDGE) is not None:
        ranks[UNCERTAIN] = abs(row[Metric.JUDGE] - 0.5)
    if row.get(Metric.RETRIEVAL_RELEVANCE) is not None:
        ranks[NOVEL] = row[Metric.RETRIEVAL_RELEVANCE]
    return ranks


def _vectors(interactions: Path, rows: set[int], embed: Embed) -> dict[int, Any]:
    return {
        row: vector
        for batch in _batches(interactions, ["row", "prompt"], rows)
        for row, vector in zip(batch["row"].to_pylist(), embed(batch["prompt"].to_pylist()), strict=True)
    }


def _batches(interactions: Path, columns: list[str], rows: Iterable[int]) -> Iterator[pa.RecordBatch]:
    wanted = pa.array(sorted(rows), pa.int64())
    with pq.ParquetFile(interactions, pre_buffer=False) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
            if (found := batch.filter(pc.is_in(batch["row"], value_set=wanted))).num_rows:
                yield found


def _picked(best: dict[str, list[Ranked]], rows: int, vectors: Mapping[int, Any]) -> dict[int, tuple[str, str]]:
    """The stratum and key of each row of the sample, by its number. What is random is drawn first, from all rows."""
    picked: dict[int, tuple[str, str]] = {}
    others = [stratum for stratum in (LOWEST, UNCERTAIN, NOVEL) if stratum in best]
    share = max(1, rows // 2 // max(1, len(others)))
    each = {other: min(share, len(best[other])) for other in others}
    # What is drawn last is no chance draw: the worst are gone by then.
    for stratum, most in [(RANDOM, rows - sum(each.values())), *each.items(), (REST, rows)]:
        count = min(most, rows - len(picked))
        drawn = best.get(RANDOM if stratum == REST else stratum, [])
        left = [(row, key) for _, key, row, _ in drawn if row not in picked]
        if stratum in others:
            left = _unlike_first(left, count, [*picked], vectors)
        picked |= {row: (stratum, key) for row, key in left[:count]}
    return picked


def _unlike_first(
    left: list[tuple[int, str]], count: int, before: list[int], vectors: Mapping[int, Any]
) -> list[tuple[int, str]]:
    """Rows in their order, but first up to `count` whose prompts are unlike those of all rows taken before."""
    unlike: list[tuple[int, str]] = []
    for row, key in left:
        if len(unlike) == count:
            break
        if all(vectors[row] @ vectors[other] < ALIKE for other in before):
            unlike.append((row, key))
            before.append(row)
    return [*unlike, *(one for one in left if one not in unlike)]


def _rows(
    interactions: Path, picked: dict[int, tuple[str, str]], scores: Sequence[str], known: set[str]
) -> list[dict[str, Any]]:
    found = []
    columns = [name for name in ("row", *TEXTS, *scores) if name in known]
    for batch in _batches(interactions, columns, picked):
        for row in batch.to_pylist():
            stratum, key = picked[row["row"]]
            values = {name: row[name] for name in scores if row.get(name) is not None}
            texts = {name: row.get(name) for name in TEXTS}
            found.append({"key": key, "chosen": stratum, "row": row["row"], **texts, "scores": values})
    return found
