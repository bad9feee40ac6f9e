"""Compares the arms of a split: whether the challenger does worse than the champion.

Units are counted as they are assigned. Each falls into one of 1,000 groups by its hash, and only the groups' sums are kept: the
same user in ten intervals is one unit, and memory does not grow with users. With many users, a group is a unit.

Evidence adds up over the whole split, stratified by interval: the champion's rows of an interval are weighted to as many as the
challenger's (direct standardisation). The difference of the means is then the mean of the intervals' own differences, without a
bias from shares that changed together with the questions.

Each comparison spends a part of the level (:func:`nightshift.evaluation.paired.levels_of_looks`), as the square of the share
of the planned comparisons: half of it in as many as the split waits for at all shares, half of the rest in as many again, and so
on. The boundaries follow from the rows that the challenger had answered by each. It is divided by the guard rails.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from nightshift.assignment import group_of
from nightshift.data.interactions import INTERACTIONS, SCORES
from nightshift.evaluation.paired import DRAWS, Array, Kinds, levels_of_looks
from nightshift.evaluation.rails import column_of, rail_values
from nightshift.evaluation.unpaired import difference_of
from nightshift.inference.prompts import Prompts, units_of
from nightshift.ledger.records import Arms
from nightshift.settings.split import Arm
from nightshift.settings.split import Split as Settings
from nightshift.storage.manifest import Manifest, require_manifest
from nightshift.storage.partition import fetch, partition_of

EVIDENCE = "evidence.npy"
ARMS = ("champion", "challenger")
GROUPS = 1_000
ROWS_AT_ONCE = 5_000
Answered = tuple[UPath, Manifest, Path]  # interactions, and a folder to fetch them to


def evidence_partition(storage: str, application: str, split: int, look: int) -> UPath:
    """Return the address of the evidence for a look."""
    return partition_of(storage, application, "evidence", f"{split:04d}", f"{look:04d}")


class Evidence:
    """Sums of scores by arm and group, weighted by interval.

    :param metric: of the gate; rouge_l replaces a metric that interactions do not have.
    :param settings: of the split.
    :param file: the sums so far; None: none yet.
    """

    def __init__(self, metric: str, settings: Settings, file: Path | None = None) -> None:
        self.settings = settings
        self.metric = metric if metric in SCORES else "rouge_l"
        self.measures = ("rows", self.metric, "judge", *settings.rails)
        shape = (len(ARMS), len(self.measures), GROUPS, 2)  # the last: sum and number
        self._sums: Array = np.load(file, allow_pickle=False) if file else np.zeros(shape)

    def add(self, champion: Answered, challenger: Answered) -> None:
        """Add the interactions of both arms of an interval.

        :raises BadInput: their interactions or prompts are damaged or gone.
        """
        self._sums += standardised(np.stack([self._read(*champion), self._read(*challenger)]))

    def _read(self, partition: UPath, manifest: Manifest, folder: Path) -> Array:
        sums = np.zeros(self._sums.shape[1:])
        arm = Arm.model_validate(manifest.inputs["arm"])
        asked = UPath(manifest.parents[0].uri)
        prompts = Prompts(asked, require_manifest(asked, manifest.parents[0].digest), folder / "prompts", arm)
        first = 0
        with pq.ParquetFile(fetch(partition, manifest, INTERACTIONS, folder), pre_buffer=False) as file:
            there = {column_of(name) for name in self.measures}.intersection(file.schema_arrow.names)
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=sorted(there)):
                rows = prompts.read(
                    first, first + batch.num_rows - 1, [arm.unit, "digest"] if arm.unit != "row" else ["digest"]
                )
                first += batch.num_rows
                groups = np.array([group_of(arm.key, unit, GROUPS) for unit in units_of(rows, arm.unit)])
                for place, name in enumerate(self.measures):
                    values = self._values(name, batch)
                    known = ~np.isnan(values)
                    added = np.column_stack([values, np.ones(len(groups))])[known]
                    np.add.at(sums[place], groups[known], added)
        return sums

    def _values(self, name: str, batch: pa.RecordBatch) -> Array:
        """A measure of each row; NaN if the row has none."""
        column = column_of(name)
        if column not in batch.schema.names:
            return np.full(batch.num_rows, 0.0 if name == "rows" else np.nan)
        return rail_values(name, batch[column].to_numpy(zero_copy_only=False), self.settings)

    def write(self, file: Path) -> None:
        """Write all sums."""
        np.save(file, self._sums, allow_pickle=False)

    def compared(self, known: Sequence[float], look: int, draws: int = DRAWS) -> Arms:
        """Return the scores of both arms, with the bounds of the differences if enough units of both have a score.

        :param known: rows that the challenger had answered by each earlier comparison.
        :param look: number of this look.
        """
        measured = {name: [_kinds(arm[place]) for arm in self._sums] for place, name in enumerate(self.measures)}
        kinds = {name: pair for name, pair in measured.items() if all(len(one.counts) for one in pair)}
        enough = {
            name for name, pair in kinds.items() if min(one.counts.sum() for one in pair) >= self.settings.min_units
        }
        metric = next((name for name in (self.metric, "judge") if name in enough), None)
        rails = [name for name in (metric, *self.settings.rails) if name in enough]
        rows = float(self._sums[1, 0, :, 1].sum())
        known = [*known, rows] if rails and rows > max(known, default=0) else [*known]
        level = level_of(self.settings, known) if rails else 0
        return Arms(
            evidence=look,
            units={arm: int((sums[0, :, 1] > 0).sum()) for arm, sums in zip(ARMS, self._sums, strict=True)},
            means={
                name: {
                    arm: float(one.counts @ one.sums / (one.counts @ one.sizes))
                    for arm, one in zip(ARMS, pair, strict=True)
                }
                for name, pair in kinds.items()
                if name != "rows"
            },
            metric=metric,
            differences={name: tuple(difference_of(kinds[name][1], kinds[name][0], level, draws)) for name in rails},
            comparisons=len(known),
            known=known,
        )


def standardised(sums: Array) -> Array:
    """Return the sums of an interval, weighted so that both arms have equally many rows with a score of each measure."""
    old, new = sums[..., 1].sum(axis=2)
    both = (old > 0) & (new > 0)
    weights = np.stack([np.divide(new, old, out=np.zeros_like(new), where=both), both])
    return np.asarray(sums * weights[:, :, None, None])


def level_of(settings: Settings, known: Sequence[float]) -> float:
    """Return the level of each bound at the newest comparison.

    :param known: rows that the challenger had answered by each, ascending.
    """
    planned = settings.intervals * len(settings.shares)
    spent = []
    for number in range(1, len(known) + 1):
        rounds, rest = divmod(number - 1, planned)
        spent.append(1 - 0.5**rounds + 0.5 ** (rounds + 1) * ((rest + 1) / planned) ** 2)
    return levels_of_looks(settings.level / (1 + len(settings.rails)), [rows / known[-1] for rows in known], spent)[-1]


def _kinds(groups: Any) -> Kinds:
    alike, counts = np.unique(groups[groups[:, 1] > 0], axis=0, return_counts=True)
    return Kinds(alike[:, 0], alike[:, 1], counts.astype(np.float64))
