"""The scores of an interval's outputs by group: by segment, by language, and by who the prompt mentions.

One pass over the file for the ranks of the response lengths and one for all else; memory does not grow with the rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.data.interactions import OF_SOME_LANGUAGES
from nightshift.monitoring.bias.estimates import Sums, mean_difference, share_difference
from nightshift.monitoring.bias.mentions import WORDS, mentions
from nightshift.monitoring.bias.verdict import Finding, measured
from nightshift.settings.metrics import Metric
from nightshift.settings.scorers import Scorer

BATCH_ROWS = 65_536
MOST_VALUES = 1_000  # of a segment that are told apart; the rest counts as OTHER
LONGEST_NAME = 200  # characters of a value, which users may have written
MOST_GROUPS = 20  # of a segment that are reported, the largest
OTHER = "(other)"
SHARES = frozenset({Metric.VALID, Metric.EXACT_MATCH})  # 0 or 1, as those of own scorers are that are of this kind
LENGTH = Metric.RESPONSE_CHARACTERS
MEASURED = (Metric.TOXICITY, Metric.SENTIMENT, Metric.REFUSAL, LENGTH, Metric.VALID, Metric.EXACT_MATCH)
NO_OWN: Mapping[str, Scorer] = {}

Values = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Group:
    """A group, all that it is compared with, and their sums by metric."""

    dimension: str
    name: str
    other: str
    own: dict[Metric, Sums]
    others: dict[Metric, Sums]


def group_findings(
    file: Path,
    segments: Sequence[str],
    min_group: int,
    measured_by: Sequence[Metric] = MEASURED,
    scorers: Mapping[str, Scorer] = NO_OWN,
) -> list[Finding]:
    """Return the differences between each group of an interval and all other groups of its dimension.

    All lie between -1 and 1: probabilities and shares as they are, sentiment halved, the response's length as its
    rank among the interval's (0 the shortest, 1 the longest), values of own scorers as parts of their range. Fewer rows with
    a value than `min_group` on either side: no number. A metric that no row of a dimension has is left out.

    :param file: `interactions.parquet` of the interval.
    :param segments: keys of the metadata.
    :param measured_by: the metrics to compare, of `MEASURED`.
    :param scorers: those of the team by whose values groups are compared, too.
    """
    found = []
    metrics = {name: scorer.metric(name) for name, scorer in scorers.items()}
    shares = SHARES.union(metrics[name] for name, scorer in scorers.items() if scorer.kind == "share")
    for group in _groups(file, segments, scorers):
        rows, other_rows = (sums.get(LENGTH, Sums()).n for sums in (group.own, group.others))
        for metric in (*measured_by, *metrics.values()) if rows else ():
            own, others = group.own.get(metric, Sums()), group.others.get(metric, Sums())
            if not (own.n or others.n):
                continue
            finding = Finding(
                section="outputs", dimension=group.dimension, group=group.name, other=group.other, metric=metric,
                n=own.n, n_other=others.n,
            )  # fmt: skip
            if min(rows, other_rows) >= min_group > min(own.n, others.n):
                finding.why = _without_values(metric, own.n, rows, others.n, other_rows)
            if min(own.n, others.n) >= min_group:
                difference = (share_difference if metric in shares else mean_difference)(own, others)
                means = {"mean": round(own.mean, 6), "mean_other": round(others.mean, 6)}
                finding = measured(finding.model_copy(update=means), difference)
            found.append(finding)
    return found


def _without_values(metric: Metric, own: int, rows: int, others: int, other_rows: int) -> str:
    which = "are in a language that its scorer knows" if metric in OF_SOME_LANGUAGES else "have a value"
    return f"only {own:,} of {rows:,} rows, and {others:,} of {other_rows:,} of the others, {which}"


def _groups(file: Path, segments: Sequence[str], scorers: Mapping[str, Scorer]) -> Iterator[Group]:
    ranks = _ranks(file)
    values: dict[tuple[str, str], dict[Metric, Sums]] = defaultdict(dict)
    named: dict[tuple[str, str], tuple[dict[Metric, Sums], dict[Metric, Sums]]] = defaultdict(lambda: ({}, {}))
    columns = ["metadata", "prompt", "prompt_language", *MEASURED, *scorers]
    for batch in pq.ParquetFile(file, pre_buffer=False).iter_batches(BATCH_ROWS, columns=columns):
        scores = {metric: _scores(batch, metric, ranks) for metric in MEASURED}
        scores |= {scorer.metric(name): _parts_of_range(batch.column(name), scorer) for name, scorer in scorers.items()}
        for dimension, column in _segments(batch, segments):
            _add_values(values, dimension, column, scores)
        masks = list(mentions(batch.column("prompt")))
        for dimension in WORDS:
            of = {group: mask for where, group, mask in masks if where == dimension}
            someone = np.logical_or.reduce(list(of.values()))
            for group, mask in of.items():
                own, others = named[dimension, group]
                _add(own, scores, mask)
                _add(others, scores, someone & ~mask)
    for dimension in dict.fromkeys(dimension for dimension, _ in values):
        yield from _segment_groups(
            dimension, {name: sums for (where, name), sums in values.items() if where == dimension}
        )
    for (dimension, group), (own, others) in named.items():
        yield Group(f"mentioned {dimension}", group, "prompts that mention another", own, others)


def _segment_groups(dimension: str, groups: dict[str, dict[Metric, Sums]]) -> Iterator[Group]:
    """The largest groups of a segment, each against all rows of the segment's other values."""
    total: dict[Metric, Sums] = {}
    for sums in groups.values():
        for metric, one in sums.items():
            total[metric] = total.get(metric, Sums()) + one
    order = sorted(groups, key=lambda name: (-max(one.n for one in groups[name].values()), name))
    for name in order[:MOST_GROUPS]:
        others = {metric: sums - groups[name].get(metric, Sums()) for metric, sums in total.items()}
        yield Group(dimension, name, "all others", groups[name], others)


