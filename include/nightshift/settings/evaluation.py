"""How models are compared before a release: on which examples, and how many of them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, WithJsonSchema, field_validator

from nightshift.settings.fields import Model, omit_default
from nightshift.settings.intake import Source

RESERVED = {"all", "known", "new", "corrections"}
SAMPLE_FIELDS = re.compile(r"{(start|end)")


class Evaluation(Model):
    """How models are compared: the same held-out examples for base, champion and candidate."""

    max_examples: int = Field(300, ge=10, le=100_000, description="held-out examples, chosen by digest")
    max_new_tokens: Annotated[int | None, WithJsonSchema({"type": ["integer", "null"], "minimum": 1})] = Field(
        None, ge=1, le=32_768, description="longest answer; empty: inference.max_new_tokens"
    )
    samples: Annotated[int | None, WithJsonSchema({"type": ["integer", "null"], "minimum": 1})] = omit_default(
        None, ge=1, le=32, description="answers to each example; empty: 4 where decoding.temperature is above 0, else 1"
    )
    batch_size: int = Field(32, ge=1, le=1024, description="prompts generated at once")
    suites: list[Source] = omit_default(
        [],
        max_length=20,
        description="files of examples that every candidate is judged by, too; `gate.conditions` bounds what they measure",
    )

    @field_validator("suites")
    @classmethod
    def _are_files_with_answers(cls, value: list[Source]) -> list[Source]:
        if len({suite.name for suite in value}) != len(value):
            raise ValueError("two suites have the same name; give each a `name` of its own")
        for suite in value:
            if suite.uri is None or SAMPLE_FIELDS.search(suite.uri):
                raise ValueError(f"suite {suite.name!r}: its `uri` names files that are the same for every interval")
            if suite.name in RESERVED:
                raise ValueError(f"suite {suite.name!r}: call it otherwise; this is a slice of the held-out examples")
        return value
