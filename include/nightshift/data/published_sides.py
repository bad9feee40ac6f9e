"""Adds partitions to the split map that it lacks: written before it existed, or by an older version since."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.dedup import KEPT
from nightshift.data.examples import EXAMPLES, ROWS_AT_ONCE, example_batches
from nightshift.data.questions import Questions
from nightshift.data.similarity import question_of
from nightshift.data.snapshot import TRAIN as TRAINING_SET
from nightshift.data.snapshot import Published, published_corrections, published_examples, published_snapshots
from nightshift.data.split_map import DEVELOPMENT, HELD_OUT, NAMES, SEGMENTS, TRAFFIC, TRAIN, SplitMap, State
from nightshift.settings.intake import Splits
from nightshift.storage.files import names_in, scratch_folder
from nightshift.storage.manifest import read_manifest
from nightshift.storage.partition import fetch, partition_of

log = logging.getLogger(__name__)

# What was trained on is settled first, then what was held out: a row is held out only if it resembles nothing trained on.
ORDER = (TRAIN, HELD_OUT, DEVELOPMENT, TRAFFIC)
WAITING = pa.schema([(name, pa.string()) for name in ("digest", "question", "subject", "split_group")])


def is_behind(split_map: SplitMap, storage: str, application: str) -> bool:
    """Whether a map has no segment yet, or none of the newest interval: its newest segment was lost, say.

    :raises BadInput: a manifest cannot be read.
    """
    state = split_map.state()
    if state.number == 0:
        return True
    folder = partition_of(storage, application, "examples")
    keys = names_in(folder)
    newest = read_manifest(folder / keys[-1]) if keys else None
    if newest is None or newest.counts.get("kept") == 0 or newest.inputs_digest in state.made_by:
        return False
    log.warning(
        "%s: the split map has no segment of this interval. It is made anew of what is published there. If the newest of %s was "
        "lost, rather restore it from a backup",
        folder / keys[-1], partition_of(storage, application, "similarity", SEGMENTS),
    )  # fmt: skip
    return True


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

    :param examples: all published examples and corrections, and `snapshots` all training sets, where the caller has read them.
    :raises BadInput: a partition is damaged.
    """
    if examples is None:
        examples = [*published_examples(storage, application), *published_corrections(storage, application)]
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
        with scratch_folder(UPath(storage)) as folder:
            _settle(split_map, unknown, folder)


def _made_by(state: State, snapshot: Published) -> bool:
    """Whether a training set was made by this map, which has its rows then."""
    segments = snapshot.manifest.inputs.get("split_map")
    return segments is not None and segments <= state.number


def _settle(split_map: SplitMap, sources: list[tuple[Published, str]], folder: Path) -> None:
    # Each partition is read once; its rows wait on disk, by side.
    waiting = {side: folder / f"{NAMES[side]}.parquet" for side in ORDER}
    with ExitStack() as stack:
        writers = {
            side: stack.enter_context(pq.ParquetWriter(waiting[side], WAITING, compression="lz4")) for side in ORDER
        }
        for published, file in sources:
            for side, rows in _rows(published, file, folder / "copy"):
                writers[side].write_table(rows)
    questions = Questions(folder / "questions.parquet", Splits())
    count = 0
    for side in ORDER:
        with pq.ParquetFile(waiting[side], pre_buffer=False) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                digests, asked, *bonds = (column.to_pylist() for column in batch.columns)
                questions.add(digests, asked, [""] * len(asked), list(zip(*bonds, strict=True)), wanted=side)
                count += len(asked)
    questions.close()
    made_by = [published.manifest.inputs_digest for published, _ in sources]
    fates = np.full(count, KEPT, dtype=np.uint8)
    # No row is left out as a near-duplicate: nothing is that similar.
    questions.settle(split_map, made_by, fates, 2.0, work=folder, already=True)


def _rows(published: Published, file: str, folder: Path) -> Iterator[tuple[int, pa.Table]]:
    """Yield parts of a partition as `WAITING`, each with its side; a training set is all on the training side."""
    copy = fetch(published.partition, published.manifest, file, folder)
    for rows in example_batches(
        copy, ["digest", "messages", "subject", "split_group", *(["split"] if file == EXAMPLES else [])]
    ):
        asked = pa.array([question_of(turns) for turns in rows["messages"].to_pylist()])
        table = pa.table([rows["digest"], asked, rows["subject"], rows["split_group"]], schema=WAITING)
        if file == TRAINING_SET:
            yield TRAIN, table
            continue
        for side in ORDER:
            of_side = table.filter(pc.equal(rows["split"], NAMES[side]))
            if of_side.num_rows:
                yield side, of_side
    shutil.rmtree(folder)
