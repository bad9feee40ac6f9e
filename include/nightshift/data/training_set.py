"""The files of a snapshot: the rows to train on, and the rows to judge and to search by, which resemble none ever trained on."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.data.examples import (
    EXAMPLE_SCHEMA,
    EXAMPLES,
    ROWS_AT_ONCE,
    Split,
    digest_of_messages,
    example_batches,
)
from nightshift.data.gathering import SIGNATURES, SharedGathering, answered_rows, signatures_to_train_on, splits_of
from nightshift.data.questions import bond_keys
from nightshift.data.sides import resembling_trained
from nightshift.data.similarity import VALUES, Keys, Signatures, key_of, question_of
from nightshift.data.snapshot import DEVELOPMENT, HELD_OUT, JUDGED, REGRESSION, TRAIN, Selection
from nightshift.data.split_map import DEVELOPMENT as DEVELOPMENT_SIDE
from nightshift.data.split_map import HELD_OUT as HELD_OUT_SIDE
from nightshift.data.split_map import UNKNOWN, State, places_in
from nightshift.settings.feedback import CHOSEN_BY, PAIR, RANDOM
from nightshift.storage.partition import fetch

Report = Callable[[int, int], None]
RECENT = 1_000_000  # digests that are in an array of their own, so that few are moved for each new one
SORTED_AT_ONCE = 10_000  # rows
MOST_PARTS = 250  # files that are open at once
# The sides that are not trained on, with their code in the split map and their file.
UNTRAINED: dict[Split, tuple[int, str]] = {
    "held_out": (HELD_OUT_SIDE, HELD_OUT),
    "development": (DEVELOPMENT_SIDE, DEVELOPMENT),
}


def write_training_set(
    selection: Selection, state: State, folder: Path, report: Report, gathered: SharedGathering | None = None
) -> dict[str, int]:
    """Write `train.parquet` (in order of time), `held_out.parquet` and, where the selection has that side,
    `development.parquet` (both in order of digest); return the counts.

    All have the columns of `examples.parquet`. Of the counts, `rows` is the sum of all others; `corrected` rows are left out
    because a later correction answers the same prompt. Held-out corrections of answers that were chosen for review other than at
    random are in `regression.parquet`, unless they take the place of a held-out row. Answers that people judged, to train on and
    held out, are in `judged.parquet` alone.

    Rows stream: in memory are 10,000 at a time, 8 bytes for each usable row, and about 100 for each one that is not to train on.

    :param state: the split map, which knows all days of the selection.
    :param report: called with steps done and steps in all.
    :param gathered: what several nodes gathered of the partitions.
    :raises BadInput: a partition is damaged.
    """
    names = ("rows", "train", "held_out", "traffic", "development", "unanswered", "duplicates", "seen_in_training")
    counts = Counter(dict.fromkeys(names, 0))
    splits = splits_of(selection)
    known, newest = _corrected(selection, folder)
    replaced = [np.empty(0, np.uint64)]  # keys of held-out prompts whose answers were corrected
    taken: dict[Split, _Taken] = {split: _Taken() for split in splits}
    work = folder / "work"
    work.mkdir()
    candidates = {split: work / f"{split}.parquet" for split in splits[1:]}
    rows_of = gathered.rows if gathered else partial(answered_rows, splits=splits, shared=state.shared, folder=work)
    try:
        with ExitStack() as stack:
            writers = [stack.enter_context(pq.ParquetWriter(folder / TRAIN, EXAMPLE_SCHEMA, compression="zstd"))]
            for file in candidates.values():
                writers.append(stack.enter_context(pq.ParquetWriter(file, EXAMPLE_SCHEMA, compression="lz4")))
            signed = stack.enter_context((work / SIGNATURES).open("wb"))
            for done, published in enumerate(selection.window):
                report(done, len(selection.window))
                for all_rows, all_values in rows_of(published, counts):
                    stays = _stays(all_rows, known, newest, done)
                    rows, values = all_rows.filter(pa.array(stays)), all_values
                    if not stays.all():
                        counts["corrected"] += int((~stays).sum())
                        gone = all_rows.filter(pa.array(~stays & np.asarray(pc.equal(all_rows["split"], "held_out"))))
                        replaced.append(_prompts(gone.filter(pa.array(~_chosen_for_review(gone)))))
                        values = (
                            values[stays[np.asarray(pc.equal(all_rows["split"], "train"))]] if len(values) else values
                        )
                    for (split, before), writer in zip(taken.items(), writers, strict=True):
                        answered = rows.filter(pc.field("split") == split)
                        new = before.new(_digests(answered))  # no earlier day had it, word for word
                        counts[split] += int(new.sum())
                        counts["duplicates"] += int((~new).sum())
                        if new.any():
                            writer.write_table(answered.filter(pa.array(new)))
                        if split == "train" and len(values):
                            signed.write(values[new].tobytes())
            judged = _judged(selection, state, work, signed, counts)
        for split, file in candidates.items():
            side, name = UNTRAINED[split]
            unseen = _unseen(file, side, state, work)
            counts["seen_in_training"] += int((~unseen).sum())
            if split == "held_out":
                apart = unseen & _is_no_sample(file, np.concatenate(replaced))
                if apart.any():
                    counts["regression"] = int(apart.sum())
                    _write_by_digest(file, apart, folder / REGRESSION, work)
                unseen &= ~apart
            counts[split] = int(unseen.sum())
            _write_by_digest(file, unseen, folder / name, work)
        _keep_judged(judged, state, folder, work, counts)
    finally:
        shutil.rmtree(work)
    return dict(counts)


def _judged(selection: Selection, state: State, work: Path, signed: BinaryIO, counts: Counter[str]) -> Path:
    """Write the answers that people judged into a file of their own, each as it was judged last, and the signatures of those to
    train on. What is held out is a sample: no answers that were chosen for review other than at random.

    In the counts they are `judged` and `duplicates` instead of `unanswered`.
    """
    target, before = work / JUDGED, _Taken()
    with pq.ParquetWriter(target, EXAMPLE_SCHEMA, compression="lz4") as writer:
        for published in (each for each in reversed(selection.window) if each.corrects):
            file = fetch(published.partition, published.manifest, EXAMPLES, work / "copy")
            for all_rows in example_batches(file):
                used = pc.field("split").isin(["train", "held_out"]) & pc.field("response").is_valid()
                rows = all_rows.filter(used)
                trained = np.asarray(pc.equal(rows["split"], "train"))
                rows = rows.filter(pa.array(trained | ~_chosen_for_review(rows)))
                new = before.new(_digests(rows))
                counts["unanswered"] -= rows.num_rows
                counts["duplicates"] += int((~new).sum())
                if new.any():
                    counts["judged"] += int(new.sum())
                    writer.write_table(rows.filter(pa.array(new)))
                    signed.write(signatures_to_train_on(rows.filter(pa.array(new)), state.shared).tobytes())
            shutil.rmtree(work / "copy")
    return target


def _keep_judged(candidates: Path, state: State, folder: Path, work: Path, counts: Counter[str]) -> None:
    """Write `judged.parquet`, where there is any, without what is held out and resembles what is trained on."""
    if not counts["judged"]:
        return
    trained = pq.read_table(candidates, columns=["split"])["split"].to_numpy() == "train"
    stays = trained | _unseen(candidates, HELD_OUT_SIDE, state, work)
    counts["seen_in_training"] += int((~stays).sum())
    counts["judged"] = int(stays.sum())
    with pq.ParquetWriter(folder / JUDGED, EXAMPLE_SCHEMA, compression="zstd") as writer:
        for rows in _chosen(candidates, stays):
            writer.write_table(rows)


def _corrected(selection: Selection, folder: Path) -> tuple[Keys, npt.NDArray[np.int64]]:
    """Keys of the prompts whose answers people corrected, sorted, and the place in the window of each one's newest correction."""
    keys, places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for place, published in reversed(list(enumerate(selection.window))):
        if published.corrects:
            copy = folder / "copy"
            file = fetch(published.partition, published.manifest, EXAMPLES, copy)
            for rows in example_batches(file, ["messages", "answer", "rejected", "split"]):
                corrects = pc.field("answer").is_valid() & pc.field("rejected").is_null()
                used = pc.field("split").isin(splits_of(selection)) & corrects
                keys.append(_prompts(rows.filter(used)))
                places.append(np.full(len(keys[-1]), place))
            shutil.rmtree(copy, ignore_errors=True)
    known, first = np.unique(np.concatenate(keys), return_index=True)
    return known, np.concatenate(places)[first]


