"""The answered rows of each partition of a training set: read from it, or from what one of several nodes gathered of it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.examples import EXAMPLE_SCHEMA, EXAMPLES, Split, example_batches
from nightshift.data.shared_text import SharedText
from nightshift.data.similarity import VALUES, Signatures, question_of, signatures
from nightshift.data.snapshot import Published, Selection
from nightshift.data.split_map import State
from nightshift.data.words import folded
from nightshift.errors import BadEnvironment, BadInput
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, digest_of
from nightshift.storage.partition import fetch, find, partition_of, publish

ANSWERED, SIGNATURES = "answered.parquet", "signatures"
Answered = tuple[pa.Table, Signatures]  # rows, and the signatures of those to train on (none where no text is shared)


def splits_of(selection: Selection) -> list[Split]:
    """Return the splits of which a snapshot holds rows."""
    return ["train", "held_out", "development"] if selection.development else ["train", "held_out"]


def answered_rows(
    published: Published, counts: Counter[str], *, splits: list[Split], shared: SharedText, folder: Path
) -> Iterator[Answered]:
    """Yield the answered rows of some splits of a partition in order, at most 5,000 at a time.

    :param counts: to which are added `rows`, those `unanswered`, and those of each other split.
    :raises BadInput: the partition is damaged.
    """
    copy = folder / "copy"
    for rows in example_batches(fetch(published.partition, published.manifest, EXAMPLES, copy)):
        usable = rows.filter(pc.field("split").isin(splits))
        answered = usable.filter(pc.field("answer").is_valid())
        counts["rows"] += rows.num_rows
        counts["unanswered"] += usable.num_rows - answered.num_rows
        counts.update(split for split in rows["split"].to_pylist() if split not in splits)
        if answered.num_rows:
            yield answered, signatures_to_train_on(answered, shared)
    shutil.rmtree(copy)


def signatures_to_train_on(rows: pa.Table, shared: SharedText) -> Signatures:
    """Return the signatures of the questions of those rows that are to train on; none where no text is shared."""
    trained = rows.filter(pc.field("split") == "train") if len(shared) else rows.slice(0, 0)
    texts, _ = shared.left_out([question_of(turns) for turns in trained["messages"].to_pylist()])
    return signatures(list(map(folded, texts)))


@dataclass(frozen=True)
class SharedGathering:
    """The `gathered` partitions of an application, one for each of examples; they live until a snapshot is published.

    :param state: the split map, which knows all days of the selection.
    :param folder: for local copies.
    """

    application: str
    storage: str
    selection: Selection
    state: State
    folder: Path

    def share(
        self, node: int, nodes: int, published: Callable[[], Manifest | None], report: Callable[[int, int], None]
    ) -> None:
        """Gather every `nodes`-th partition, from this node's on, unless somebody has.

        The first node goes on with the others', from the last one back, until it meets them. So it waits for nobody, also
        where a node died, never came, or saw other partitions; at most one for each node is gathered twice.

        :param published: looks whether the snapshot is there already.
        :raises BadInput: a partition is damaged.
        """
        window = self.selection.window
        order = list(range(node, len(window), nodes))
        if node == 0:
            order += [number for number in reversed(range(len(window))) if number % nodes]
        for done, number in enumerate(order):
            report(done, len(order))
            if published():
                return
            if not find(self._address(window[number]), self._inputs(window[number])):
                self._make(window[number])

    def rows(self, published: Published, counts: Counter[str]) -> Iterator[Answered]:
        """The same as :func:`answered_rows`, from what was gathered, where it is there."""
        address, copies = self._address(published), self.folder / "gathered"
        with ExitStack() as stack:
            try:
                manifest = find(address, self._inputs(published))
                if manifest:
                    file = stack.enter_context(
                        pq.ParquetFile(fetch(address, manifest, ANSWERED, copies), pre_buffer=False)
                    )
                    signed = stack.enter_context(fetch(address, manifest, SIGNATURES, copies).open("rb"))
            except (BadInput, BadEnvironment, FileNotFoundError):
                manifest = None  # another snapshot was published, and what was gathered removed
            if manifest is None:
                yield from self._answered(published, counts)
                return
            counts.update(manifest.counts)
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number).cast(EXAMPLE_SCHEMA)
                trained = rows["split"].to_pylist().count("train") if len(self.state.shared) else 0
                yield rows, np.fromfile(signed, np.uint8, VALUES * trained).reshape(-1, VALUES)
        shutil.rmtree(copies)

    def drop(self) -> None:
        """Remove what all nodes and attempts gathered, since rows of users lie there; what is gone is gone."""
        place = partition_of(self.storage, self.application, "gathered")
        with suppress(FileNotFoundError):
            place.fs.rm(place.path, recursive=True)

    def _answered(self, published: Published, counts: Counter[str]) -> Iterator[Answered]:
        splits = splits_of(self.selection)
        return answered_rows(published, counts, splits=splits, shared=self.state.shared, folder=self.folder)

    def _make(self, published: Published) -> None:
        counts: Counter[str] = Counter()
        with scratch_folder(UPath(self.storage)) as folder:
            with (
                pq.ParquetWriter(folder / ANSWERED, EXAMPLE_SCHEMA, compression="zstd") as writer,
                (folder / SIGNATURES).open("wb") as signed,
            ):
                for rows, values in self._answered(published, counts):
                    writer.write_table(rows)  # a row group of its own: the snapshot's are cut in the same places
                    signed.write(values.tobytes())
            publish(
                self._address(published), folder, kind="gathered", application=self.application,
                inputs=self._inputs(published), counts=counts,
            )  # fmt: skip

    def _address(self, published: Published) -> UPath:
        key = digest_of(self._inputs(published))[:16]
        return partition_of(self.storage, self.application, "gathered", key)

    def _inputs(self, published: Published) -> dict[str, Any]:
        return {"partition": published.content, "splits": splits_of(self.selection), "split_map": self.state.number}
