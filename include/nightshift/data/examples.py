"""The `examples` and `traffic` partitions: their columns, which split a row belongs to, and how other jobs read them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.settings.intake import Splits

Split = Literal["train", "traffic", "held_out", "development"]

EXAMPLES = "examples.parquet"
QUARANTINE = "quarantine.parquet"
CORRECTIONS = "corrections"  # folder and kind of partitions with examples that people's feedback gave
ROWS_PER_GROUP = 5_000
ROWS_AT_ONCE = 5_000

# Partitions from before tools were read have messages of `role` and `content` alone.
MESSAGE = pa.struct(
    [
        pa.field("role", pa.string()),  # system, user, assistant or tool
        pa.field("content", pa.string()),
        # JSON [{id, type: function, function: {name, arguments: {…}}}] of what an assistant calls; null: no tool
        pa.field("tool_calls", pa.string()),
        pa.field("tool_call_id", pa.string()),  # of a tool's message: which call it answers; else null
    ]
)
EXAMPLE_SCHEMA = pa.schema(
    [
        pa.field("digest", pa.string(), nullable=False),  # SHA-256 (hex), see digest_of_messages
        pa.field(
            "messages", pa.list_(MESSAGE), nullable=False
        ),  # the row's own system message where it has one, then turns of user, assistant and tools
        pa.field("tools", pa.string()),  # JSON [{type: function, function: {name, …}}] that may be called; null: none
        pa.field("prompt", pa.string(), nullable=False),  # text of the last user turn
        pa.field("answer", pa.string()),  # text of the last assistant turn, and its `tool_calls`; null: unknown
        pa.field("rejected", MESSAGE),  # of a preference pair: the assistant's message that `answer` was preferred to
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
        pa.field("subject", pa.string()),  # keyed hash, as of an example; null: unknown, or an earlier version wrote it
    ]
)


def digest_of_messages(
    messages: list[dict[str, str]], tools: str | None = None, rejected: dict[str, str] | None = None
) -> str:
    """Return the SHA-256 (hex) of a normalised conversation: its roles and texts, each ended by a zero byte.

    Calls of tools, the tools and a rejected answer follow, where there are any, behind a byte that no text holds.
    """
    content, called = "", []
    for place, message in enumerate(messages):
        content += f"{message['role']}\0{message['content']}\0"
        # A message that was read from a file has all fields.
        if len(message) > 2 and any(fields := _of_tools(message)):
            called.append([place, *fields])
    if called or tools or rejected:
        other = rejected and [rejected["role"], rejected["content"], *_of_tools(rejected)]
        content += "\1" + json.dumps([called, tools, other], ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def _of_tools(message: dict[str, str]) -> list[str | None]:
    return [message.get("tool_calls"), message.get("tool_call_id")]


def side_of(digest: str, splits: Splits) -> Split:
    """Return the side that a digest draws: a pure function of it and the shares."""
    point = int.from_bytes(hashlib.sha256(f"split:{digest}".encode()).digest()[:7], "big") / 2**56
    if point < splits.held_out:
        return "held_out"
    if point < splits.held_out + splits.train:
        return "train"
    return "development" if point >= 1 - splits.development else "traffic"


def example_batches(file: Path, columns: Sequence[str] = EXAMPLE_SCHEMA.names) -> Iterator[pa.Table]:
    """Yield some columns of a local file of examples in order, 5,000 rows at a time; null where an earlier version had none."""
    schema = pa.schema([EXAMPLE_SCHEMA.field(name) for name in columns])
    with pq.ParquetFile(file, pre_buffer=False) as rows:
        missing = [
            name for name in columns if name not in rows.schema_arrow.names and EXAMPLE_SCHEMA.field(name).nullable
        ]
        for batch in rows.iter_batches(ROWS_AT_ONCE, columns=list(columns)):
            table = pa.Table.from_batches([batch])
            for name in missing:
                table = table.append_column(name, pa.nulls(table.num_rows, EXAMPLE_SCHEMA.field(name).type))
            yield table.select(columns).cast(schema)


def write_pairs(file: Path, target: Path, columns: Sequence[str]) -> Path:
    """Write some columns of the preference pairs among local examples into another file, in order, and return that."""
    names = [*columns, "rejected"]
    schema = pa.schema([EXAMPLE_SCHEMA.field(name) for name in names])
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for rows in example_batches(file, names):
            writer.write_table(rows.filter(pc.field("rejected").is_valid()))
    return target


def count_pairs(file: Path) -> int:
    """Return how many of some local examples are preference pairs."""
    return sum(rows.num_rows - rows["rejected"].null_count for rows in example_batches(file, ["rejected"]))


def both_answers(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows with the chosen and with the rejected answer of a preference pair."""
    return [row, {**row, "messages": [*row["messages"][:-1], row["rejected"]]}]


def examples_in(file: Path, columns: Sequence[str] | None = None, filters: pc.Expression | None = None) -> pa.Table:
    """Return columns (default: all) of a local file of `EXAMPLE_SCHEMA`, of whatever version."""
    names = list(columns) if columns is not None else None
    return pq.read_table(file, columns=names, schema=EXAMPLE_SCHEMA, filters=filters)


def without_calls(answers: pa.ChunkedArray, messages: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return answers with null in place of those that call tools: a text is no such call, however well it says it."""
    if messages.type.value_type.get_field_index("tool_calls") < 0:
        return answers
    chunks = []
    for chunk in messages.chunks:
        calls = chunk.values.field("tool_calls")
        chunks.append(calls.take(pc.subtract(chunk.offsets[1:], 1)).is_valid())
    return pc.if_else(pa.chunked_array(chunks, pa.bool_()), pa.scalar(None, answers.type), answers)


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
