"""The files of a snapshot: the rows to train on, and the held-out rows that no training row resembles."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.data.examples import EXAMPLE_SCHEMA, Split, read_examples
from nightshift.data.leakage import HeldOut, asked, asked_of
from nightshift.data.snapshot import HELD_OUT, TRAIN, Published, Selection
from nightshift.storage.files import scratch
from nightshift.storage.partition import fetch

Report = Callable[[int, int], None]


def write_training_set(selection: Selection, folder: Path, report: Report) -> dict[str, int]:
    """Write `train.parquet` (in order of time) and `held_out.parquet` (in order of digest); return the counts.

    Both have the columns of `examples.parquet`. Of the counts, `rows` is the sum of all others. One day and the
    held-out rows are in memory at a time.

    :param report: called with steps done and steps in all.
    :raises BadInput: a partition is damaged.
    """
    counts = Counter(rows=0, train=0, held_out=0, traffic=0, unanswered=0, duplicates=0, seen_in_training=0)
    steps = len(selection.window) + len(selection.trained) + len(selection.snapshots)
    taken: dict[Split, set[str]] = {"train": set(), "held_out": set()}
    judged = []
    with pq.ParquetWriter(folder / TRAIN, EXAMPLE_SCHEMA, compression="zstd") as writer:
        for done, published in enumerate(selection.window):
            report(done, steps)
            table = read_examples(published.partition, published.manifest)
            counts["rows"] += table.num_rows
            counts["traffic"] += table.filter(pc.field("split") == "traffic").num_rows
            train = _usable(table, "train", taken, counts)
            counts["train"] += train.num_rows
            writer.write_table(train)
            judged.append(_usable(table, "held_out", taken, counts))
    unseen = _without_seen(pa.concat_tables(judged), selection, report)
    counts["held_out"] = unseen.num_rows
    counts["seen_in_training"] = sum(table.num_rows for table in judged) - unseen.num_rows
    pq.write_table(unseen.sort_by("digest"), folder / HELD_OUT, compression="zstd")
    return dict(counts)


def _usable(table: pa.Table, split: Split, taken: dict[Split, set[str]], counts: Counter[str]) -> pa.Table:
    """The answered rows of a split that no earlier day had, word for word."""
    rows = table.filter(pc.field("split") == split)
    answered = rows.filter(pc.field("answer").is_valid())
    counts["unanswered"] += rows.num_rows - answered.num_rows
    new = []
    for digest in answered["digest"].to_pylist():
        new.append(digest not in taken[split])
        taken[split].add(digest)
    counts["duplicates"] += new.count(False)
    return answered.filter(pa.array(new, pa.bool_()))


def _without_seen(table: pa.Table, selection: Selection, report: Report) -> pa.Table:
    digests, messages = table["digest"].to_pylist(), table["messages"].to_pylist()
    held_out = HeldOut({digest: asked(turns) for digest, turns in zip(digests, messages, strict=True)})
    sources: list[tuple[Published, str | None]] = [
        *((published, None) for published in selection.trained),
        *((snapshot, TRAIN) for snapshot in selection.snapshots),
    ]
    for done, (published, file) in enumerate(sources):
        report(len(selection.window) + done, len(selection.window) + len(sources))
        held_out.take_away(asked_of(_trained_rows(published, file)))
    return table.filter(pa.array([digest not in held_out.seen for digest in digests], pa.bool_()))


def _trained_rows(published: Published, file: str | None) -> pa.Table:
    if file is None:
        return read_examples(published.partition, published.manifest, split="train")
    folder = scratch(published.partition.parent)
    try:
        return pq.read_table(
            fetch(published.partition, published.manifest, file, folder), columns=["digest", "messages"]
        )
    finally:
        shutil.rmtree(folder)
