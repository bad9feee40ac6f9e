"""What a search tries: named choices, of which every combination is a trial, and how much each trial is given to answer."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, WithJsonSchema, field_validator, model_validator

from nightshift.settings.decoding import Decoding
from nightshift.settings.fields import Model, omit_default
from nightshift.settings.gate import RETRIEVAL
from nightshift.settings.intake import Source
from nightshift.settings.policies import Inference
from nightshift.settings.prompt import Prompt
from nightshift.settings.prompt_file import PromptFile, read_prompt
from nightshift.settings.retrieval import Chunk, Embedder, Reranker, Retrieval, SearchBy
from nightshift.settings.schedule import Schedule
from nightshift.settings.scorers import PROJECT

RUNGS = 3  # of the halving, as many as the DAG has
PROMPTS_SCHEMA = {"type": "array", "items": {"type": "string"}, "maxItems": 50}


class RetrievalChoice(Model):
    """What stands in place of settings of the application's `retrieval`; what is not given is as there."""

    chunk: Chunk | None = omit_default(None, description="how documents are cut into passages")
    embedder: Embedder | None = omit_default(None, description="what vectors are made with")
    search: SearchBy | None = omit_default(None, description="how passages are found")
    reranker: Reranker | None = omit_default(None, description="what puts the best of what was found first")
    k: int | None = omit_default(None, ge=1, le=100, description="passages that are found for a question")

    def applied_to(self, retrieval: Retrieval) -> Retrieval:
        """Return the settings with what is chosen."""
        return retrieval.model_copy(update={name: value for name, value in self if value is not None})


class Choices(Model):
    """What is chosen between, by name. What has no choice here is as the application's file says."""

    prompt: Annotated[dict[str, PromptFile], WithJsonSchema(PROMPTS_SCHEMA)] = Field(
        {}, max_length=50, description="prompt files of the project folder, as [prompts/brief.yaml, prompts/kind.yaml]"
    )
    few_shot: list[Annotated[int, Field(ge=0, le=32)]] = Field(
        [],
        max_length=10,
        description="how many rows of the training side stand in the prompt as examples, as [0, 4, 8]",
    )
    decoding: list[Decoding] = Field([], max_length=20, description="decoding settings, as [{}, {temperature: 0.3}]")
    retrieval: list[RetrievalChoice] = Field(
        [],
        max_length=50,
        description="what stands in place of settings of `retrieval`, as [{}, {search: bm25}, {chunk: {words: 80}}]",
    )

    @field_validator("prompt", mode="before")
    @classmethod
    def _are_read(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, list) or not info.context:
            return value
        if wrong := [name for name in value if not isinstance(name, str)]:
            raise ValueError(f"{wrong[0]!r:.200} is no name of a prompt file, as prompts/brief.yaml")
        return {name: read_prompt(name, info.context[PROJECT]) for name in value}

    @property
    def trials(self) -> list[dict[str, Any]]:
        """Every combination, each as choice -> value; prompts are named."""
        named: dict[str, list[Any]] = {name: [*values] for name, values in self if values}
        return [dict(trial) for trial in product(*([(name, one) for one in of] for name, of in named.items()))]


class Search(Model):
    """A search over prompts, few-shot examples, decoding and retrieval, on the development side, by successive halving."""

    choices: Choices = Field(description="what is chosen between; every combination is a trial")
    schedule: Schedule | None = Field(
        None, description="when it searches: a cron expression or preset; null: by hand only"
    )
    most_trials: int = Field(16, ge=1, le=200, description="more combinations than this are an error")
    most_minutes: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="minutes of answering, of all trials together, after which only the best one is left; null: any",
    )
    metric: Literal["judge", "retrieval_recall", "retrieval_mrr", "retrieval_ndcg"] | None = Field(
        None,
        description="`judge`: the score of the application's judge; `retrieval_…`: of the passages that are found, without "
        "any answer; null: the gate's metric",
    )
    rows: int = Field(50, ge=5, le=10_000, description="development rows that each trial of the first rung answers")
    eta: int = Field(
        3,
        ge=2,
        le=5,
        description="after each of 3 rungs one of `eta` trials stays, and answers `eta` times as many rows",
    )
    final_rows: int = Field(
        300,
        ge=20,
        le=100_000,
        description="further development rows, which no rung used, that compare the best with today",
    )
    level: float = Field(
        0.05, gt=0.0001, le=0.2, description="accepted probability to propose a candidate that is no better than today"
    )

    @property
    def edges(self) -> list[int]:
        """How many rows a trial has answered after each rung."""
        return [self.rows * self.eta**rung for rung in range(RUNGS)]

    @model_validator(mode="after")
    def _tries_no_more_than_it_may(self) -> Self:
        count = len(self.choices.trials)
        if self.choices == Choices():
            raise ValueError(
                "choices: there is nothing to choose; list values of prompt, few_shot, decoding or retrieval"
            )
        if count > self.most_trials:
            raise ValueError(
                f"the choices make {count} trials, and most_trials is {self.most_trials}; leave values out, or raise it"
            )
        return self

    def wrong_for(
        self,
        prompt: Prompt,
        decoding: Decoding,
        inference: Inference,
        retrieval: Retrieval | None,
        sources: list[Source],
    ) -> str | None:
        """Return what an application of such settings cannot search, with the rest of the setting's key before it.

        None: it can search all.
        """
        if wrong := self._unmeasured(retrieval):
            return wrong
        engine = "endpoint" if inference.hosted else inference.engine
        for place, choice in enumerate(self.choices.decoding):
            if wrong := choice.refused_by(engine, in_steps=bool(prompt.steps)):
                return f".choices.decoding[{place}].{wrong}"
        for name, file in self.choices.prompt.items():
            try:
                prompt.of_file(file)
            except ValidationError as error:
                return f".choices.prompt: {name}: {error.errors()[0]['msg']}"
            for choice in self.choices.decoding or [decoding]:
                wrong = file.not_as(choice, inference.max_new_tokens)
                if wrong := wrong or file.unfilled(sources, prompt.before, retrieves=retrieval is not None):
                    return f".choices.prompt: {name}: {wrong}"
        return None

    def _unmeasured(self, retrieval: Retrieval | None) -> str | None:
        if self.choices.retrieval and retrieval is None:
            return ".choices.retrieval: the application has no `retrieval`"
        if self.metric in RETRIEVAL:
            if not (retrieval and retrieval.relevant):
                return f".metric: {self.metric} needs `retrieval.relevant`"
            if others := [name for name, values in self.choices if values and name != "retrieval"]:
                return f".metric: {self.metric} looks at no answer; leave choices.{others[0]} out"
        return None
