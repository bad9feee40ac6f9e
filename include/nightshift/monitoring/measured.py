"""Interactions as they are compared: the profile of all rows, what their prompts are about, and a sample to look at.

Columns that need no text are profiled over every row. Prompts are embedded for at most 200,000 rows of a partition,
spread evenly over it, so that an interval of ten million rows costs no more than its columns do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.data.interactions import INTERACTION_SCHEMA, JUDGE_REASON, interaction_schema
from nightshift.monitoring.failures import count_unscored
from nightshift.monitoring.profiles import Profile, merge, profile_of, read_batches
from nightshift.monitoring.topics import DIRECTIONS, Embedder, Topics
from nightshift.settings.metrics import BUILT_IN, CATEGORICAL, Metric

SAMPLE = "sample.parquet"
PROFILE_VERSION = 3  # of what is measured of a partition; another one measures it anew
EMBEDDED_ROWS = 200_000  # of a partition whose prompts are embedded
SAMPLE_ROWS = 2_000  # of a partition that reports are drawn from
NOVEL_ROWS = 200  # with the largest novelty that are kept to be shown
SHOWN_CHARACTERS = 1_000  # of a prompt or response that samples keep
BATCH_ROWS = 8_192  # with their texts in memory at once

COLUMNS = [metric for metric in BUILT_IN if metric in INTERACTION_SCHEMA.names]
INPUTS = [metric for metric in COLUMNS if metric.group == "inputs"]
OUTPUTS = [metric for metric in COLUMNS if metric.group != "inputs"]
EMBEDDING = [f"{Metric.PROMPT_EMBEDDING}/{direction}" for direction in range(DIRECTIONS)]
TOPIC_COLUMNS = [Metric.PROMPT_TOPIC, Metric.PROMPT_NOVELTY, *EMBEDDING]
SAMPLED = ["row", "digest", "prompt", "response", JUDGE_REASON, *COLUMNS, Metric.PROMPT_TOPIC, Metric.PROMPT_NOVELTY]

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Measured:
    """What is kept of a partition of interactions.

    `sample` and `novel` have the columns `SAMPLED` and those of own metrics, in order of row and of falling novelty;
    texts are cut to `SHOWN_CHARACTERS`.
    """

    profile: Profile
    sample: pa.Table
    novel: pa.Table
    rows: int


def measure(  # noqa: PLR0917
    file: Path, topics: Topics, embedder: Embedder, segments: list[str], report: Report, own: Sequence[Metric] = ()
) -> Measured:
    """Measure a Parquet file with the columns of INTERACTION_SCHEMA; memory does not grow with its rows.

    Rows without a response (null) count for the inputs only: a reference has more prompts than answers.

    :param segments: metadata keys by which the profile looks apart.
    :param report: called with embedded rows done and in all.
    :param own: metrics of own scorers that are columns of the file, too.
    :raises BadInput: a column is missing.
    """
    metadata = ["metadata"] if segments else []
    measured = [*OUTPUTS, *own, Metric.PROMPT_LANGUAGE]
    categorical = CATEGORICAL | {metric for metric in own if metric.categorical}
    inputs = profile_of(read_batches(file, [*INPUTS, *metadata]), INPUTS, segments)
    # The language is among the columns of every pass, because profiles look apart by it; it counts in the first.
    answered = (
        batch.filter(batch["response_characters"].is_valid())
        for batch in read_batches(file, [*measured, *metadata], categorical=categorical)
    )
    outputs = profile_of(answered, measured, segments, categorical).without({Metric.PROMPT_LANGUAGE})
    rows = pq.read_metadata(file).num_rows
    looks = _Looks(rows, own)
    batches = looks.over(_embedded(file, rows, topics, embedder, report, own))
    placed = profile_of(batches, [*TOPIC_COLUMNS, Metric.PROMPT_LANGUAGE], segments).without({Metric.PROMPT_LANGUAGE})
    return Measured(merge([inputs, outputs, placed, count_unscored(file)]), looks.sample, looks.novel, rows)


def sample_of(file: Path, own: Sequence[Metric]) -> pa.Table:
    """Return at most about `SAMPLE_ROWS` rows of a Parquet file, always the same ones, with their columns that are no texts.

    :raises BadInput: a column is missing.
    """
    columns, share = ["row", *COLUMNS, *own], SAMPLE_ROWS / max(pq.read_metadata(file).num_rows, 1)
    batches = read_batches(file, columns, categorical=())
    kept = [batch.filter(pa.array(chosen(batch["row"].to_numpy(), share))) for batch in batches]
    return pa.Table.from_batches(kept) if kept else pq.read_table(file, columns=columns)


def chosen(rows: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.bool_]:
    """Return which row numbers belong to a share of all: always the same ones, and a smaller share's are among them.

    Multiples of the golden ratio modulo 1 are spread more evenly than chance (Knuth, The Art of Computer Programming,
    volume 3, section 6.4).
    """
    places = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray(places.astype(np.float64) < share * 2.0**64)


def _embedded(  # noqa: PLR0917
    file: Path, rows: int, topics: Topics, embedder: Embedder, report: Report, own: Sequence[Metric]
) -> Iterator[pa.RecordBatch]:
    """The chosen rows with all that is known of them, the columns of their topics included."""
    share, done = EMBEDDED_ROWS / max(rows, 1), 0
    names = pa.array(topics.names)
    columns = ["row", "digest", "prompt", "response", "metadata", *COLUMNS, *own]
    reasons = [JUDGE_REASON] if JUDGE_REASON in pq.read_schema(file).names else []
    for batch in read_batches(file, [*columns, *reasons], BATCH_ROWS):
        kept = batch.filter(pa.array(chosen(batch["row"].to_numpy(), share)))
        if not reasons:
            kept = kept.append_column(JUDGE_REASON, pa.nulls(kept.num_rows, pa.string()))
        placed = topics.place(embedder(kept["prompt"].to_pylist()))
        kept = kept.append_column(Metric.PROMPT_TOPIC, pa.DictionaryArray.from_arrays(placed.topic, names))
        kept = kept.append_column(Metric.PROMPT_NOVELTY, pa.array(placed.novelty))
        for direction, name in enumerate(EMBEDDING):
            kept = kept.append_column(name, pa.array(placed.projections[:, direction]))
        done += kept.num_rows
        report(done, min(rows, EMBEDDED_ROWS))
        yield kept


class _Looks:
    """Keeps the sample and the most novel rows of the batches that pass by."""

    def __init__(self, rows: int, own: Sequence[Metric]) -> None:
        self._share = SAMPLE_ROWS / max(rows, 1)
        schema = pa.schema([field.with_nullable(True) for field in _sampled_schema(own)])
        self.sample = self.novel = schema.empty_table()

    def over(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            numbers = batch["row"].to_numpy()
            self.sample = pa.concat_tables(
                [self.sample, self._cut(batch.filter(pa.array(chosen(numbers, self._share))))]
            )
            self.novel = _most_novel(pa.concat_tables([self.novel, self._cut(batch)]))
            yield batch

    def _cut(self, batch: pa.RecordBatch) -> pa.Table:
        """The sampled columns of some rows, their texts cut."""
        arrays = []
        for field in self.sample.schema:
            column = batch[field.name]
            if field.name in {"prompt", "response"}:
                column = pc.utf8_slice_codeunits(column, 0, SHOWN_CHARACTERS)
            arrays.append(column.cast(field.type))
        return pa.Table.from_arrays(arrays, schema=self.sample.schema)


def _most_novel(table: pa.Table) -> pa.Table:
    """The rows with the largest novelty; of equal prompts, which are equally novel, the first."""
    table = table.sort_by([(Metric.PROMPT_NOVELTY, "descending"), ("prompt", "ascending"), ("row", "ascending")])
    prompts = table["prompt"].to_pylist()
    new = [place for place, prompt in enumerate(prompts) if place == 0 or prompt != prompts[place - 1]]
    return table.take(new[:NOVEL_ROWS])


def _sampled_schema(own: Sequence[Metric]) -> pa.Schema:
    types = {field.name: field.type for field in interaction_schema(own)}
    types |= {str(Metric.PROMPT_TOPIC): pa.string(), str(Metric.PROMPT_NOVELTY): pa.float32()}
    return pa.schema([(str(name), types[str(name)]) for name in [*SAMPLED, *own]])
