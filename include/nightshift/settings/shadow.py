"""How a candidate is compared with the champion on what users asked, before users meet it."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from nightshift.settings.fields import Model, Share


class Shadow(Model):
    """A candidate answers logged prompts that the champion answered, and must be shown to be no worse than its answers."""

    prompts: int = Field(500, ge=10, le=100_000, description="logged prompts that a candidate answers at most")
    min_prompts: int = Field(
        100, ge=10, description="fewer that can be compared: INSUFFICIENT_DATA, and a person is asked"
    )
    intervals: int = Field(
        7,
        ge=1,
        le=366,
        description="newest intervals whose prompts are taken, the newest first, if the champion answered them",
    )
    margin: Share = Field(
        0.05, description="a candidate passes when it is shown to be worse by less than this; 0: to be better"
    )
    level: float = Field(
        0.05, gt=0.0001, le=0.2, description="accepted probability to pass a candidate that is worse by the margin"
    )
    looks: int = Field(
        4,
        ge=1,
        le=10,
        description="parts in which prompts are answered; it may end after each of them, at the same level; 1: a single test",
    )

    @model_validator(mode="after")
    def _asks_for_no_more_than_it_takes(self) -> Self:
        if self.min_prompts > self.prompts:
            raise ValueError(f"min_prompts ({self.min_prompts}) is above prompts ({self.prompts})")
        return self
