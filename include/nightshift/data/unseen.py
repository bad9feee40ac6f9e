"""Finds the rows of an interval that no model of the application was trained on: only these measure quality."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.published_sides import catch_up
from nightshift.data.sides import resembling_trained
from nightshift.data.similarity import plain
from nightshift.data.snapshot import TRAIN, published_snapshots
from nightshift.data.split_map import SplitMap
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest
from nightshift.storage.partition import fetch

ROWS_AT_ONCE = 5_000


def seen_in_training(rows: pa.Table, storage: str, application: str) -> frozenset[str]:
    """Return the digests of the rows that a training set holds, or that repeat or resemble a question of the training side.

    Where the split map is empty and nothing is published that it could be made of, nobody knows what was trained on: then
    all rows are.

    :param rows: with the columns `digest` and `prompt`.
    :raises BadInput: the split map, an example partition or a training set is damaged.
    """
    digests = rows["digest"].to_pylist()
    snapshots = published_snapshots(storage, application)
    state = catch_up(SplitMap(storage, application), storage, application, snapshots=snapshots)
    if state.number == 0:
        return frozenset(digests)
    prompts = rows.select(["prompt"]).to_batches(max_chunksize=ROWS_AT_ONCE)
    with scratch_folder(UPath(storage)) as folder:
        questions = ([plain(prompt) for prompt in batch["prompt"].to_pylist()] for batch in prompts)
        seen = {digests[row] for row in np.nonzero(resembling_trained(state, questions, folder))[0].tolist()}
    # A row has the last of several turns only, so a conversation is found by its digest.
    for snapshot in snapshots:
        trained = training_rows(snapshot.partition, snapshot.manifest, "digest")["digest"]
        seen |= set(rows.filter(pc.is_in(rows["digest"], value_set=trained))["digest"].to_pylist())
    return frozenset(seen)


def training_rows(snapshot: UPath, manifest: Manifest, *columns: str) -> pa.Table:
    """Return columns of the rows that a training set holds.

    :raises BadInput: the training set is damaged.
    """
    with scratch_folder(snapshot.parent) as folder:
        return pq.read_table(fetch(snapshot, manifest, TRAIN, folder), columns=list(columns))
