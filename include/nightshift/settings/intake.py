"""What comes in: where an application's rows lie, and how they become accepted examples."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from nightshift.settings.fields import Model, Name, Share

PiiKind = Literal["email", "phone", "card", "iban", "ip", "ssn", "secret"]
NameKind = Literal["person", "location", "organization", "date", "affiliation"]
SAMPLE_DAY = datetime(2026, 11, 2, tzinfo=UTC)


class Columns(Model):
    """Which columns of a source hold what. Dots reach into nested records (`payload.text`)."""

    prompt: str | None = Field(None, description="column with the user's text")
    input: str | None = Field(None, description="column with a text that follows the prompt where a row has one")
    answer: str | None = Field(None, description="column with the wanted answer")
    rejected: str | None = Field(
        None, description="preference pairs: column with the answer that `answer` was preferred to"
    )
    messages: str | None = Field(
        None, description="column with a whole conversation [{role, content}, …], in place of prompt and answer"
    )
    tools: str | None = Field(None, description="column with the tools that may be called: a list of functions")
    system: str | None = Field(None, description="column with the system message of a row")
    id: str | None = Field(
        None, description="column that identifies a row; a second row with one is a duplicate, or quarantined"
    )
    timestamp: str | None = Field(
        None,
        description="column with the time of the row: ISO 8601, or seconds, milli-, micro- or nanoseconds since 1970",
    )
    subject: str | None = Field(
        None, description="column with the user or customer, kept as a keyed hash; what one asks is on one side"
    )
    split_group: str | None = Field(
        None, description="column with what else is on one side as a whole: a document or a thread, say"
    )
    response: str | None = Field(None, description="traffic only: column with what a serving system answered")
    context: str | None = Field(None, description="traffic only: column with the text that the response must rest on")
    metadata: list[str] = Field([], description="further columns to keep, as text")

    @property
    def keyed(self) -> bool:
        """Whether a column is mapped whose values may be hashed with the installation's key."""
        return bool(self.id or self.subject or self.split_group)

    @cached_property
    def single_turn(self) -> bool:
        """Whether a row says nothing but a question and an answer, each in a column of the row itself."""
        others = (self.messages, self.rejected, self.input, self.system)
        return all(name is None for name in others) and "." not in f"{self.prompt}{self.answer}"

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Self:
        if self.rejected is not None and (self.answer is None or self.messages is not None):
            raise ValueError(
                "`rejected` stands beside `answer`, which was chosen, and a `prompt` where it is in neither"
            )
        if self.rejected is None and (self.messages is None) == (self.prompt is None):
            raise ValueError("give either `messages`, or `prompt` (with `answer` where there is one)")
        if self.messages is not None and self.answer is not None:
            raise ValueError("`messages` already holds the answer; leave `answer` out")
        if self.messages is not None and self.input is not None:
            raise ValueError("`input` follows a `prompt`; with `messages` leave it out")
        for name in filter(None, (self.id, self.split_group, *self.metadata) if self.subject else ()):
            if f"{name}.".startswith(f"{self.subject}.") or f"{self.subject}.".startswith(f"{name}."):
                raise ValueError(
                    f"`subject` is kept as a keyed hash only; leave {name!r} out of `id`, `split_group`, `metadata`"
                )
        return self


# The columns of formats that people have, by the name of the format.
LAYOUTS: dict[str, dict[str, str]] = {
    "openai": {"messages": "messages", "tools": "tools"},
    "sharegpt": {"messages": "conversations", "tools": "tools"},
    "alpaca": {"prompt": "instruction", "input": "input", "answer": "output"},
    "completion": {"prompt": "prompt", "answer": "completion"},
    "preference": {"prompt": "prompt", "answer": "chosen", "rejected": "rejected", "tools": "tools"},
    "openai_preference": {
        "prompt": "input.messages", "answer": "preferred_output", "rejected": "non_preferred_output",
        "tools": "input.tools",
    },
}  # fmt: skip
# Of these, what no file must have.
OPTIONAL: dict[str, tuple[str, ...]] = {
    "openai": ("tools",),
    "sharegpt": ("tools",),
    "alpaca": ("input",),
    "preference": ("prompt", "tools"),
    "openai_preference": ("tools",),
}


