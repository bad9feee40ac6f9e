"""A prompt in a file of the project folder, in Semantic Kernel's YAML format: its template, its variables, its examples.

It is read with the application's file and is then part of its settings: jobs are given the prompt itself, never the file's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from nightshift.settings.decoding import Decoding, StopString
from nightshift.settings.fields import Model, hint, omit_default
from nightshift.settings.intake import Source
from nightshift.settings.pinned_index import CONTEXT
from nightshift.settings.prompt_template import PROMPT, Language, Turn, turns_of
from nightshift.settings.yaml_file import BadYaml, nodes_of, problem, read_yaml

Metadata = Mapping[str, str] | Sequence[tuple[str, str]] | None  # of a row, as it comes from Arrow
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]


class InputVariable(Model):
    """A variable of the template: `prompt`, the row's text, or the metadata column of its name."""

    name: VariableName = Field(description="`prompt`, or a column in `metadata` of the sources")
    default: str = omit_default("", description="value for rows that have none", max_length=8_000)
    description: str = Field("", description="for people", exclude=True)
    is_required: bool = Field(
        True, description="for Semantic Kernel; a row without a value gets `default`", exclude=True
    )
    allow_dangerously_set_content: Literal[False] = Field(False, description="values are always data", exclude=True)


class ExecutionSettings(Model):
    """What Semantic Kernel asks a service for. The application decodes by its own settings, which must say the same."""

    service_id: str = Field("", description="for Semantic Kernel")
    ai_model_id: str = Field("", description="for Semantic Kernel")
    max_tokens: int | None = Field(None, ge=1, description="as `inference.max_new_tokens`")
    temperature: float | None = Field(None, description="as `decoding.temperature`")
    top_p: float | None = Field(None, description="as `decoding.top_p`")
    stop: list[StopString] | None = Field(None, description="as `decoding.stop`")
    seed: int | None = Field(None, description="as `decoding.seed`")
    frequency_penalty: float | None = Field(None, description="as `decoding.frequency_penalty`")
    presence_penalty: float | None = Field(None, description="as `decoding.presence_penalty`")


