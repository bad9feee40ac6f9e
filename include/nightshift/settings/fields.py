"""What all typed settings share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9_]{0,61}[a-z0-9])?$")]


class Model(BaseModel):
    """Unknown keys are errors and values never change after they were checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)
