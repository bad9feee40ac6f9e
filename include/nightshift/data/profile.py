"""The measures of an examples partition: one row of numbers from one query, whatever its size."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import duckdb

from nightshift.settings.intake import Measure
from nightshift.storage.partition import Manifest

MEASURES: tuple[str, ...] = get_args(Measure.model_fields["measure"].annotation)


def profile(examples: Path, manifest: Manifest) -> dict[str, float]:
    """Return every measure of `Measure` that a partition has; one without examples has only counts and shares of rows.

    :param examples: the partition's examples.parquet.
    """
    counts = manifest.counts
    rows_in = counts["rows_in"]
    with duckdb.connect() as database:
        found = database.execute(
            """
            WITH examples AS (FROM read_parquet(?)),
            languages AS (SELECT language, count(*) AS n FROM examples GROUP BY language)
            SELECT
                avg((cardinality(pii) > 0)::INT) AS pii_share,
                avg((answer IS NOT NULL)::INT) AS answered_share,
                (SELECT max(n) / sum(n) FROM languages) AS main_language_share,
                count(DISTINCT answer) AS distinct_answers,
                quantile_cont(prompt_characters, 0.5) AS prompt_characters_median,
                quantile_cont(prompt_tokens, 0.99) AS prompt_tokens_p99,
                quantile_cont(answer_tokens, 0.99) AS answer_tokens_p99
            FROM examples
            """,
            [str(examples)],
        )
        names = [column[0] for column in found.description]
        measured = dict(zip(names, found.fetchone() or [], strict=True))
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
    return {name: float(measured[name]) for name in MEASURES if measured.get(name) is not None}
