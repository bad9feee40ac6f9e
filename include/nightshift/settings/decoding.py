"""How an answer is chosen from what a model finds likely: part of an application, as its prompt and its weights are."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from nightshift.settings.fields import Model, omit_default

StopString = Annotated[str, Field(min_length=1, max_length=100)]


class Decoding(Model):
    """The decoding settings; greedy without any. Batch inference, evaluation, replays and bias reports use the same.

    Each is left out of what is dumped where it is the default, so that what was made before it was there keeps its address.
    """

    temperature: float = omit_default(0.0, ge=0, le=2, description="0: the likeliest token (greedy)")
    top_p: float = omit_default(
        1.0, gt=0, le=1, description="tokens are drawn from the likeliest ones that have this probability together"
    )
    stop: list[StopString] = omit_default(
        [], max_length=16, description="an answer ends before the first of these texts"
    )
    repetition_penalty: float = omit_default(
        1.0, gt=0, le=2, description="divides the logits of tokens of prompt and answer; 1: none"
    )
    frequency_penalty: float = omit_default(
        0.0, ge=-2, le=2, description="subtracted from a token's logit each time that the answer has it"
    )
    presence_penalty: float = omit_default(
        0.0, ge=-2, le=2, description="subtracted from the logit of each token that the answer has"
    )
    seed: int = omit_default(
        17,
        ge=0,
        le=2**31 - 1,
        description="of what is drawn; the draws of a row depend on it and the row's digest alone",
    )
    json_schema: dict[str, Any] | None = omit_default(None, description="the answer is JSON of this schema")
    regex: str | None = omit_default(
        None,
        min_length=1,
        max_length=4_000,
        description="the answer matches this regular expression (not with an endpoint)",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.json_schema is not None and self.regex is not None:
            raise ValueError("json_schema and regex both say what an answer looks like; keep one of them")
        if self.regex is not None:
            try:
                re.compile(self.regex)
            except re.error as error:
                raise ValueError(f"regex is no regular expression: {error}") from error
        if self.temperature == 0 and self.top_p < 1:
            raise ValueError("top_p needs a temperature above 0: nothing is drawn without one")
        return self

    @property
    def constraint(self) -> str | None:
        """The setting that says what an answer must look like, by its name; None without one."""
        return "json_schema" if self.json_schema is not None else "regex" if self.regex is not None else None

    def refused_by(self, engine: str, *, in_steps: bool) -> str | None:
        """Return the setting that an engine cannot keep to, and why; None: it can keep to all.

        :param in_steps: it is asked a sequence of prompts, of which one has the answer.
        """
        if self.regex and engine == "endpoint":
            return "regex: an endpoint cannot be asked to keep to it; use decoding.json_schema"
        if self.constraint and in_steps and engine != "endpoint":
            return f"{self.constraint}: each of `prompt.steps` would have to keep to it; leave one of the two out"
        return None

    @property
    def left_to_servers(self) -> list[str]:
        """Settings that are not the default, and that Hugging Face's generation config does not know."""
        lacking = ("stop", "frequency_penalty", "presence_penalty", "json_schema", "regex")
        return [name for name in lacking if name in self.model_dump()]
