"""Raw rows staged by many nodes: each publishes some stretches of the files, and the first one takes all of them in.

A stretch is so many pieces of one file, whoever stages it and however many nodes there are. Every node reads the files
from their beginning, because only that tells where a stretch begins, and parses its own stretches alone.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.examples import QUARANTINE, QUARANTINE_SCHEMA, RowWriter
from nightshift.data.pieces import PIECE_ROWS, Piece
from nightshift.data.sources import RawFile
from nightshift.data.staging import STAGED_SCHEMA, Staged, Staging
from nightshift.data.staging_processes import StagingProcesses
from nightshift.settings.interval import Interval
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, digest_of
from nightshift.storage.partition import fetch, partition_of, publish
from nightshift.storage.partition import find as find_partition

STAGED = "staged.parquet"
STRETCH_PIECES = 50  # about 50,000 rows: a minute of work at most, and a few MB of memory

Rows = tuple[int, int]  # first and last, counted over all files from 0


@dataclass
class SharedStaging:
    """The `staged` partitions of an ingest, found or made; they live until its examples are published.

    :param inputs: what determines the examples.
    :param folder: for local copies.
    """

    application: str
    storage: str
    inputs: dict[str, Any]
    folder: Path

    def __post_init__(self) -> None:
        self._digest = digest_of(self.inputs)
        interval = Interval.model_validate(self.inputs["interval"])
        self._place = partition_of(self.storage, self.application, "staged", self.inputs["part"], interval.key)
        self._file_of: dict[Rows, RawFile] = {}

    def share(
        self, files: Sequence[RawFile], staging: Staging, node: int, nodes: int, report: Callable[[int], None]
    ) -> dict[Rows, Manifest | None]:
        """Stage every stretch of this node that nobody has staged yet; return all stretches of all nodes, in order.

        :param report: told how many rows were read.
        :raises BadInput: a file as a whole cannot be used.
        :raises BadEnvironment: a file cannot be read.
        """
        with StagingProcesses(staging) as processes:
            return self._shared(files, processes, node, nodes, report)

    def _shared(
        self,
        files: Sequence[RawFile],
        processes: StagingProcesses,
        node: int,
        nodes: int,
        report: Callable[[int], None],
    ) -> dict[Rows, Manifest | None]:
        stretches: dict[Rows, Manifest | None] = {}
        first = 0
        for file in files:
            counted = _Counted(file.pieces())
            for piece in counted:
                stretch = chain([piece], islice(counted, STRETCH_PIECES - 1))
                made = None
                if len(stretches) % nodes == node:
                    made = self.find(first, 0) or self._make(first, file, stretch, processes)
                deque(stretch, maxlen=0)  # what was not staged here is passed over
                rows = (first, first + counted.rows - 1)
                stretches[rows], self._file_of[rows] = made, file
                first, counted.rows = first + counted.rows, 0
                report(first)
        return stretches

    def find(self, first: int, _last: int) -> Manifest | None:
        """Return the manifest of a stretch that some node has staged, or None."""
        return find_partition(self._address(first), self._inputs(first))

    def _make(self, first: int, file: RawFile, stretch: Iterable[Piece], processes: StagingProcesses) -> Manifest:
        with scratch_folder(UPath(self.storage)) as folder:
            late = erased = 0
            with (
                pq.ParquetWriter(folder / STAGED, STAGED_SCHEMA, compression="zstd") as writer,
                RowWriter(folder / QUARANTINE, QUARANTINE_SCHEMA) as quarantine,
            ):
                for _, staged in processes.stage((file, piece) for piece in stretch):
                    if staged.rows.num_rows:
                        writer.write_table(staged.rows)
                    quarantine.write(staged.aside)
                    late, erased = late + staged.late, erased + staged.erased
            return publish(
                self._address(first), folder, kind="staged", application=self.application, inputs=self._inputs(first),
                facts={"late": late, "erased": erased},
            )  # fmt: skip

    def join(self, stretches: dict[Rows, Manifest]) -> Iterator[tuple[str, Staged]]:
        """Yield the rows of all stretches in order, a few at a time, each with the name of its file.

        :raises BadInput: a stretch is damaged or gone.
        """
        for rows, manifest in stretches.items():
            copies, file = self.folder / "stretch", self._file_of[rows].name
            try:
                # They count with the first rows, or with none where nothing is left.
                yield (
                    file,
                    Staged(STAGED_SCHEMA.empty_table(), [], manifest.facts["late"], manifest.facts.get("erased", 0)),
                )
                for batch in self._read(rows, manifest, QUARANTINE, copies):
                    yield file, Staged(STAGED_SCHEMA.empty_table(), batch.to_pylist())
                for batch in self._read(rows, manifest, STAGED, copies):
                    yield file, Staged(pa.Table.from_batches([batch]), [])
            finally:
                shutil.rmtree(copies, ignore_errors=True)

    def _read(self, rows: Rows, manifest: Manifest, name: str, copies: Path) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(fetch(self._address(rows[0]), manifest, name, copies), pre_buffer=False) as file:
            yield from file.iter_batches(PIECE_ROWS)

    def drop(self) -> None:
        """Remove what all nodes and attempts at this interval left, since rows of users lie there; what is gone is gone."""
        with suppress(FileNotFoundError):
            self._place.fs.rm(self._place.path, recursive=True)

    def _address(self, first: int) -> UPath:
        return self._place / self._digest[:16] / f"{first:012}"

    def _inputs(self, first: int) -> dict[str, Any]:
        return {"night": self._digest, "first": first, "pieces": STRETCH_PIECES}


class _Counted:
    """Pieces of a file, and how many rows they had since somebody asked."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self.rows = 0

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        piece = next(self._pieces)
        self.rows += len(piece)
        return piece
