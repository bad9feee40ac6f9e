"""The outcome of every check. Never a boolean: no data is not a pass, and a broken check is not a fail."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """Ordered from best to worst by :func:`worst`."""

    PASS = "PASS"
    WARN = "WARN"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"
    FAIL = "FAIL"
    ERROR = "ERROR"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of `verdicts`; of none at all, `INSUFFICIENT_DATA`."""
    order = list(Verdict)
    return max(verdicts, key=order.index, default=Verdict.INSUFFICIENT_DATA)
