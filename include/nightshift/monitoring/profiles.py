"""What an interval's rows look like, by metric and segment: small, exact enough to judge by, and additive.

Numbers are kept as histograms (cells.py), categories as counts. A profile is made in one pass over record batches, its
size depends on how different the rows are and not on how many, and the profile of two intervals is the sum of theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.errors import BadInput
from nightshift.monitoring.cells import Numbers, sum_of
from nightshift.monitoring.counting import ALL_ROWS, OTHER, Categories, CategoryCounter, NumberCounter, Segmentation
from nightshift.settings.metrics import CATEGORICAL, Metric

PROFILE = "profile.parquet"
PROFILE_SCHEMA = pa.schema(
    [
        pa.field("segment", pa.string(), nullable=False),  # "": all rows; else column=value
        pa.field("metric", pa.string(), nullable=False),  # a Metric, prompt_embedding/<direction> or <score>/<Unscored>
        pa.field("cell", pa.int32()),  # of a number; null: a category, or missing
        pa.field("category", pa.string()),  # null: a number, or missing
        pa.field("count", pa.int64(), nullable=False),
    ]
)
MOST_CATEGORIES = 1_000  # of one metric; the rarer ones count as OTHER
BATCH_ROWS = 1 << 18


Distribution: TypeAlias = Numbers | Categories


@dataclass(frozen=True)
class Profile:
    """Distributions by segment and metric name; the segment of all rows is `ALL_ROWS`."""

    distributions: dict[tuple[str, str], Distribution]

    def rows(self, segment: str = ALL_ROWS) -> int:
        """Rows of a segment: those of its metric with the most, missing values included."""
        found = [one.rows + one.missing for (place, _), one in self.distributions.items() if place == segment]
        return max(found, default=0)

    def segments(self) -> list[str]:
        """Names of the segments, `ALL_ROWS` left out."""
        return sorted({segment for segment, _ in self.distributions} - {ALL_ROWS})

    def metrics(self, segment: str = ALL_ROWS) -> list[str]:
        """Names of what was measured of a segment."""
        return sorted(metric for place, metric in self.distributions if place == segment)

    def get(self, metric: str, segment: str = ALL_ROWS) -> Distribution | None:
        """Return one distribution, or None where that was not measured."""
        return self.distributions.get((segment, metric))

    def without(self, metrics: Collection[str]) -> Profile:
        """Return the same without some metrics."""
        return Profile({key: one for key, one in self.distributions.items() if key[1] not in metrics})


def read_batches(
    file: Path, columns: Sequence[str], batch_rows: int = BATCH_ROWS, categorical: Collection[str] = CATEGORICAL
) -> Iterator[pa.RecordBatch]:
    """Yield only `columns` of a Parquet file, the `categorical` ones as dictionaries: what :func:`profile_of` reads.

    Row groups are joined up to at least `batch_rows` rows, and larger ones are split into so many: counting has a cost
    per batch.

    :raises BadInput: the file lacks one of the columns, or is no Parquet file.
    """
    try:
        missing = set(columns) - set(pq.read_schema(file).names)
        of_before = {Metric.RETRIEVAL_RELEVANCE}  # lacking in partitions of before there were indexes
        if lacking := sorted(missing - of_before):
            raise BadInput(f"{file} has no column {', '.join(lacking)}")
        dictionaries = sorted(set(categorical).intersection(columns))
        # pre_buffer would hold all that was read of the file until its end.
        with pq.ParquetFile(file, read_dictionary=dictionaries, pre_buffer=False) as reader:
            # One thread: an interval's profile is short, and its threads would take the processors of other tasks.
            held: list[pa.RecordBatch] = []
            present = [name for name in columns if name not in missing]
            for batch in reader.iter_batches(batch_rows, columns=present, use_threads=False):
                for name in missing:
                    batch = batch.append_column(name, pa.nulls(len(batch), pa.float32()))  # noqa: PLW2901
                held.append(batch)
                if sum(len(one) for one in held) >= batch_rows:
                    yield _joined(held)
                    held = []
            if held:
                yield _joined(held)
    except pa.ArrowInvalid as error:
        raise BadInput(f"{file}: not a readable Parquet file: {error}") from error


def profile_of(
    batches: Iterable[pa.RecordBatch],
    metrics: Sequence[str],
    segments: Sequence[str] = (),
    categorical: Collection[str] = CATEGORICAL,
) -> Profile:
    """Return the profile of the `metrics` columns of all batches, over all rows and by segment.

    Numbers that are null, NaN or infinite count as missing. Of a categorical metric the 1,000 most frequent categories
    are kept (of equally frequent ones the first by name). Segments are the values of `prompt_language`, where that is
    one of the metrics, and of the metadata keys in `segments`; of each, the first 50 values to appear, the most
    frequent of a batch first.

    :param metrics: column names; those that are `categorical` hold strings (or dictionaries of strings), the others
        numbers of any type.
    :param segments: keys of the batches' `metadata` column, a map from string to string.
    :raises BadInput: a batch lacks a column.
    """
    columns = [*([Metric.PROMPT_LANGUAGE] if Metric.PROMPT_LANGUAGE in metrics else []), *segments]
    segmentations = [Segmentation(column) for column in dict.fromkeys(columns)]
    counters = {
        metric: (CategoryCounter if metric in categorical else NumberCounter)(segmentations) for metric in metrics
    }
    needed = {*metrics, *(["metadata"] if segments else [])}
    for batch in batches:
        lacking = sorted(needed - set(batch.schema.names))
        if lacking:
            raise BadInput(f"the rows to profile have no column {', '.join(lacking)}")
        numbers = [segmentation.numbers(batch) for segmentation in segmentations]
        for metric, counter in counters.items():
            counter.add(batch[metric], numbers)
    return Profile(
        {
            (segment, metric): _sum([one])
            for metric, counter in counters.items()
            for segment, one in counter.distributions()
        }
    )


def merge(profiles: Iterable[Profile]) -> Profile:
    """Return the profile of all rows of `profiles` together; what only some of them measured is taken from those."""
    found: dict[tuple[str, str], list[Distribution]] = {}
    for profile in profiles:
        for key, one in profile.distributions.items():
            found.setdefault(key, []).append(one)
    return Profile({key: _sum(held) for key, held in found.items()})


def write_profile(profile: Profile, file: Path) -> None:
    """Write a profile as Parquet with the columns of PROFILE_SCHEMA, ordered by all of them: equal profiles, equal bytes."""
    tables = [_table(segment, metric, one) for (segment, metric), one in sorted(profile.distributions.items())]
    pq.write_table(pa.concat_tables([PROFILE_SCHEMA.empty_table(), *tables]), file, compression="zstd")


def read_profile(file: Path, categorical: Collection[str] = CATEGORICAL) -> Profile:
    """Return a profile that :func:`write_profile` wrote.

    :param categorical: the metrics whose values are categories; a profile does not say of which kind missing values are.
    :raises BadInput: the file holds no profile.
    """
    try:
        table = pq.read_table(file)
    except pa.ArrowInvalid as error:
        raise BadInput(f"{file}: not a profile: {error}") from error
    if not table.schema.equals(PROFILE_SCHEMA):
        raise BadInput(f"{file}: not a profile: its columns are {', '.join(table.schema.names)}")
    distributions: dict[tuple[str, str], Distribution] = {}
    segments, metrics = (table[name].combine_chunks().dictionary_encode() for name in ("segment", "metric"))
    codes = segments.indices.to_numpy().astype(np.int64) * max(len(metrics.dictionary), 1) + metrics.indices.to_numpy()
    edges = np.flatnonzero(np.diff(codes, prepend=-1, append=-1))
    for start, end in pairwise(edges.tolist()):
        part = table.slice(start, end - start)
        metric = part["metric"][0].as_py()
        counts = part["count"].to_numpy()
        named = part["category" if metric in categorical else "cell"].combine_chunks()
        known = named.is_valid().to_numpy(zero_copy_only=False)
        missing = int(counts[~known].sum())
        kept = named.drop_null()
        distributions[part["segment"][0].as_py(), metric] = (
            Categories(dict(zip(kept.to_pylist(), counts[known].tolist(), strict=True)), missing)
            if metric in categorical
            else Numbers(kept.to_numpy(), counts[known], missing)
        )
    return Profile(distributions)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Return several batches as one; their dictionaries may differ."""
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()[0]


