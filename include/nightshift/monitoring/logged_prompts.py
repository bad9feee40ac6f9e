"""The logged prompts of a shadow: those that the champion answered in its newest intervals, and no model was trained on.

Of each interval a sample is drawn by digest, so the memory that this takes does not grow with the intervals.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.examples import EXAMPLE_SCHEMA, EXAMPLES, ROWS_AT_ONCE, RowWriter
from nightshift.data.interactions import INTERACTIONS
from nightshift.data.unseen import seen_in_training
from nightshift.inference.prompts import Prompts
from nightshift.monitoring.due_intervals import Answered
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.settings.split import Arm
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, require_manifest
from nightshift.storage.partition import fetch, partition_of, publish

DRAWN = 3  # rows for each that is wanted, as some resemble what was trained on
JUDGED_BY = ("reference", "judge")  # columns, one of which says whether an answer is good; the first is the better one
ANSWER = ["response", "valid", "judge", "latency_ms", "response_tokens", "response_characters"]
COLUMNS = ["row", "digest", "prompt", "reference", *ANSWER]
FURTHER = ("cost", "generated_tokens")  # which interactions of before lack

Row = dict[str, Any]


@dataclass(frozen=True)
class LoggedPrompts:
    """Prompts with the champion's answers, in the order in which a candidate answers them.

    :param rows: the columns of :func:`columns_of` of their interactions, `night` (key of its interval) and
        `unit` (who asked).
    :param examples: the same rows as examples, in `EXAMPLE_SCHEMA`.
    :param judged_by: the column that says whether the answers are good; None: too few rows have one.
    :param intervals: the interactions that they were read from.
    """

    rows: list[Row]
    examples: list[Row]
    judged_by: str | None
    intervals: list[Answered]

    def parts(self, looks: int, smallest: int) -> list[slice]:
        """Return nearly equal parts of whole units, each of at least `smallest` rows where there are so many."""
        count = max(1, min(looks, len(self.rows) // smallest))
        units = [row["unit"] for row in self.rows]
        cuts = {0, len(units)}
        for part in range(1, count):
            cut = len(units) * part // count
            while cut < len(units) and units[cut] == units[cut - 1]:
                cut += 1
            cuts.add(cut)
        edges = sorted(cuts)
        return [slice(first, last) for first, last in pairwise(edges)]

    def publish(self, part: slice, storage: str, application: str) -> tuple[UPath, Manifest]:
        """Publish a part as prompts of their own, or find them."""
        rows = self.examples[part]
        key = hashlib.sha256("".join(row["digest"] for row in rows).encode()).hexdigest()
        at = partition_of(storage, application, "shadow_prompts", key[:16])
        with scratch_folder(UPath(storage)) as folder:
            with RowWriter(folder / EXAMPLES, EXAMPLE_SCHEMA) as writer:
                writer.write(rows)
            intervals = [one.interval for one in self.intervals]
            spanned = Interval(start=min(one.start for one in intervals), end=max(one.end for one in intervals))
            manifest = publish(
                at, folder, kind="traffic", application=application, inputs={"rows": key}, interval=spanned,
                rows={EXAMPLES: len(rows)}, counts={"rows": len(rows)},
            )  # fmt: skip
        return at, manifest


def logged_prompts(answered: Iterable[Answered], application: Application, storage: str, salt: str) -> LoggedPrompts:
    """Return prompts of the intervals, in the order of `answered`: as many as the application's shadow asks for, if there are.

    Rows whose answers can be compared come before others: with a known answer, then with a judge's score.

    :param salt: another one draws other rows.
    :raises BadInput: an interval, its prompts, the split map or a training set is damaged.
    """
    assert application.shadow is not None  # noqa: S101  (without one nobody asks)
    wanted, fewest = application.shadow.prompts, application.shadow.min_prompts
    found: list[tuple[Row, Row]] = []
    read: list[Answered] = []
    for interactions in answered:
        read.append(interactions)
        found += rows_of_interval(interactions, application, storage, salt, DRAWN * wanted)
        if sum(row["reference"] is not None for row, _ in found) >= wanted:
            break
    judged_by = None
    for column in JUDGED_BY:
        told = [pair for pair in found if pair[0][column] is not None]
        if len(told) >= fewest:
            judged_by, found = column, told
            break
    # What nothing can compare is answered for people to read.
    found = found[: wanted if judged_by else fewest]
    found.sort(key=lambda pair: (_drawn(salt, pair[0]["unit"]), pair[0]["unit"]))
    return LoggedPrompts([row for row, _ in found], [example for _, example in found], judged_by, read)


def rows_of_interval(
    interactions: Answered, application: Application, storage: str, salt: str, most: int
) -> Iterator[tuple[Row, Row]]:
    """Yield those interactions of an interval that no model was trained on, with their examples; comparable ones come first.

    :param most: rows that are drawn, by digest and `salt`.
    :raises BadInput: the interval, its prompts, the split map or a training set is damaged.
    """
    manifest = require_manifest(interactions.partition, interactions.digest)
    with scratch_folder(UPath(storage)) as folder:
        table = _sampled(fetch(interactions.partition, manifest, INTERACTIONS, folder), most, salt, application)
        if not table.num_rows:
            return
        seen = seen_in_training(table, storage, application.name)
        table = table.filter(pc.invert(pc.is_in(table["digest"], value_set=pa.array(sorted(seen), pa.string()))))
        asked = UPath(manifest.parents[0].uri)
        arm = Arm.model_validate(manifest.inputs["arm"]) if "arm" in manifest.inputs else None
        prompts = Prompts(asked, require_manifest(asked, manifest.parents[0].digest), folder / "prompts", arm)
        examples = _read(prompts, table["row"].to_pylist())
        mean_cost = manifest.facts["cost"] / manifest.counts["rows"] if "cost" in manifest.facts else None
        # What another judge said, or was valid in another form, cannot be compared with what is measured now.
        measured = {"judge": application.judged_by, "valid": application.inference.response_format}
        asked_for = {"judge": manifest.inputs.get("judge"), "valid": manifest.inputs.get("response_format")}
        measured |= application.made_by_own_scorers.get("scorers", {})
        asked_for |= manifest.inputs.get("scorers", {})
        stale = {column: None for column, setting in measured.items() if asked_for.get(column) != setting}
        rows = [
            {
                "cost": mean_cost,
                **row,
                **stale,
                "night": interactions.key,
                "unit": examples[row["row"]]["subject"] or row["digest"],
            }
            for row in table.to_pylist()
        ]
        for row in sorted(rows, key=lambda row: (_rank(row), _drawn(salt, row["digest"]))):
            yield row, examples[row["row"]] | {"split": "traffic"}


def columns_of(application: Application, schema: pa.Schema) -> list[str]:
    """Return `COLUMNS`, and of what guard rails look at those columns that a file of interactions has."""
    own = (name for name, scorer in application.scorers.items() if scorer.kind == "share")
    return [*COLUMNS, *(name for name in (*FURTHER, *own) if name in schema.names)]


def _sampled(file: Path, most: int, salt: str, application: Application) -> pa.Table:
    """At most so many rows of a local file of interactions, with the columns of :func:`columns_of`."""
    with pq.ParquetFile(file, pre_buffer=False) as rows:
        columns = columns_of(application, rows.schema_arrow)

        def keys() -> Iterator[tuple[int, bytes, int]]:
            for batch in rows.iter_batches(ROWS_AT_ONCE, columns=["row", "digest", *JUDGED_BY]):
                for row in batch.to_pylist():
                    yield _rank(row), _drawn(salt, row["digest"]), row["row"]

        chosen = pa.array([row for _, _, row in heapq.nsmallest(most, keys())], pa.int64())
        batches = rows.iter_batches(ROWS_AT_ONCE, columns=columns)
        kept = [batch.filter(pc.is_in(batch["row"], value_set=chosen)) for batch in batches]
    return pa.Table.from_batches(kept, rows.schema_arrow.empty_table().select(columns).schema).select(columns)


def _rank(row: Row) -> int:
    return next((place for place, column in enumerate(JUDGED_BY) if row[column] is not None), len(JUDGED_BY))


def _drawn(salt: str, text: str) -> bytes:
    return hashlib.blake2b(f"{salt}:{text}".encode(), digest_size=8).digest()


def _read(prompts: Prompts, rows: list[int]) -> dict[int, Row]:
    """Rows of prompts by their number; neighbours are read together."""
    found: dict[int, Row] = {}
    left = sorted(rows)
    while left:
        near = [row for row in left if row < left[0] + ROWS_AT_ONCE]
        table = prompts.read(near[0], near[-1], EXAMPLE_SCHEMA.names)
        found |= zip(near, table.take([row - near[0] for row in near]).to_pylist(), strict=True)
        left = left[len(near) :]
    return found
