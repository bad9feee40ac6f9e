"""The index of an application's documents that one of its versions answers from. No file of an application names it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from nightshift.settings.fields import Model
from nightshift.settings.retrieval import SearchBy

CONTEXT = "context"  # the variable of a prompt's file that stands for the passages


class PinnedIndex(Model):
    """An index partition, and how it is searched.

    :param k: passages that a question is given, at most.
    """

    uri: str
    digest: str
    search: SearchBy
    k: int = Field(ge=1)

    @property
    def made_by(self) -> dict[str, Any]:
        """What determines the passages that it finds, wherever storage lies."""
        return self.model_dump(mode="json", exclude={"uri"})