def _segments(batch: pa.RecordBatch, segments: Sequence[str]) -> Iterator[tuple[str, pa.Array]]:
    for key in segments:
        yield key, pc.map_lookup(batch.column("metadata"), pa.scalar(key), "first")
    if Metric.PROMPT_LANGUAGE not in segments:
        yield Metric.PROMPT_LANGUAGE, batch.column("prompt_language")


def _add_values(
    values: dict[tuple[str, str], dict[Metric, Sums]], dimension: str, column: pa.Array, scores: dict[Metric, Values]
) -> None:
    encoded = column.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    known = Counter(where for where, _ in values)[dimension]
    for code, value in enumerate(encoded.dictionary.to_pylist()):
        name = str(value)[:LONGEST_NAME]
        if (dimension, name) not in values:
            known += 1
            name = name if known <= MOST_VALUES else OTHER
        _add(values[dimension, name], scores, codes == code)


def _add(sums: dict[Metric, Sums], scores: dict[Metric, Values], mask: np.ndarray) -> None:
    for metric, column in scores.items():
        chosen = column[mask]
        chosen = chosen[~np.isnan(chosen)]
        if chosen.size:
            new = Sums(int(chosen.size), float(chosen.sum()), float((chosen * chosen).sum()))
            sums[metric] = sums.get(metric, Sums()) + new


def _scores(batch: pa.RecordBatch, metric: Metric, ranks: Values) -> Values:
    """A metric's values between 0 and 1; NaN where it is not known."""
    column = batch.column(metric)
    if metric is LENGTH:
        return np.asarray(ranks[column.to_numpy(zero_copy_only=False)], np.float64)
    numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray((numbers + 1) / 2 if metric is Metric.SENTIMENT else numbers, np.float64)


def _parts_of_range(column: pa.Array, scorer: Scorer) -> Values:
    """Values of an own scorer, 0 for the smallest one and 1 for the largest; NaN where a row has none."""
    low, high = scorer.range or (0.0, 1.0)
    numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray((numbers - low) / (high - low), np.float64)


def _ranks(file: Path) -> Values:
    """For each length in characters, the share of the interval's responses that are shorter, and half of those as long."""
    counts = np.zeros(1, np.int64)
    for batch in pq.ParquetFile(file, pre_buffer=False).iter_batches(BATCH_ROWS, columns=[LENGTH]):
        new = np.bincount(batch.column(0).to_numpy(zero_copy_only=False))
        if len(new) > len(counts):
            counts, new = new, counts
        counts[: len(new)] += new
    return np.asarray((counts.cumsum() - counts / 2) / max(counts.sum(), 1), np.float64)