def _columns_or_layout(schema: dict[str, Any]) -> None:
    schema["required"].remove("columns")
    schema["anyOf"] = [{"required": [name]} for name in ("columns", "layout")]


class Source(Model):
    """Where rows come from: files at a URI, or a query through an Airflow connection."""

    model_config = ConfigDict(json_schema_extra=_columns_or_layout)

    name: Name = Field("source", description="how manifests and reports call this source")
    uri: str | None = Field(
        None,
        description="path or URI of files; `{start:%Y-%m-%d}` and `{end:…}` stand for the data interval, `*` matches; "
        "a relative path starts at the application's file",
    )
    format: Literal["jsonl", "json", "csv", "tsv", "parquet"] | None = Field(
        None, description="default: by the name's ending"
    )
    layout: Literal["openai", "sharegpt", "alpaca", "completion", "preference", "openai_preference"] | None = Field(
        None, description="a format whose columns are known; `columns` then adds to them"
    )
    connection: str | None = Field(None, description="Airflow connection id of a database, with `query`")
    query: str | None = Field(None, description="SELECT with the bind parameters :start and :end")
    columns: Columns = Field(description="column mapping")

    @model_validator(mode="before")
    @classmethod
    def _columns_of_the_layout(cls, value: Any) -> Any:
        layout = LAYOUTS.get(str(value.get("layout"))) if isinstance(value, dict) else None
        if layout is None:
            return value
        given = value.get("columns") or {}
        if isinstance(given, Columns):
            given = given.model_dump(exclude_none=True)
        return value | {"columns": layout | given} if isinstance(given, dict) else value

    @model_validator(mode="after")
    def _files_or_query(self) -> Self:
        self.require_place()
        return self

    def require_place(self) -> None:
        """Check that it is said where the rows are, once.

        :raises ValueError: it is not.
        """
        if (self.uri is None) == (self.query is None):
            raise ValueError("give either `uri`, or `connection` and `query`")
        if (self.query is None) != (self.connection is None):
            raise ValueError("`connection` and `query` go together")

    @field_validator("uri")
    @classmethod
    def _only_the_interval(cls, value: str | None) -> str | None:
        for field in re.findall(r"{([^}:]*)", value or ""):
            if field not in {"start", "end"}:
                raise ValueError(f"`{{{field}}}` is not known; a uri may hold {{start:…}} and {{end:…}}")
        try:
            sample = (value or "").format(start=SAMPLE_DAY, end=SAMPLE_DAY)
        except (ValueError, LookupError, AttributeError) as error:
            raise ValueError(f"the data interval cannot be filled in: {error}; write braces as {{{{ and }}}}") from None
        if "://" in sample:
            from fsspec.registry import available_protocols

            protocol = sample.partition("://")[0].partition("::")[0]
            if protocol not in available_protocols():
                raise ValueError(f"no storage is known as `{protocol}://`; s3, gs, abfs, http, sftp and file are")
        return value

    @property
    def optional(self) -> set[str]:
        """The columns of the layout that a file may lack."""
        layout, mapped = LAYOUTS.get(self.layout or "", {}), self.columns.model_dump()
        fields = OPTIONAL.get(self.layout or "", ())
        return {layout[field] for field in fields if mapped[field] == layout[field]}

    def uri_for(self, start: datetime, end: datetime) -> str:
        """Return the URI with the data interval filled in."""
        return (self.uri or "").format(start=start, end=end)


class Traffic(Model):
    """What users ask in production. Without sources, the traffic split of the examples is replayed."""

    sources: list[Source] = Field(
        [],
        description="where prompts come from; with `columns.response`, whole interactions that were served elsewhere",
    )
    segments: list[str] = Field([], description="metadata columns by which the nightly reports look apart")

    @model_validator(mode="after")
    def _served_or_not(self) -> Self:
        if len({source.columns.response is None for source in self.sources}) > 1:
            raise ValueError("either every traffic source has `columns.response`, or none")
        if len({source.name for source in self.sources}) != len(self.sources):
            raise ValueError("two traffic sources have the same name; give each a `name` of its own")
        return self

    @property
    def served_elsewhere(self) -> bool:
        """Whether the responses are already there."""
        return bool(self.sources) and self.sources[0].columns.response is not None


