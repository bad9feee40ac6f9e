"""A search by successive halving: its plan, the results of its trials, and which trials go on; scores are computed elsewhere.

After each rung the best of the trials stay and answer more rows (Karnin, Koren and Somekh 2013; Jamieson and Talwalkar 2016).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from upath import UPath

from nightshift.evaluation.estimates import Estimate
from nightshift.storage.manifest import Manifest
from nightshift.storage.partition import read_file

PLAN, SEARCH = "plan.json", "search.json"
TODAY = 0  # the trial with the parts in use


class Trial(BaseModel):
    """One combination of the choices, by name, and the version that answers with it."""

    choices: dict[str, Any]
    model: str
    model_digest: str

    @property
    def name(self) -> str:
        """Its name for people."""
        texts = (f"{name} {one if isinstance(one, str) else json.dumps(one)}" for name, one in self.choices.items())
        return ", ".join(texts) or "as today"


class Plan(BaseModel):
    """The content of `plan.json`: all that a search depends on, so that edits of the application's file do not affect it.

    :param trials: the first has the parts in use.
    :param rungs: digests of the development rows that each rung adds.
    :param final: digests of the rows on which the best trial is compared with today; they are in no rung.
    :param fewest: the least number of rows with both scores for a comparison.
    :param relevant: the column of metadata with the relevant ids; all trials are measured at the largest `k`.
    """

    metric: str
    eta: int
    level: float
    fewest: int
    relevant: str | None = None
    k: int = 1
    trials: list[Trial]
    rungs: list[list[str]]
    final: list[str]


class Scored(BaseModel):
    """The mean score of a trial over the rows that it has answered, and the means of its other metrics."""

    trial: int
    rung: int
    rows: int
    score: float
    metrics: dict[str, float] = {}


class SearchFile(BaseModel):
    """The content of `search.json`.

    :param rungs: scores of the trials of each rung.
    :param best: the last remaining trial.
    :param final: mean scores of today and of the best trial on the rows of the final comparison.
    :param gain: best minus today on these rows; both bounds at the search's level.
    """

    metric: str
    trials: list[Trial]
    rungs: list[list[Scored]]
    best: int
    rows: int
    final: tuple[float, float]
    gain: Estimate | None
    level: float
    better: bool
    reason: str


def read_plan(partition: UPath, manifest: Manifest) -> Plan:
    """Return the plan of a search.

    :raises BadInput: the file is damaged.
    """
    return Plan.model_validate_json(read_file(partition, manifest, PLAN))


def pareto(points: Mapping[int, tuple[float, float]]) -> list[int]:
    """Return the Pareto-optimal trials: no other trial is as good in both numbers and better in one.

    :param points: for each trial its score (more is better) and its price (less is better).
    """
    return [
        trial
        for trial, (score, price) in points.items()
        if not any(s >= score and p <= price and (s, p) != (score, price) for s, p in points.values())
    ]


def ranked(scores: Mapping[int, float]) -> list[int]:
    """Return the trials without that of today, the best first; equal ones in the order of the plan."""
    return sorted((trial for trial in scores if trial != TODAY), key=lambda trial: (-scores[trial], trial))


def survivors(scores: Mapping[int, float], eta: int, spent: bool = False) -> list[int]:
    """Return the trials of the next rung: that of today, and the best `1/eta` of the others, at least one.

    :param spent: the search's time is used up: only the best of the others is left.
    """
    order = ranked(scores)[: 1 if spent else None]
    return [TODAY, *sorted(order[: math.ceil(len(order) / eta)])]
