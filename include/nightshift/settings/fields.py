"""What all typed settings share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9_]{0,61}[a-z0-9])?$")]


class Model(BaseModel):
    """Unknown keys are errors and values never change after they were checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def omit_default(default: Any, **constraints: Any) -> Any:
    """Return a field that is not dumped where it is the default: what was made before the field existed keeps its address."""
    return Field(default, exclude_if=lambda value: value == default, **constraints)


def likely(name: str, known: Iterable[str]) -> str:
    """Return which known name a person may have meant; nothing if none is close."""
    close = difflib.get_close_matches(name, [*known], n=1)
    return f"did you mean `{close[0]}`?" if close else ""


def hint(name: str, known: Iterable[str], otherwise: str = "there are") -> str:
    """Return which known name a person may have meant, or behind `otherwise` what the known ones are."""
    names = list(known)
    return likely(name, names) or f"{otherwise} {', '.join(names) or 'none'}"
