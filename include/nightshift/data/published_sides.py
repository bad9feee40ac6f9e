"""Partitions that the split map does not know yet: written before it was there, or by an earlier version since."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.dedup import KEPT
from nightshift.data.examples import EXAMPLES
from nightshift.data.questions import Questions
from nightshift.data.similarity import connect, question_of
from nightshift.data.snapshot import TRAIN as TRAINING_SET
from nightshift.data.snapshot import Published, published_examples, published_snapshots
from nightshift.data.split_map import DEVELOPMENT, HELD_OUT, NAMES, TRAFFIC, TRAIN, SplitMap, State
from nightshift.settings.intake import Splits
from nightshift.storage.files import scratch
from nightshift.storage.partition import fetch

# What was trained on is settled first, then what was held out: a row is held out only if it resembles nothing trained on.
ORDER = (TRAIN, HELD_OUT, DEVELOPMENT, TRAFFIC)
ROWS_AT_ONCE = 2_000


def is_new(split_map: SplitMap) -> bool:
    """Whether a map has no segment yet."""
    return split_map.state().number == 0


def catch_up(
    split_map: SplitMap,
    storage: str,
    application: str,
    examples: Sequence[Published] | None = None,
    snapshots: Sequence[Published] | None = None,
) -> State:
    """Add a segment for the partitions of examples that no segment is of; return the map.

    Rows that were trained on are on the training side, those that were held out and resemble none of these stay held
    out, those that do are between sides. A training set counts, too, where partitions that it was made from are gone or
    were written again, unless the map has its rows because it was made by the map. The partitions stream past.

    :param examples: all published examples, and `snapshots` all training sets, where the caller has read them.
    :raises BadInput: a partition is damaged.
    """
    examples = published_examples(storage, application) if examples is None else examples
    snapshots = published_snapshots(storage, application) if snapshots is None else snapshots
    there = {(published.key, published.manifest.digest) for published in examples}
    sources = [(published, EXAMPLES) for published in examples if published.manifest.counts.get("kept") != 0]
    sets = [
        (snapshot, TRAINING_SET)
        for snapshot in snapshots
        if any((UPath(parent.uri).name, parent.digest) not in there for parent in snapshot.manifest.parents)
    ]
    while True:
        state = split_map.state()
        unknown = [
            source
            for source in [*sources, *(made for made in sets if not _made_by(state, made[0]))]
            if source[0].manifest.inputs_digest not in state.made_by
        ]
        if not unknown:
            return state
        folder = scratch(UPath(storage))
        try:
            _settle(split_map, unknown, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _made_by(state: State, snapshot: Published) -> bool:
    """Whether a training set was made by this map, which has its rows then."""
    segments = snapshot.manifest.inputs.get("split_map")
    return segments is not None and segments <= state.number


def _settle(split_map: SplitMap, sources: list[tuple[Published, str]], folder: Path) -> None:
    questions = Questions(folder / "questions.parquet", Splits())
    rows = 0
    for side in ORDER:
        for published, file in sources:
            for table in _rows(published, file, side, folder):
                asked = [question_of(turns) for turns in table["messages"].to_pylist()]
                questions.add(table["digest"].to_pylist(), asked, [""] * len(asked), side)
                rows += len(asked)
    questions.close()
    made_by = [published.manifest.inputs_digest for published, _ in sources]
    with connect(folder) as database:
        fates = np.full(rows, KEPT, dtype=np.uint8)
        # No row is left out as a near-duplicate: nothing is that similar.
        questions.settle(split_map, made_by, fates, 2.0, work=folder, database=database, already=True)


def _rows(published: Published, file: str, side: int, folder: Path) -> Iterator[pa.Table]:
    if file == TRAINING_SET and side != TRAIN:
        return
    columns = ["digest", "messages", *([] if file == TRAINING_SET else ["split"])]
    copy = folder / "copy"
    copy.mkdir()
    try:
        with pq.ParquetFile(fetch(published.partition, published.manifest, file, copy), pre_buffer=False) as rows:
            for batch in rows.iter_batches(ROWS_AT_ONCE, columns=columns):
                table = pa.Table.from_batches([batch])
                of_side = table if file == TRAINING_SET else table.filter(pc.field("split") == NAMES[side])
                if of_side.num_rows:
                    yield of_side
    finally:
        shutil.rmtree(copy)
