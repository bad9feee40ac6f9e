"""Scores an interval's rows: in one process as they are read, or on many nodes, each of which publishes some stretches.

Both give the same interactions, byte for byte: rows are scored in the same batches, and the only state over rows, the judge's
sample, is kept by the node that joins the stretches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.interactions import UNSCORED, interaction_schema
from nightshift.evaluation.interaction_file import ROWS_AT_ONCE, answered, served
from nightshift.evaluation.scorers import Scorers
from nightshift.inference.prompts import Prompts
from nightshift.settings.application import Application
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, digest_of
from nightshift.storage.partition import fetch, partition_of, publish
from nightshift.storage.partition import find as find_partition
from nightshift.storage.sharing import Rows, parts_of

SCORES = "scores.parquet"
# The scorers' columns, in the order of their arguments; the judge does not see how a response ended.
JUDGED = ("prompt", "response", "context", "reference", "messages", "metadata")
SCORED = (*JUDGED[:4], "finish_reason", "metadata", "messages")

Scored = tuple[pa.Table, dict[str, list[Any]]]


@dataclass(frozen=True)
class Stretch:
    """Consecutive rows of an interval, in whole batches.

    :param rows: the first and the last, both included.
    :param parts: the partitions with their responses, in order; empty if the interval was served elsewhere.
    """

    rows: Rows
    parts: list[tuple[UPath, Manifest]]

    def read(self, prompts: Prompts, folder: Path) -> Iterator[pa.Table]:
        """Yield the rows with their responses, in order; at most so many at once.

        :param folder: for local copies.
        :raises BadInput: a part is damaged or answers other prompts, or a row has no response.
        """
        return answered(prompts, self.parts, folder) if self.parts else served(prompts, *self.rows)


def stretches_of(rows: int, parts: list[tuple[UPath, Manifest]]) -> list[Stretch]:
    """Return the stretches of an interval that nodes share: whole parts, independent of the number of nodes."""
    if not parts:
        return [Stretch(part, []) for part in parts_of(rows, ROWS_AT_ONCE)]
    stretches: list[Stretch] = []
    held: list[tuple[UPath, Manifest]] = []
    first = last = 0
    for place, (address, manifest) in enumerate(parts, 1):
        held.append((address, manifest))
        last += manifest.counts["rows"]
        if last - first >= ROWS_AT_ONCE or place == len(parts):
            stretches.append(Stretch((first, last - 1), held))
            held, first = [], last
    return stretches


def score_as_read(tables: Iterable[pa.Table], scorers: Scorers) -> Iterator[Scored]:
    """Yield rows with every score."""
    for rows in tables:
        yield rows, scorers.score(*_lists(rows, SCORED))


@dataclass
class SharedScores:
    """The `scores` partitions of one interval, which are removed once its interactions are published.

    :param inputs: what determines the interactions.
    :param folder: for local copies.
    """

    application: Application
    storage: str
    prompts: Prompts
    stretches: list[Stretch]
    inputs: dict[str, Any]
    folder: Path

    def __post_init__(self) -> None:
        self._digest = digest_of(self.inputs)
        self._place = partition_of(self.storage, self.application.name, "scores", self._digest[:16])

    def find(self, first: int, last: int) -> Manifest | None:
        """Return the manifest of a stretch that some node has scored, or None."""
        return find_partition(self._address((first, last)), self._inputs((first, last)))

    def make(self, stretch: Stretch, scorers: Scorers, report: Callable[[int], None]) -> Manifest:
        """Score a stretch without the judge, and publish the scores.

        :param report: called with the number of scored rows of the stretch.
        :raises BadInput: as :meth:`Stretch.read`.
        """
        columns: dict[str, list[Any]] = {}
        rows = 0
        scorers.seconds.clear()
        for table in stretch.read(self.prompts, self.folder):
            scored = scorers.score_without_judge(*_lists(table, SCORED))
            for name, values in scored.items():
                columns.setdefault(name, []).extend(values)
            rows += table.num_rows
            report(rows)
        with scratch_folder(UPath(self.storage)) as folder:
            # With an explicit type: it cannot be inferred if no row lacks a score.
            reasons = interaction_schema(self.application.own_metrics).field(UNSCORED).type
            arrays = columns | {UNSCORED: pa.array(columns[UNSCORED], reasons)}
            pq.write_table(pa.table(arrays), folder / SCORES, compression="zstd")
            return publish(
                self._address(stretch.rows),
                folder,
                kind="scores",
                application=self.application.name,
                inputs=self._inputs(stretch.rows),
                rows={SCORES: rows},
                counts={"rows": rows},
                facts={"seconds": dict(scorers.seconds), "given_up": dict(scorers.given_up)},
            )

    def join(self, manifests: list[Manifest], scorers: Scorers) -> Iterator[Scored]:
        """Yield all rows with every score; the judge is asked here, so that its sample covers the whole interval.

        `scorers.seconds` and `scorers.given_up` afterwards include all nodes.

        :param manifests: those of all stretches, in order.
        :raises BadInput: a stretch is damaged or gone.
        """
        seconds: Counter[str] = Counter()
        for manifest in manifests:
            seconds.update(manifest.facts["seconds"])
            scorers.given_up.update(manifest.facts.get("given_up", {}))
        scorers.seconds.clear()
        scorers.seconds.update(seconds)
        for stretch, manifest in zip(self.stretches, manifests, strict=True):
            address = self._address(stretch.rows)
            scores = pq.read_table(fetch(address, manifest, SCORES, self.folder / "scores" / address.name))
            start = 0
            for rows in stretch.read(self.prompts, self.folder):
                columns = scores.slice(start, rows.num_rows).to_pydict()
                start += rows.num_rows
                yield rows, scorers.with_judge(columns, *_lists(rows, JUDGED))

    def drop(self) -> None:
        """Remove the partitions of all nodes; missing ones are ignored."""
        with suppress(FileNotFoundError):
            self._place.fs.rm(self._place.path, recursive=True)

    def _address(self, rows: Rows) -> UPath:
        return self._place / f"{rows[0]:09}-{rows[1]:09}"

    def _inputs(self, rows: Rows) -> dict[str, Any]:
        return {"night": self._digest, "base_model": self.application.base_model, "rows": list(rows)}


def _lists(rows: pa.Table, names: tuple[str, ...]) -> list[list[Any]]:
    return [rows[name].to_pylist() for name in names]