def _sum(distributions: Sequence[Distribution]) -> Distribution:
    """Return the distribution of all rows together; of categories, the most frequent, and the rest as OTHER."""
    numbers = [one for one in distributions if isinstance(one, Numbers)]
    if numbers:
        return numbers[0] if len(numbers) == 1 else sum_of(numbers)
    counts: Counter[str] = Counter()
    missing = 0
    for one in distributions:
        if isinstance(one, Categories):
            counts.update(one.counts)
            missing += one.missing
    if len(counts) > MOST_CATEGORIES:
        other = counts.pop(OTHER, 0)
        ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        counts = Counter(dict(ranked[:MOST_CATEGORIES]))
        counts[OTHER] = other + sum(count for _, count in ranked[MOST_CATEGORIES:])
    return Categories(dict(sorted(counts.items())), missing)


def _table(segment: str, metric: str, one: Distribution) -> pa.Table:
    """Return the rows of PROFILE_SCHEMA for one distribution; those of missing values come last."""
    categorical = isinstance(one, Categories)
    named = list(one.counts) if isinstance(one, Categories) else one.cells
    counts = list(one.counts.values()) if isinstance(one, Categories) else one.counts
    rows = len(named)
    table = pa.table(
        {
            "segment": pa.repeat(segment, rows),
            "metric": pa.repeat(metric, rows),
            "cell": pa.nulls(rows, pa.int32()) if categorical else pa.array(named, pa.int32()),
            "category": pa.array(named, pa.string()) if categorical else pa.nulls(rows, pa.string()),
            "count": pa.array(counts, pa.int64()),
        },
        PROFILE_SCHEMA,
    )
    if not one.missing:
        return table
    row = {"segment": segment, "metric": metric, "cell": None, "category": None, "count": one.missing}
    return pa.concat_tables([table, pa.Table.from_pylist([row], PROFILE_SCHEMA)])
