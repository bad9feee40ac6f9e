"""The files of a snapshot: the rows to train on, and the held-out rows that resemble nothing ever trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.data.examples import EXAMPLE_SCHEMA, Split, read_examples
from nightshift.data.sides import resembling_trained
from nightshift.data.similarity import key_of, question_of
from nightshift.data.snapshot import HELD_OUT, TRAIN, Selection
from nightshift.data.split_map import HELD_OUT as HELD_OUT_SIDE
from nightshift.data.split_map import State

Report = Callable[[int, int], None]
ROWS_AT_ONCE = 5_000


def write_training_set(selection: Selection, state: State, folder: Path, report: Report) -> dict[str, int]:
    """Write `train.parquet` (in order of time) and `held_out.parquet` (in order of digest); return the counts.

    Both have the columns of `examples.parquet`. Of the counts, `rows` is the sum of all others. One day and the
    held-out rows are in memory at a time.

    :param state: the split map, which knows all days of the selection.
    :param report: called with steps done and steps in all.
    :raises BadInput: a partition is damaged.
    """
    names = ("rows", "train", "held_out", "traffic", "development", "unanswered", "duplicates", "seen_in_training")
    counts = Counter(dict.fromkeys(names, 0))
    taken: dict[Split, set[str]] = {"train": set(), "held_out": set()}
    judged = []
    with pq.ParquetWriter(folder / TRAIN, EXAMPLE_SCHEMA, compression="zstd") as writer:
        for done, published in enumerate(selection.window):
            report(done, len(selection.window))
            table = read_examples(published.partition, published.manifest)
            counts["rows"] += table.num_rows
            for split in ("traffic", "development"):
                counts[split] += table.filter(pc.field("split") == split).num_rows
            train = _usable(table, "train", taken, counts)
            counts["train"] += train.num_rows
            writer.write_table(train)
            judged.append(_usable(table, "held_out", taken, counts))
    unseen = _held_out(pa.concat_tables(judged), state, folder)
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


def _held_out(table: pa.Table, state: State, folder: Path) -> pa.Table:
    """The rows whose question is held out in the newest map and resembles nothing trained on by what is shared today.

    What is shared (a new instruction) is known only some time after it came: rows from before are compared once more.
    """
    questions = _questions(table)
    keys = np.array([key_of(question) for question in questions], dtype=np.uint64)
    held_out = state.sides(keys) == HELD_OUT_SIDE
    if held_out.any() and len(state.shared):
        chosen = [question for question, yes in zip(questions, held_out.tolist(), strict=True) if yes]
        with pq.ParquetFile(folder / TRAIN, pre_buffer=False) as file:
            batches = file.iter_batches(ROWS_AT_ONCE, columns=["messages"])
            seen = resembling_trained(state, [chosen], folder, (_questions(batch) for batch in batches))
        held_out[np.nonzero(held_out)[0][sorted(seen)]] = False
    return table.filter(pa.array(held_out))


def _questions(rows: pa.Table | pa.RecordBatch) -> list[str]:
    return [question_of(turns) for turns in rows["messages"].to_pylist()]
