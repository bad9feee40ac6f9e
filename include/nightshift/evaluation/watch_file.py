"""The scores of a release's first intervals compared with its promised scores: one small file for each look."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel
from upath import UPath

from nightshift.evaluation.estimates import METRICS, Estimate, Metric
from nightshift.storage.files import names_in
from nightshift.storage.manifest import read_manifest
from nightshift.storage.partition import partition_of, read_file
from nightshift.verdict import Verdict

WATCH, ROWS = "watch.json", "rows.parquet"


class Measure(BaseModel):
    """A score, as its mean over the rows that have one.

    :param difference: measured minus promised, with a lower and an upper bound, each at `level`.
    """

    metric: str
    promised: float
    promised_rows: int
    measured: float
    rows: int
    difference: Estimate
    level: float

    @property
    def known(self) -> Metric:
        """The metric, or an own scorer's share."""
        return METRICS.get(self.metric) or Metric(self.metric.replace("_", " "))

    def __str__(self) -> str:
        title, shown = self.known.title, self.known.shown
        value, low, high = (
            f"{shown(number, '+')}" for number in (self.difference.value, self.difference.low, self.difference.high)
        )
        return (
            f"{title} {shown(self.measured)}% in {self.rows:,} rows against promised {shown(self.promised)}% "
            f"in {self.promised_rows:,}: {value} points [{low}, {high}]"
        )


class WatchFile(BaseModel):
    """The content of `watch.json`.

    :param release: number of the release that made `version` the champion.
    :param promised_by: source of the promised scores.
    :param intervals: keys of the watched intervals, of `of`; `drifted` ones, whose prompts moved, are not compared.
    """

    application: str
    release: int
    version: str
    promised_by: Literal["shadow", "evaluation"]
    intervals: list[str]
    of: int
    drifted: list[str]
    measures: list[Measure]
    margin: float
    verdict: Verdict
    reasons: list[str]

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that a decision records."""
        return {
            f"{measure.known.title}, {what}": value
            for measure in self.measures
            for what, value in (
                ("promised", measure.promised),
                ("measured", measure.measured),
                ("difference, high", measure.difference.high),
            )
        }


def watch_partition(storage: str, application: str, release: int, look: int) -> UPath:
    """Return the address of a look at a release; its result stands, so that nothing is tested twice."""
    return partition_of(storage, application, "watches", f"{release:04d}", f"{look:02d}")


def newest_look(storage: str, application: str, release: int) -> WatchFile | None:
    """Return the newest look at a release, or None.

    :raises BadInput: it cannot be read.
    """
    folder = watch_partition(storage, application, release, 0).parent
    for name in reversed(names_in(folder)):
        if manifest := read_manifest(folder / name):
            return WatchFile.model_validate_json(read_file(folder / name, manifest, WATCH))
    return None
