"""Whether a challenger does worse than the champion beside which it answers: what is known of both arms of a split.

The unit that is assigned is the unit that is counted. Each falls into one of 1,000 groups by its hash, whose sums are what is
kept: the same user in ten intervals is one unit, and memory does not grow with users. Where users are many, a group is a unit.

Each comparison spends a part of the level (:func:`nightshift.evaluation.paired.levels_of_looks`), as the square of the share
of the planned comparisons: half of it in as many as the split waits for intervals, half of the rest in as many again, and so
on. It is divided by the steps, and by the guard rails.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from upath import UPath

from nightshift.assignment import group_of
from nightshift.data.interactions import INTERACTIONS, SCORES
from nightshift.evaluation.paired import DRAWS, Array, Kinds, levels_of_looks
from nightshift.evaluation.unpaired import difference_of
from nightshift.inference.prompts import Prompts, units_of
from nightshift.ledger.records import Arms
from nightshift.settings.split import Arm
from nightshift.settings.split import Split as Settings
from nightshift.storage.partition import Manifest, fetch, partition_of, require_manifest

EVIDENCE = "evidence.npy"
ARMS = ("champion", "challenger")
GROUPS = 1_000
GUARD_RAILS = 2  # the decisive metric and the share of valid answers
ROWS_AT_ONCE = 5_000


def evidence_partition(storage: str, application: str, split: int, look: int) -> UPath:
    """Return the address of the evidence for a look."""
    return partition_of(storage, application, "evidence", f"{split:04d}", f"{look:04d}")


class Evidence:
    """Sums of scores by arm and group.

    :param metric: of the gate; rouge_l stands for one that interactions do not have.
    :param file: what was written before; None: nothing.
    """

    def __init__(self, metric: str, file: Path | None = None) -> None:
        self.metric = metric if metric in SCORES else "rouge_l"
        self.measures = ("rows", self.metric, "judge", "valid")
        shape = (len(ARMS), len(self.measures), GROUPS, 2)  # the last: sum and number
        self._sums: Array = np.load(file, allow_pickle=False) if file else np.zeros(shape)

    def add(self, partition: UPath, manifest: Manifest, folder: Path) -> None:
        """Add the interactions of one arm of an interval.

        :raises BadInput: they, or their prompts, are damaged or gone.
        """
        arm = Arm.model_validate(manifest.inputs["arm"])
        asked = UPath(manifest.parents[0].uri)
        prompts = Prompts(asked, require_manifest(asked, manifest.parents[0].digest), folder / "prompts", arm)
        first = 0
        with pq.ParquetFile(fetch(partition, manifest, INTERACTIONS, folder), pre_buffer=False) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(self.measures[1:])):
                rows = prompts.read(
                    first, first + batch.num_rows - 1, [arm.unit, "digest"] if arm.unit != "row" else ["digest"]
                )
                first += batch.num_rows
                groups = np.array([group_of(arm.key, unit, GROUPS) for unit in units_of(rows, arm.unit)])
                for place, name in enumerate(self.measures):
                    values = np.zeros(len(groups)) if name == "rows" else batch[name].to_numpy(zero_copy_only=False)
                    known = ~np.isnan(values.astype(np.float64))
                    added = np.column_stack([values, np.ones(len(groups))])[known]
                    np.add.at(self._sums[int(arm.challenger), place], groups[known], added)

    def write(self, file: Path) -> None:
        """Write all sums."""
        np.save(file, self._sums, allow_pickle=False)

    def compared(self, settings: Settings, before: int, look: int, draws: int = DRAWS) -> Arms:
        """Return what is known of both arms, with the bounds of the differences where enough units of both have a score.

        :param before: comparisons in this step.
        :param look: that it is for.
        """
        measured = {name: [_kinds(arm[place]) for arm in self._sums] for place, name in enumerate(self.measures)}
        kinds = {name: pair for name, pair in measured.items() if all(len(one.counts) for one in pair)}
        enough = {name for name, pair in kinds.items() if min(one.counts.sum() for one in pair) >= settings.min_units}
        metric = next((name for name in (self.metric, "judge") if name in enough), None)
        rails = [name for name in (metric, "valid") if name in enough]
        level = level_of(settings, before + 1) if rails else 0
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
            comparisons=before + bool(rails),
        )


def level_of(settings: Settings, comparison: int) -> float:
    """Return the level of each bound at a comparison of a step, counted from 1."""
    rounds = -(-comparison // settings.intervals)
    first = settings.intervals * (rounds - 1) + 1
    shares = [number / (settings.intervals * rounds) for number in range(first, comparison + 1)]
    return levels_of_looks(settings.level / len(settings.shares) / GUARD_RAILS / 2**rounds, shares)[-1]


def _kinds(groups: Any) -> Kinds:
    alike, counts = np.unique(groups[groups[:, 1] > 0], axis=0, return_counts=True)
    return Kinds(alike[:, 0], alike[:, 1], counts.astype(np.float64))
