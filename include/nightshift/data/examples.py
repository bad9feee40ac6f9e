"""The `examples` and `traffic` partitions: their columns, which split a row belongs to, and how other jobs read them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from nightshift.settings.intake import Splits
from nightshift.storage.files import scratch
from nightshift.storage.partition import Manifest, fetch

Split = Literal["train", "traffic", "held_out", "development"]

EXAMPLES = "examples.parquet"
QUARANTINE = "quarantine.parquet"
ROWS_PER_GROUP = 5_000
ROWS_AT_ONCE = 5_000

EXAMPLE_SCHEMA = pa.schema(
    [
        pa.field("digest", pa.string(), nullable=False),  # SHA-256 (hex) of `messages`, see digest_of_messages
        pa.field(
            "messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])), nullable=False
        ),  # the row's own system message where it has one, then turns of user and assistant
        pa.field("prompt", pa.string(), nullable=False),  # text of the last user turn
        pa.field("answer", pa.string()),  # text of the assistant turn after it; null: unknown
        pa.field("response", pa.string()),  # traffic only: what a serving system answered; null: it was not asked
        pa.field("context", pa.string()),  # traffic only: what the response must rest on; null: none was given
        pa.field("source", pa.string(), nullable=False),  # "<source>/<file>", or the source's name for a query
        pa.field("source_row", pa.int64(), nullable=False),  # line of a text file, row of Parquet or SQL, from 1
        pa.field("id", pa.string()),
        pa.field("subject", pa.string()),  # keyed hash of the user or customer; null: unknown
        pa.field("split_group", pa.string()),  # null: none
        pa.field("timestamp", pa.timestamp("us", tz="UTC")),
        pa.field("metadata", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("language", pa.string(), nullable=False),  # ISO 639 code of the prompt; "und": cannot be told
        pa.field("prompt_characters", pa.int32(), nullable=False),
        pa.field("prompt_tokens", pa.int32(), nullable=False),  # of the base model, special tokens left out
        pa.field("answer_tokens", pa.int32(), nullable=False),  # 0 where the answer is unknown
        pa.field("pii", pa.map_(pa.string(), pa.int32()), nullable=False),  # redacted items by kind
        pa.field(
            "group", pa.string(), nullable=False
        ),  # beginning of the digest of the first row that it repeats or resembles; traffic: its own digest
        pa.field("split", pa.string(), nullable=False),  # a Split; between two sides: traffic; of traffic: all traffic
    ]
)
QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_row", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),  # a code of quarantine.Reason
        pa.field("detail", pa.string(), nullable=False),
        pa.field("raw", pa.string(), nullable=False),  # at most 2,000 characters, personal data redacted
    ]
)


def digest_of_messages(messages: list[dict[str, str]]) -> str:
    """Return the SHA-256 (hex) of a normalised conversation: its roles and texts, each ended by a zero byte."""
    content = "".join(f"{message['role']}\0{message['content']}\0" for message in messages)
    return hashlib.sha256(content.encode()).hexdigest()


def side_of(digest: str, splits: Splits) -> Split:
    """Return the side that a digest draws: a pure function of it and the shares."""
    point = int.from_bytes(hashlib.sha256(f"split:{digest}".encode()).digest()[:7], "big") / 2**56
    if point < splits.held_out:
        return "held_out"
    if point < splits.held_out + splits.train:
        return "train"
    return "development" if point >= 1 - splits.development else "traffic"


def read_examples(partition: UPath, manifest: Manifest, split: Split | None = None) -> pa.Table:
    """Return the examples of a partition (`EXAMPLE_SCHEMA`), all of them or those of one split, in source order.

    :raises BadInput: the file is missing, or not what the manifest says.
    """
    folder = scratch(partition.parent)
    try:
        file = fetch(partition, manifest, EXAMPLES, folder)
        # Not memory-mapped: the table outlives the folder.
        return pq.read_table(file, filters=None if split is None else pc.field("split") == split)
    finally:
        shutil.rmtree(folder)


def example_batches(file: Path, columns: Sequence[str] = EXAMPLE_SCHEMA.names) -> Iterator[pa.Table]:
    """Yield some columns of a local file of examples in order, 5,000 rows at a time; null where an earlier version had none."""
    with pq.ParquetFile(file, pre_buffer=False) as rows:
        missing = [
            name for name in columns if name not in rows.schema_arrow.names and EXAMPLE_SCHEMA.field(name).nullable
        ]
        for batch in rows.iter_batches(ROWS_AT_ONCE, columns=list(columns)):
            table = pa.Table.from_batches([batch])
            for name in missing:
                table = table.append_column(name, pa.nulls(table.num_rows, EXAMPLE_SCHEMA.field(name).type))
            yield table.select(columns)


class RowWriter:
    """Writes rows to a Parquet file in row groups of a fixed size, so that the same rows give the same bytes."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self.rows = 0

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Add rows, given as one dict each."""
        self._rows += rows
        self.rows += len(rows)
        while len(self._rows) >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        group, self._rows = self._rows[:ROWS_PER_GROUP], self._rows[ROWS_PER_GROUP:]
        self._writer.write_table(pa.Table.from_pylist(group, schema=self._schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_rest: BaseException | TracebackType | None) -> None:
        if error is None and self._rows:
            self._flush()
        self._writer.close()
