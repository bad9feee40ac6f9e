"""How a released candidate takes over: from share to share of the traffic, beside the champion, while evidence supports it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nightshift.settings.fields import Model
from nightshift.settings.guard_rails import GuardRails

Unit = Literal["subject", "split_group", "row"]


class Split(GuardRails):
    """A candidate answers a growing share of the traffic before it becomes the champion; worse by the margin, it is stopped."""

    unit: Unit = Field(
        "subject",
        description="what is assigned and analysed as a whole: a user, what has one `split_group`, or a row; a row without the "
        "column is a unit of its own",
    )
    shares: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.05, 0.25],
        min_length=1,
        max_length=10,
        description="of the units that the candidate answers, step by step; the step after the last is the release",
    )
    margin: float = Field(
        0.05, ge=0, lt=1, description="a step is passed when the candidate is shown to be worse by less than this"
    )
    level: float = Field(
        0.05,
        gt=0.0001,
        le=0.2,
        description="accepted probability to stop a candidate that is worse by less than the margin",
    )
    min_units: int = Field(
        100, ge=20, le=500, description="units that each of both must have answered before they are compared"
    )
    intervals: int = Field(
        14, ge=1, le=366, description="intervals at one share without a result, after which people are told"
    )

    @model_validator(mode="after")
    def _only_grows(self) -> Self:
        if sorted(set(self.shares)) != self.shares:
            raise ValueError(f"shares must grow, and are {self.shares}")
        return self


class Arm(Model):
    """The rows of an interval that one of two versions answers.

    :param split: number of the split in the ledger.
    :param key: of the assignment, :mod:`nightshift.assignment`.
    """

    split: int
    challenger: bool
    key: str
    unit: Unit
    share: float
