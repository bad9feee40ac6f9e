"""Answers that people judged, each for itself: from pairs, corrections, thumbs and ratings, for a training by KTO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.corrections import CORRECTION, DESIRABLE, KIND
from nightshift.data.examples import ROWS_AT_ONCE, Split, example_batches
from nightshift.data.partition_rows import quoted
from nightshift.data.similarity import connect
from nightshift.data.snapshot import JUDGED
from nightshift.storage.manifest import Manifest
from nightshift.storage.partition import fetch

SIDES: tuple[Split, ...] = ("train", "held_out")
TAKEN = ["digest", "messages", "tools", "metadata", "rejected", "response", "split"]
# What is asked, and an answer (`said`) that is good or bad.
OF_EXAMPLES = f"""
    SELECT digest, messages[:-2] AS asked, tools, metadata, messages[-1] AS said, true AS desirable FROM given
    WHERE rejected IS NOT NULL OR metadata['{KIND}'] = '{CORRECTION}'
    UNION ALL SELECT digest, messages[:-2], tools, metadata, rejected, false FROM given WHERE rejected IS NOT NULL
"""  # noqa: S608
OF_JUDGED = f"""
    SELECT digest, messages, tools, metadata,
        {{'role': 'assistant', 'content': response, 'tool_calls': NULL, 'tool_call_id': NULL}}::message,
        metadata['{KIND}'] = '{DESIRABLE}' FROM given
"""  # noqa: S608
# Good and bad answers by turns, as long as there are both: the first rows are what is measured of those held out. Otherwise by
# chance, so that rows with the same prompt are seldom neighbours.
MIXED = """
    SELECT *, row_number() OVER (PARTITION BY desirable ORDER BY chance) AS place
    FROM (SELECT *, md5(digest || desirable) AS chance FROM answers)
"""


def write_judged(
    examples: Path, judged: Path | None, split: Split, target: Path, columns: Sequence[str]
) -> tuple[int, int]:
    """Write the judged answers of one side of a snapshot, mixed; return how many are good, and how many bad.

    Each row has some of the columns of examples, `desirable`, and in `rejected` the answer of another row, to another prompt. Of
    a pair both answers are judged, a correction is a good one.

    :param examples: local file of that side.
    :param judged: local `judged.parquet` of the snapshot, where it has one.
    """
    with connect(target.parent) as database:
        database.execute(
            "CREATE TYPE message AS STRUCT(role VARCHAR, content VARCHAR, tool_calls VARCHAR, tool_call_id VARCHAR); "
            "CREATE TABLE answers (digest VARCHAR, asked message[], tools VARCHAR, metadata MAP(VARCHAR, VARCHAR), "
            "said message, desirable BOOLEAN)"
        )
        for file, query in ((examples, OF_EXAMPLES), (judged, OF_JUDGED)):
            for rows in example_batches(file, TAKEN) if file else ():
                database.register("given", rows.filter(pc.field("split") == split))
                database.execute(f"INSERT INTO answers {query}")
        names = ", ".join(map(quoted, columns))
        mixed = database.sql(
            f"SELECT {names}, rejected, desirable FROM (SELECT *, list_append(asked, said) AS messages, "  # noqa: S608
            f"coalesce(lead(said) OVER mixed, first_value(said) OVER mixed) AS rejected FROM ({MIXED}) "
            "WINDOW mixed AS (ORDER BY place, chance)) ORDER BY place, chance"
        ).to_arrow_reader(ROWS_AT_ONCE)
        with pq.ParquetWriter(target, mixed.schema, compression="zstd") as writer:
            for batch in mixed:
                writer.write_batch(batch)
        ((good, bad),) = database.execute(
            "SELECT count(*) FILTER (desirable), count(*) FILTER (NOT desirable) FROM answers"
        ).fetchall()
    return good, bad


def judged_files(
    snapshot: UPath, manifest: Manifest, examples: Sequence[Path], folder: Path, columns: Sequence[str]
) -> tuple[list[Path], list[tuple[int, int]]]:
    """Return local files of the judged answers to train on and of those held out, and of each how many are good and bad.

    :param examples: local copies of the snapshot's files of both sides.
    :param folder: for what is made.
    :raises BadInput: the snapshot is damaged.
    """
    judged = fetch(snapshot, manifest, JUDGED, folder) if manifest.counts.get("judged") else None
    files = [folder / f"judged_{split}.parquet" for split in SIDES]
    of_sides = zip(examples, SIDES, files, strict=True)
    return files, [write_judged(file, judged, split, target, columns) for file, split, target in of_sides]


def one_sided(train: tuple[int, int], held_out: tuple[int, int]) -> str | None:
    """Return what is missing, where there are not both good and bad answers to train on and held out."""
    if all((*train, *held_out)):
        return None
    (good, bad), (held_good, held_bad) = train, held_out
    return (
        f"has {good:,} good and {bad:,} bad training answers, and {held_good:,} good and {held_bad:,} bad held-out ones; "
        "each of the four is needed"
    )
