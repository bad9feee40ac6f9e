"""How a released version is watched in its first intervals, and what follows where these measure less than was promised."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nightshift.settings.fields import Share
from nightshift.settings.guard_rails import GuardRails


class Watch(GuardRails):
    """A released version must keep what its shadow, or without one its evaluation, promised."""

    intervals: int = Field(3, ge=1, le=50, description="first intervals of a released version that are watched")
    min_rows: int = Field(100, ge=10, description="fewer that can be compared by then: INSUFFICIENT_DATA")
    margin: Share = Field(0.05, description="a fall of no more than this is no breach, however surely it is shown")
    level: float = Field(
        0.05, gt=0.0001, le=0.2, description="accepted probability of a breach by a version that is as good as promised"
    )
    rollback: Literal["ask", "automatic"] = Field(
        "ask", description="after a breach: people are told, and roll back by the form; or it is taken back by itself"
    )
