"""A search by successive halving: what it tries, what became of each trial, and which trials go on. Nothing computes scores here.

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
TODAY = 0  # the trial of what is in use


class Trial(BaseModel):
    """One combination of the choices, by name, and the version that answers with it."""

    choices: dict[str, Any]
    model: str
    model_digest: str

    @property
    def name(self) -> str:
        """What people call it."""
        said = (f"{name} {one if isinstance(one, str) else json.dumps(one)}" for name, one in self.choices.items())
        return ", ".join(said) or "as today"


class Plan(BaseModel):
    """What `plan.json` holds: all that a search depends on, whatever becomes of the application's file meanwhile.

    :param trials: the first is as today.
    :param rungs: digests of the development rows that each rung adds.
    :param final: digests of those that the best trial and today are compared on, which are in no rung.
    :param fewest: rows with a score of both, without which nothing is compared.
    :param relevant: the column of metadata that says what should be retrieved; all trials are measured at the largest `k`.
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
    """The mean score of a trial over the rows that it has answered, and the means of all metrics that are known of them."""

    trial: int
    rung: int
    rows: int
    score: float
    metrics: dict[str, float] = {}


class SearchFile(BaseModel):
    """What `search.json` holds.

    :param rungs: scores of the trials of each rung.
    :param best: the trial that was left.
    :param final: mean scores of today and of the best on the rows of the last comparison.
    :param gain: best minus today there; both bounds at the search's level.
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
    """Return what a search tries.

    :raises BadInput: the file is damaged.
    """
    return Plan.model_validate_json(read_file(partition, manifest, PLAN))


def pareto(points: Mapping[int, tuple[float, float]]) -> list[int]:
    """Return the trials than which no other is as good by both numbers and better by one.

    :param points: of each trial, its score, of which more is better, and what it takes, of which less is.
    """
    return [
        trial
        for trial, (score, price) in points.items()
        if not any(s >= score and p <= price and (s, p) != (score, price) for s, p in points.values())
    ]


def ranked(scores: Mapping[int, float]) -> list[int]:
    """Return the trials beside that of today, the best first; of equal ones that which was listed first."""
    return sorted((trial for trial in scores if trial != TODAY), key=lambda trial: (-scores[trial], trial))


def survivors(scores: Mapping[int, float], eta: int, spent: bool = False) -> list[int]:
    """Return the trials of the next rung: that of today, and the best of the others, one of `eta` and at least one.

    :param spent: the search has no more time, and the best one alone is left.
    """
    order = ranked(scores)[: 1 if spent else None]
    return [TODAY, *sorted(order[: math.ceil(len(order) / eta)])]
