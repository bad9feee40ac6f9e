"""The measures of an examples partition: a few numbers, in memory that does not grow with its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import duckdb
import numpy as np

from nightshift.data.similarity import connect
from nightshift.settings.intake import Measure
from nightshift.storage.manifest import Manifest

MEASURES: tuple[str, ...] = get_args(Measure.model_fields["measure"].annotation)

QUANTILES = [
    ("prompt_characters", "prompt_characters_median", 0.5),
    ("prompt_tokens", "prompt_tokens_p99", 0.99),
    ("answer_tokens", "answer_tokens_p99", 0.99),
]


def profile(examples: Path, manifest: Manifest) -> dict[str, float]:
    """Return every measure of `Measure` that a partition has; one without examples has only counts and shares of rows.

    :param examples: the partition's examples.parquet.
    """
    counts = manifest.counts
    rows_in = counts["rows_in"]
    with connect(examples.parent) as database:
        found = database.execute(
            """
            SELECT avg((cardinality(pii) > 0)::INT) AS pii_share, avg((answer IS NOT NULL)::INT) AS answered_share
            FROM read_parquet(?)
            """,
            [str(examples)],
        )
        names = [column[0] for column in found.description]
        measured = dict(zip(names, found.fetchone() or [], strict=True))
        if counts["kept"]:
            languages = [rows for _, rows in _counted(database, examples, "language")]
            measured["main_language_share"] = max(languages) / sum(languages)
            for column, measure, share in QUANTILES:
                measured[measure] = _quantile(_counted(database, examples, column), share)
        # Whole answers would have to be held; of 100 million different ones, two share 64 bits in 3 of 10,000 cases.
        (measured["distinct_answers"],) = database.execute(
            "SELECT count(*) FROM (SELECT DISTINCT hash(answer) FROM read_parquet(?) WHERE answer IS NOT NULL)",
            [str(examples)],
        ).fetchone() or (0,)
    measured["rows"] = counts["kept"]
    if rows_in:
        measured["quarantined_share"] = counts["quarantined"] / rows_in
        measured["duplicate_share"] = (counts["duplicates"] + counts["near_duplicates"]) / rows_in
    if counts["kept"]:
        if splits := manifest.facts.get("splits"):
            measured["held_out_share"] = splits.get("held_out", 0) / counts["kept"]
        for name in ("largest_group", "between_sides"):
            if name in manifest.facts:
                measured[f"{name}_share"] = manifest.facts[name] / counts["kept"]
        if "names_not_searched" in manifest.facts:
            measured["names_searched_share"] = 1 - sum(manifest.facts["names_not_searched"].values()) / counts["kept"]
    return {name: float(measured[name]) for name in MEASURES if measured.get(name) is not None}


def _counted(database: duckdb.DuckDBPyConnection, examples: Path, column: str) -> list[tuple[Any, int]]:
    """The values of a column, in order, each with its rows: there are far fewer values than rows."""
    return database.execute(
        f"SELECT {column}, count(*) FROM read_parquet(?) WHERE {column} IS NOT NULL GROUP BY {column} ORDER BY {column}",  # noqa: S608
        [str(examples)],
    ).fetchall()


def _quantile(counted: list[tuple[Any, int]], share: float) -> float | None:
    """The quantile of values with their rows, between two values as `numpy.quantile` finds it."""
    if not counted:
        return None
    values, rows = np.array(counted, dtype=np.float64).T
    ends = np.cumsum(rows)
    place = share * (ends[-1] - 1)
    low, high = values[np.searchsorted(ends, [np.floor(place), np.ceil(place)], side="right")]
    return float(low + (high - low) * (place - np.floor(place)))
