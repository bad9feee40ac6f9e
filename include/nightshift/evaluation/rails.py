"""What guard rails are measured in: of each answer a number between 0 (bad) and 1, from a column of its interactions.

An answer in time is 1, a late one 0. Of a limit on cost or tokens it is the share that the answer leaves, 0 from the limit on, so
the mean is that of costs which count as the limit where they are above it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nightshift.settings.guard_rails import GuardRails

Array = np.ndarray[Any, np.dtype[np.float64]]

COLUMNS = {"in_time": "latency_ms", "cost_headroom": "cost", "token_headroom": "generated_tokens"}


def column_of(measure: str) -> str:
    """Return the column of interactions that a measure is computed from; that of a score has its name."""
    return COLUMNS.get(measure, measure)


def rail_values(measure: str, values: Any, rails: GuardRails) -> Array:
    """Return a measure of each answer from its column; not a number where an answer has none."""
    numbers: Array = np.asarray(values, dtype=np.float64)
    if measure == "in_time":
        return np.where(np.isnan(numbers), np.nan, numbers <= (rails.latency_ms or 0))
    limit = {"cost_headroom": rails.cost_limit, "token_headroom": rails.token_limit}.get(measure)
    return 1 - np.minimum(numbers / limit, 1) if limit else numbers
