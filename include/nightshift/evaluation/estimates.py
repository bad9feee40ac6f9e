"""A measured number with its interval, and what the comparison of models measured: shapes alone, nothing computes here."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

LOWER_IS_BETTER = frozenset({"loss", "perplexity"})


class Estimate(BaseModel):
    """A number with its 95 % interval. A model that fell apart has no finite loss; JSON says so in words."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    value: float
    low: float
    high: float


Scores = dict[str, Estimate]  # by metric


class Comparison(BaseModel):
    """What was measured: scores by role, and candidate minus other by the other's role."""

    examples: int
    scores: dict[str, Scores]
    differences: dict[str, Scores]