def _stays(rows: pa.Table, known: Keys, newest: npt.NDArray[np.int64], place: int) -> npt.NDArray[np.bool_]:
    """Which rows of the partition at a place of the window no later correction takes the place of."""
    if not len(known):
        return np.ones(rows.num_rows, dtype=bool)
    at, hits = places_in(known, _prompts(rows))
    stays: npt.NDArray[np.bool_] = ~(hits & (newest[at] > place))
    return stays


def _prompts(rows: pa.Table) -> Keys:
    """64 bits of a digest of everything that was said in front of the answer of each row."""
    asked = (digest_of_messages(messages[:-1]) for messages in rows["messages"].to_pylist())
    return np.array([int(digest[:16], 16) for digest in asked], dtype=np.uint64)


def _chosen_for_review(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Which rows are corrections of answers that people were shown for another reason than chance; pairs are none."""
    chosen = pc.map_lookup(rows["metadata"], CHOSEN_BY, "first")
    return np.asarray(pc.invert(pc.is_in(chosen, value_set=pa.array([None, RANDOM, PAIR], pa.string()))), dtype=bool)


def _is_no_sample(candidates: Path, replaced: Keys) -> npt.NDArray[np.bool_]:
    """The same of a file, without those that answer a prompt which was held out before it was chosen."""
    found = [np.empty(0, bool)]
    for rows in example_batches(candidates, ["messages", "metadata"]):
        found.append(_chosen_for_review(rows) & ~np.isin(_prompts(rows), replaced))
    return np.concatenate(found)


class _Taken:
    """Digests of rows that there were before, 64 bits of each."""

    def __init__(self) -> None:
        self._earlier = self._recent = np.empty(0, np.uint64)

    def new(self, digests: Keys) -> npt.NDArray[np.bool_]:
        """Which of the digests are there for the first time."""
        different, first = np.unique(digests, return_index=True)
        new = ~(places_in(self._earlier, different)[1] | places_in(self._recent, different)[1])
        self._recent = _inserted(self._recent, different[new])
        if len(self._recent) > RECENT:
            self._earlier, self._recent = _inserted(self._earlier, self._recent), np.empty(0, np.uint64)
        found = np.zeros(len(digests), dtype=bool)
        found[first[new]] = True
        return found


def _inserted(into: Keys, keys: Keys) -> Keys:
    return np.insert(into, np.searchsorted(into, keys), keys)


def _unseen(candidates: Path, side: int, state: State, work: Path) -> npt.NDArray[np.bool_]:
    """Which candidates are on this side in the newest map and resemble nothing trained on by what is shared today.

    What is shared (a new instruction) is known only some time after it came: rows from before are compared once more.
    """
    keys, bonds = [np.empty(0, np.uint64)], [np.empty((0, 2), np.uint64)]
    for rows in example_batches(candidates, ["messages", "subject", "split_group"]):
        keys.append(np.array([key_of(question) for question in _questions(rows)], dtype=np.uint64))
        of_rows = bond_keys(list(zip(rows["subject"].to_pylist(), rows["split_group"].to_pylist(), strict=True)))
        bonds.append(np.array(of_rows or [0] * (2 * rows.num_rows), dtype=np.uint64).reshape(-1, 2))
    sides = state.sides(np.concatenate([*keys, *(of_rows.ravel() for of_rows in bonds)]))
    count = sum(map(len, keys))
    bound = np.isin(sides[count:].reshape(-1, 2), (side, UNKNOWN)).all(axis=1)
    unseen: npt.NDArray[np.bool_] = (sides[:count] == side) & bound
    if unseen.any() and len(state.shared):
        chosen = (_questions(rows) for rows in _chosen(candidates, unseen, ["messages"]))
        seen = resembling_trained(state, chosen, work, _trained(work / SIGNATURES))
        unseen[np.nonzero(unseen)[0][seen]] = False
    return unseen


def _trained(file: Path) -> Iterator[Signatures]:
    with file.open("rb") as signed:
        while len(values := np.fromfile(signed, np.uint8, VALUES * ROWS_AT_ONCE)):
            yield values.reshape(-1, VALUES)


def _write_by_digest(candidates: Path, chosen: npt.NDArray[np.bool_], target: Path, work: Path) -> None:
    """Write rows in order of digest: first into files by its beginning, then each of these sorted."""
    parts = min(MOST_PARTS, int(chosen.sum()) // SORTED_AT_ONCE + 1)
    paths = [work / f"{part}.arrow" for part in range(parts)]
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    writers = [pa.ipc.new_stream(path, EXAMPLE_SCHEMA, options=options) for path in paths]
    for rows in _chosen(candidates, chosen):
        part_of = ((_digests(rows) >> np.uint64(32)) * np.uint64(parts)) >> np.uint64(32)
        for part in np.unique(part_of).tolist():
            writers[part].write_table(rows.filter(pa.array(part_of == part)))
    with pq.ParquetWriter(target, EXAMPLE_SCHEMA, compression="zstd") as file:
        for path, writer in zip(paths, writers, strict=True):
            writer.close()
            with pa.ipc.open_stream(path) as rows:
                file.write_table(rows.read_all().sort_by("digest"))


def _chosen(file: Path, chosen: npt.NDArray[np.bool_], columns: list[str] = EXAMPLE_SCHEMA.names) -> Iterator[pa.Table]:
    begin = 0
    for rows in example_batches(file, columns):
        yield rows.filter(pa.array(chosen[begin : begin + rows.num_rows]))
        begin += rows.num_rows


def _digests(rows: pa.Table) -> Keys:
    return np.array([int(digest[:16], 16) for digest in rows["digest"].to_pylist()], dtype=np.uint64)


def _questions(rows: pa.Table) -> list[str]:
    return [question_of(turns) for turns in rows["messages"].to_pylist()]