class PromptFile(Model):
    """The content of a prompt file. What changes nothing of what a model is given is no part of what is dumped.

    The template has at most one system message, which comes first, then examples as turns of user and assistant, then the
    user's message, which alone holds the row's text.
    """

    name: str = Field("", max_length=200, description="for people", exclude=True)
    description: str = Field("", max_length=2_000, description="for people", exclude=True)
    template_format: Language = omit_default("semantic-kernel", description="language of `template`")
    template: str = Field(
        min_length=1, max_length=50_000, description="the messages, in `<message role=…>` tags, or one text"
    )
    input_variables: list[InputVariable] = Field(
        [], max_length=50, description="what is filled in", validate_default=True
    )
    execution_settings: dict[str, ExecutionSettings] = Field({}, description="by service", exclude=True)
    allow_dangerously_set_content: Literal[False] = Field(False, description="values are always data", exclude=True)

    @field_validator("template_format", mode="before")
    @classmethod
    def _is_rendered_here(cls, value: Any) -> Any:
        if value == "handlebars":
            raise ValueError(
                "handlebars is a language that Semantic Kernel alone renders, which Nightshift does without; write the template "
                "as semantic-kernel or jinja2"
            )
        return value

    @field_validator("template")
    @classmethod
    def _is_a_conversation(cls, value: str, info: ValidationInfo) -> str:
        if "template_format" not in info.data:
            return value
        turns = turns_of(value, info.data["template_format"])
        roles = [turn.role for turn in turns if turn.role != "system" or turn is not turns[0]]
        if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
            raise ValueError(
                f"its messages are of {', '.join(turn.role for turn in turns)}; one of the system may come first, then user and "
                "assistant take turns, and the last is the user's"
            )
        *before, last = (turn.variables for turn in turns)
        if PROMPT not in last:
            raise ValueError("its last message must hold the row's text, the variable `prompt`")
        if any(PROMPT in names for names in before):
            raise ValueError(
                "`prompt` is what a user typed, and stands in the last message alone: an instruction or an example is not for "
                "users to write"
            )
        return value

    @field_validator("input_variables")
    @classmethod
    def _are_those_of_the_template(cls, value: list[InputVariable], info: ValidationInfo) -> list[InputVariable]:
        known = [variable.name for variable in value]
        if twice := {name for name in known if known.count(name) > 1}:
            raise ValueError(f"`{min(twice)}` is there twice")
        if info.data.keys() >= {"template", "template_format"}:
            used = set().union(
                *(turn.variables for turn in turns_of(info.data["template"], info.data["template_format"]))
            )
            for name in sorted(used - {PROMPT, *known}):
                raise ValueError(f"the template takes `{name}`, which is not among them; {hint(name, known)}")
        return value

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The messages of the template."""
        return turns_of(self.template, self.template_format)

    @property
    def as_yaml(self) -> str:
        """The file as a project has it: what is no part of its digest is left out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=10_000)

    @property
    def variables(self) -> dict[str, str]:
        """The variables that rows give values to, with their defaults."""
        return {one.name: one.default for one in self.input_variables if one.name != PROMPT}

    def messages(self, text: str, metadata: Metadata) -> list[dict[str, str]]:
        """Return the chat messages for a row: those of the template, whose last one asks for the answer to `text`.

        :raises BadInput: Jinja cannot compute one.
        """
        values = self.values(metadata) | {PROMPT: text}
        return [{"role": turn.role, "content": turn.text(values)} for turn in self.turns]

    def values(self, metadata: Metadata) -> dict[str, str]:
        """Return the values of a row's variables, `prompt` left out."""
        of_row = dict(metadata or ())
        return {name: of_row.get(name) or default for name, default in self.variables.items()}

    def not_as(self, decoding: Decoding, max_new_tokens: int) -> str | None:
        """Return what the execution settings say otherwise than those of the application; None: nothing."""
        own = {"max_tokens": ("inference.max_new_tokens", max_new_tokens)}
        for service, settings in self.execution_settings.items():
            for name, value in settings.model_dump(exclude_none=True, exclude={"service_id", "ai_model_id"}).items():
                key, ours = own.get(name, (f"decoding.{name}", getattr(decoding, name, None)))
                if value != ours:
                    return (
                        f"execution_settings.{service}.{name} is {value!r}, and {key} of the application, by which it answers, "
                        f"{ours!r}; write the same, or take it out of the prompt's file"
                    )
        return None

    def unfilled(self, sources: Sequence[Source], answered: Sequence[str], *, retrieves: bool) -> str | None:
        """Return which variable gets no value, or none that may stand there, and why; None: there is none.

        :param sources: of all rows that the model is given.
        :param answered: the names of the steps before this prompt, whose answers are variables.
        :param retrieves: passages of documents are a variable too.
        """
        passages = {CONTEXT} if retrieves else set()
        instructing = set().union(*(turn.variables for turn in self.turns[:-1]))
        if passages & instructing:
            return f"`{CONTEXT}` is what documents say, and stands in the last message alone: they write no instruction"
        if said := instructing.intersection(answered):
            return (
                f"`{min(said)}` is what the model answers to a user's text, and stands in the last message alone: it writes no "
                "instruction"
            )
        columns = {source.name: source.columns.metadata for source in sources}
        known = sorted({name for names in columns.values() for name in names})
        for name, default in self.variables.items():
            if name in passages or name in answered:
                continue
            if name not in known:
                what = "is no earlier step, and no column" if answered else "is no column"
                return f"the variable `{name}` {what} in `metadata` of any source; {hint(name, [*answered, *known])}"
            lacking = [source for source, names in columns.items() if name not in names]
            if lacking and not default:
                return (
                    f"the variable `{name}` is no column in `metadata` of the source {lacking[0]!r}: add it there, or give the "
                    "variable a `default`"
                )
        return None


def read_prompt(name: str, folder: Path) -> PromptFile:
    """Return the prompt in the file `name`, a path in the project folder.

    :raises ValueError: the file is missing or wrong; each problem has its line.
    """
    path = folder / name
    if path.suffix != ".yaml" or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{name} is no .yaml file of the project folder ({folder}), as prompts/intent.yaml")
    try:
        return PromptFile.model_validate(read_yaml(path))
    except FileNotFoundError:
        near = sorted(file.relative_to(folder).as_posix() for file in path.parent.glob("*.yaml"))
        raise ValueError(f"there is no file {path}; {hint(name, near)}") from None
    except BadYaml as error:
        raise ValueError(str(error)) from None
    except ValidationError as error:
        root = nodes_of(path)
        raise ValueError("; ".join(problem(PromptFile, path, root, dict(item)) for item in error.errors())) from None


def prompt_schema() -> dict[str, Any]:
    """Return the JSON Schema of a prompt file, for editors."""
    schema = PromptFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Nightshift prompt"}
