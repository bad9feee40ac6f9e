"""An interval's rows on their way to its interactions: prompts with their responses in, a file with scores out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.examples import without_calls
from nightshift.data.interactions import (
    GIVEN,
    INTERACTION_SCHEMA,
    RETRIEVED,
    SCORES,
    STEPS,
    UNSCORED,
    interaction_schema,
    retrieval_relevance,
)
from nightshift.errors import BadInput
from nightshift.inference.answering import LATENCIES, RESPONSES
from nightshift.inference.prompts import Prompts
from nightshift.settings.metrics import Metric
from nightshift.storage.manifest import Manifest
from nightshift.storage.partition import fetch

ROWS_AT_ONCE = 2_000  # read, scored and held
# Of a row group of the file: few enough to hold, large enough to read fast.
GROUP_ROWS, GROUP_BYTES = 50_000, 64_000_000
# Columns with few different values; to look for a dictionary in the others costs time and finds none.
REPETITIVE = [
    *("model", "model_digest", "prompt_version", "finish_reason", "prompt_language", "response_language", "reference"),
    *("valid", "pii", "exact_match", "metadata.key_value.key", "metadata.key_value.value"),
    *(f"{UNSCORED}.{score}" for score in SCORES),
]
ASKED = ["digest", "id", "timestamp", "metadata", "messages", "prompt", "answer", "context"]
FURTHER = ("cost", "logprob")  # which latencies of before lack
MEASURED = [field.name for field in INTERACTION_SCHEMA if field.name.endswith(("_characters", "_tokens"))] + [
    field.name for field in INTERACTION_SCHEMA if pa.types.is_float32(field.type) and field.name != "latency_ms"
]


def answered(prompts: Prompts, parts: list[tuple[UPath, Manifest]], folder: Path) -> Iterator[pa.Table]:
    """Yield the rows of an interval with the responses of its parts, in order; at most so many at once.

    :raises BadInput: a part is damaged, or answers other prompts.
    """
    for address, manifest in parts:
        copies = folder / address.name
        responses = pq.read_table(fetch(address, manifest, RESPONSES, copies))
        latencies = pq.read_table(fetch(address, manifest, LATENCIES, copies))
        none = pa.chunked_array([pa.nulls(latencies.num_rows, pa.float32())])
        known = latencies.column_names  # of what was answered before they were kept, nobody knows them
        further = {name: latencies[name] if name in known else none for name in FURTHER}
        first = responses["row"][0].as_py()
        for start in range(0, responses.num_rows, ROWS_AT_ONCE):
            batch = responses.slice(start, ROWS_AT_ONCE)
            rows = prompts.read(first + start, first + start + batch.num_rows - 1, ASKED)
            if rows.num_rows != batch.num_rows or not rows["digest"].equals(batch["digest"]):
                raise BadInput(f"{address} does not answer the prompts of these rows; generate them anew")
            retrieved, context, steps = (
                batch[one.name] if one.name in batch.column_names else pa.nulls(len(batch), one.type)
                for one in (*GIVEN, STEPS)
            )
            yield _with(
                rows.drop_columns("context"),
                context=pc.coalesce(rows["context"], context),
                retrieved=retrieved,
                steps=steps,
                row=batch["row"],
                response=batch["response"],
                finish_reason=batch["finish_reason"],
                generated_tokens=batch["tokens"],
                latency_ms=latencies["latency_ms"].slice(start, ROWS_AT_ONCE),
                **{name: values.slice(start, ROWS_AT_ONCE) for name, values in further.items()},
            )


def served(prompts: Prompts, begin: int, end: int) -> Iterator[pa.Table]:
    """Yield the rows from `begin` to `end`, both included, of an interval that a serving system answered; in order.

    :raises BadInput: a row has no response.
    """
    for first in range(begin, end + 1, ROWS_AT_ONCE):
        rows = prompts.read(first, min(end + 1, first + ROWS_AT_ONCE) - 1, [*ASKED, "response"])
        if rows["response"].null_count:
            raise BadInput("these prompts have no responses: they were not served elsewhere; run generate first")
        count = rows.num_rows
        yield _with(
            rows.drop_columns("response"),
            row=pa.chunked_array([pa.array(range(first, first + count), pa.int64())]),
            response=rows["response"],
            retrieved=pa.chunked_array([pa.nulls(count, RETRIEVED)]),
            steps=pa.chunked_array([pa.nulls(count, STEPS.type)]),
            finish_reason=pa.chunked_array([pa.nulls(count, pa.string())]),
            **{name: pa.chunked_array([pa.nulls(count, pa.float32())]) for name in ("latency_ms", *FURTHER)},
            generated_tokens=pa.chunked_array([pa.nulls(count, pa.int32())]),
        )


def _with(rows: pa.Table, **columns: pa.ChunkedArray) -> pa.Table:
    columns["reference"] = without_calls(rows["answer"], rows["messages"])
    relevances = [retrieval_relevance(found) for found in columns["retrieved"].to_pylist()]
    columns["retrieval_relevance"] = pa.chunked_array([pa.array(relevances, pa.float32())])
    rows = rows.drop_columns(["answer"])
    for name, column in columns.items():
        rows = rows.append_column(name, column)
    return rows


class InteractionWriter:
    """Writes interactions in row groups that read fast, and counts and averages what goes through.

    :param identity: the columns that are the same in every row: who answered, and with which prompt.
    :param own: the metrics of the application's own scorers.
    """

    def __init__(self, path: Path, identity: Mapping[str, str], own: Sequence[Metric] = ()) -> None:
        self.rows = 0
        self._schema = interaction_schema(own)
        repetitive = [*REPETITIVE, *map(str, own), *(f"{UNSCORED}.{metric}" for metric in own)]
        self._writer = pq.ParquetWriter(
            path, self._schema, compression="zstd", use_dictionary=repetitive, write_statistics=["row"]
        )
        self._identity = identity
        self._held: list[pa.Table] = []
        self._reasons: Counter[str] = Counter()
        self._sums = dict.fromkeys([*MEASURED, *(str(metric) for metric in own if not metric.categorical)], 0.0)
        self._counts: Counter[str] = Counter()
        self._unscored: dict[str, Counter[str]] = {score: Counter() for score in (*SCORES, *map(str, own))}

    def write(self, rows: pa.Table, scores: Mapping[str, list[Any]]) -> None:
        """Add rows (as :func:`answered` and :func:`served` yield them) with their scores by name."""
        columns = {name: rows[name] for name in rows.column_names}
        columns |= {name: pa.repeat(value, rows.num_rows) for name, value in self._identity.items()}
        columns |= dict(scores)
        table = pa.table([_typed(columns[field.name], field.type) for field in self._schema], self._schema)
        self.rows += table.num_rows
        self._reasons.update(reason for reason in table["finish_reason"].to_pylist() if reason)
        for name in self._sums:
            self._sums[name] += pc.sum(table[name].cast(pa.float64())).as_py() or 0.0
            self._counts[name] += table.num_rows - table[name].null_count
        for row in scores[UNSCORED]:
            for score, reason in row.items():
                if reason:
                    self._unscored[score][reason] += 1
        self._held.append(table)
        if sum(held.num_rows for held in self._held) >= GROUP_ROWS or sum(t.nbytes for t in self._held) >= GROUP_BYTES:
            self._flush()

    @property
    def finish_reasons(self) -> dict[str, int]:
        """Rows by how their response ended, where that is known."""
        return dict(sorted(self._reasons.items()))

    @property
    def means(self) -> dict[str, float]:
        """Mean of every measure and score over the rows that have one; what no row has is left out."""
        digits = {"cost": 12}  # an answer may cost a hundred-thousandth
        means = {name: total / self._counts[name] for name, total in self._sums.items() if self._counts[name]}
        return {name: round(mean, digits.get(name, 6)) for name, mean in means.items()}

    @property
    def unscored(self) -> dict[str, dict[str, int]]:
        """Rows without a score by why, of each score that some row lacks."""
        return {score: dict(sorted(counts.items())) for score, counts in self._unscored.items() if counts}

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.concat_tables(self._held))
            self._held = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_rest: BaseException | TracebackType | None) -> None:
        if error is None:
            self._flush()
        self._writer.close()


def _typed(values: Any, wanted: pa.DataType) -> Any:
    return values.cast(wanted) if isinstance(values, pa.ChunkedArray | pa.Array) else pa.array(values, wanted)
