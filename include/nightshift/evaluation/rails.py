"""The measures of guard rails: a number between 0 (bad) and 1 for each answer, from a column of its interactions.

An answer in time is 1, a late one 0. For a limit on cost or tokens it is the unused share of the limit, 0 at or above it, so
the mean is that of costs capped at the limit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nightshift.settings.guard_rails import GuardRails

Array = np.ndarray[Any, np.dtype[np.float64]]

COLUMNS = {"in_time": "latency_ms", "cost_headroom": "cost", "token_headroom": "generated_tokens"}


def column_of(measure: str) -> str:
    """Return the column of interactions that a measure is computed from; scores have a column of their name."""
    return COLUMNS.get(measure, measure)


def rail_values(measure: str, values: Any, rails: GuardRails) -> Array:
    """Return a measure of each answer from its column; NaN if an answer has none."""
    numbers: Array = np.asarray(values, dtype=np.float64)
    if measure == "in_time":
        return np.where(np.isnan(numbers), np.nan, numbers <= (rails.latency_ms or 0))
    limit = {"cost_headroom": rails.cost_limit, "token_headroom": rails.token_limit}.get(measure)
    return 1 - np.minimum(numbers / limit, 1) if limit else numbers
