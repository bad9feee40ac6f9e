"""A team's own scorers: functions in modules of its project folder, named in an application's YAML.

Where an application file is read, a module is looked at as text: its file must be there and define the function. It is
imported by the jobs that score, and by nothing else (evaluation/own_scorers.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import Field, FiniteFloat, ValidationInfo, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from nightshift.settings.fields import Model, Name, hint
from nightshift.settings.metrics import BUILT_IN, SMALLEST_SCORE_DEVIATION, Metric
from nightshift.settings.module_file import function_digest

PROJECT = "project"  # key of the validation context, where a file is read: the project folder
# Columns of interactions that are no metrics.
COLUMNS = frozenset(
    {
        "row", "digest", "id", "timestamp", "metadata", "prompt", "response", "reference", "context", "model",
        "model_digest", "prompt_version", "latency_ms", "cost", "logprob", "generated_tokens", "judge_reason", "unscored",
        "retrieved", "steps",
    }
)  # fmt: skip
# Under these the seconds of several scores together are kept, beside those of each own scorer.
SHARED_SECONDS = frozenset({"tokens", "language", "heads"})
# Measures of shadows, splits and watches, and columns of their files.
MEASURES = frozenset({"score", "unit", "look", "in_time", "cost_headroom", "token_headroom"})
TAKEN = COLUMNS | SHARED_SECONDS | MEASURES | frozenset(map(str, BUILT_IN))


class Scorer(Model):
    """A function of the team that gives each response a value: `def politeness(rows: list[dict]) -> list[float | None]`."""

    function: str = Field(
        pattern=r"^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$",
        max_length=200,
        description="`module:function`; the module `tone` is the file tone.py of the project folder, `text.tone` text/tone.py",
    )
    kind: Literal["number", "category", "share"] = Field(
        "number", description="what its values are: numbers, names, or 0 and 1 whose mean is a share"
    )
    group: Literal["scores", "quality", "outputs"] = Field(
        "scores", description="where it is shown; moves of `quality` alone, while inputs stay, are concept drift"
    )
    label: str = Field(
        "",
        max_length=40,
        pattern=r"^(\w[\w .,()+-]*)?$",
        description="what people read on pages and in alerts; empty: its name with spaces",
    )
    min: FiniteFloat | None = Field(None, description="smallest value of a number; a smaller one counts as failed")
    max: FiniteFloat | None = Field(None, description="largest value of a number; a larger one counts as failed")
    digest: SkipJsonSchema[str] = Field(
        "", description="SHA-256 of the module's file; filled in where this file is read"
    )

    @field_validator("function")
    @classmethod
    def _is_there(cls, value: str, info: ValidationInfo) -> str:
        if info.context:
            function_digest(value, info.context[PROJECT])
        return value

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> Self:
        if self.kind != "number" and (self.min is not None or self.max is not None):
            raise ValueError(f"`min` and `max` are for numbers; a {self.kind} has none")
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise ValueError(f"min ({self.min:g}) is not below max ({self.max:g})")
        if not info.context:
            return self
        if self.digest:
            raise ValueError("`digest` is filled in where the file is read; take it out")
        return self.model_copy(update={"digest": function_digest(self.function, info.context[PROJECT])})

    @property
    def range(self) -> tuple[float, float] | None:
        """Smallest and largest value, where both are known."""
        if self.kind == "share":
            return 0.0, 1.0
        return None if self.min is None or self.max is None else (self.min, self.max)

    @property
    def made_by(self) -> dict[str, Any]:
        """What determines the values: two of the same are compared, others never."""
        return self.model_dump(mode="json", exclude={"group", "label"})

    def metric(self, name: str) -> Metric:
        """Return the metric of the values, as profiles, verdicts and pages know it."""
        low, high = self.range or (0.0, 0.0)
        smallest = SMALLEST_SCORE_DEVIATION * (high - low)
        categorical = self.kind == "category"
        return Metric(name, self.group, self.label, categorical=categorical, smallest_deviation=smallest)


Scorers = dict[Name, Scorer]


def wrong_names(
    scorers: Mapping[str, Scorer], floors: Mapping[str, float], compared: Iterable[str]
) -> list[InitErrorDetails]:
    """Return what is wrong with the names of own scorers, their labels, and the metrics that policies name.

    :param floors: the metrics that have floors of their own, and `compared` those that the bias report compares groups by.
    """
    problems = []
    labels = {metric.label: str(metric) for metric in BUILT_IN}
    for name, scorer in scorers.items():
        if name in TAKEN:
            text = f"`{name}` is a name of Nightshift's own; rename the scorer. Taken are {', '.join(sorted(TAKEN))}"
            problems.append(_problem(("scorers", name), text))
            continue
        label = scorer.metric(name).label
        if label in labels:
            text = f"{label!r} is the label of `{labels[label]}` too; give it another"
            problems.append(_problem(("scorers", name, "label"), text))
        labels.setdefault(label, name)
    for name in compared:
        if name not in scorers:
            text = f"there is no own scorer `{name}`; {hint(name, scorers)}"
            problems.append(_problem(("bias", "metrics"), text))
        elif scorers[name].range is None:
            text = f"`{name}` is no share and lacks `min` or `max`: a gap between groups is a part of its range"
            problems.append(_problem(("bias", "metrics"), text))
    metrics = [*map(str, BUILT_IN), *scorers]
    return problems + [
        _problem(("drift", "metrics", name), f"there is no metric `{name}`; {hint(name, metrics)}")
        for name in floors
        if name not in metrics
    ]


def _problem(location: tuple[str, ...], text: str) -> InitErrorDetails:
    # The text may hold braces that a person wrote; as a value of the template they stay as they are.
    return InitErrorDetails(
        type=PydanticCustomError("wrong_name", "{text}", {"text": text}), loc=location, input={}, ctx={}
    )