class Splits(Model):
    """Shares of the questions that are trained on, replayed as traffic, kept to judge with, and to search with.

    On `development` rows, prompts and settings may be tried out: no gate ever judges by them.
    """

    train: Share = 0.8
    traffic: Share = 0.0
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    development: Share = 0.0

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.traffic + self.held_out + self.development
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + traffic + held_out + development must be 1, not {total:g}")
        return self


class Names(Model):
    """Names of people and places: found by spaCy models through Presidio, the extra `nightshift[presidio]`."""

    models: dict[
        Annotated[str, Field(pattern=r"^([a-z]{2,3}|other)$")],
        Annotated[str, Field(pattern=r"^([A-Za-z_]\w*|\.{0,2}/.+)$")],
    ] = Field(
        min_length=1,
        description="spaCy models by language (ISO 639 code; `und`: cannot be told; `other`: every other one): an installed "
        "package, as en_core_web_lg, or the path of a folder that begins with ./, ../ or /",
    )
    kinds: list[NameKind] = Field(
        ["person", "location"],
        min_length=1,
        description="what is replaced by a placeholder; `affiliation`: nationalities, religions and political groups",
    )

    def model_for(self, language: str) -> str | None:
        """Return the model that searches texts of a language; None: there is none."""
        return self.models.get(language, self.models.get("other"))


class Ingest(Model):
    """How raw rows become examples."""

    max_characters: int = Field(20_000, ge=10, le=1_000_000, description="longer texts are quarantined")
    near_duplicates: Share = Field(
        0.9, description="estimated Jaccard similarity of a near-duplicate; 1: only exact ones"
    )
    redact: list[PiiKind] = Field(
        ["email", "phone", "card", "iban", "ip", "ssn", "secret"],
        description="kinds of personal data replaced by a placeholder",
    )
    names: Names | None = Field(None, description="names of people and places, which no pattern tells; null: they stay")
    splits: Splits = Field(Splits(), description="shares of train, traffic, held-out and development questions")


class Measure(Model):
    """One expectation about a partition: a measured number within bounds."""

    measure: Literal[
        "rows", "quarantined_share", "duplicate_share", "pii_share", "answered_share", "main_language_share",
        "distinct_answers", "prompt_characters_median", "prompt_tokens_p99", "answer_tokens_p99",
        "held_out_share", "largest_group_share", "between_sides_share", "names_searched_share",
    ] = Field(description="what is measured, over the whole partition")  # fmt: skip
    min: float | None = Field(None, description="lowest accepted value")
    max: float | None = Field(None, description="highest accepted value")
    severity: Literal["critical", "warning"] = Field(
        "critical", description="critical stops the flow, warning marks it"
    )

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give `min`, `max` or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class Validation(Model):
    """What a partition must look like before anyone trains on it."""

    min_rows: int = Field(50, ge=1, description="below this many examples the verdict is INSUFFICIENT_DATA")
    expectations: list[Measure] = Field(
        [
            Measure(measure="quarantined_share", max=0.05),
            Measure(measure="answered_share", min=0.99),
            Measure(measure="duplicate_share", max=0.5, severity="warning"),
            Measure(measure="main_language_share", min=0.8, severity="warning"),
            Measure(measure="held_out_share", min=0.01, severity="warning"),
            Measure(measure="largest_group_share", max=0.5, severity="warning"),
            Measure(measure="between_sides_share", max=0.1, severity="warning"),
        ],
        description="bounds on the measures of a partition",
    )
    suites: list[Name] = Field(
        [], description="hand-written Great Expectations suites: files suites/<name>.json of the project"
    )

    @field_validator("suites")
    @classmethod
    def _have_pages_of_their_own(cls, value: list[str]) -> list[str]:
        if taken := sorted({"profile", "index"} & set(value)):
            raise ValueError(
                f"`{taken[0]}` is what Nightshift's own checks and their page are called; rename the suite"
            )
        if twice := sorted({name for name in value if value.count(name) > 1}):
            raise ValueError(f"`{twice[0]}` is there twice")
        return value
