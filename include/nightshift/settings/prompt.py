"""How an application speaks to its model: what a model is given, in training and wherever it answers.

A prompt is one, or a sequence of steps: each is a prompt file, and a later one may take the answers to the earlier ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from nightshift.settings.decoding import Decoding
from nightshift.settings.fields import Model, Name, omit_default
from nightshift.settings.intake import Source
from nightshift.settings.pinned_index import CONTEXT
from nightshift.settings.prompt_file import InputVariable, Metadata, PromptFile, read_prompt
from nightshift.settings.prompt_template import PROMPT, Code, Turn
from nightshift.settings.scorers import PROJECT

MOST_CHARACTERS = 90_000  # of a sequence: MLflow's registry takes tags of 100,000
# Arguments of a chat template, and of the function that applies it, which are Nightshift's own.
TAKEN = frozenset({
    "messages", "conversation", "tools", "documents", "chat_template", "tokenize", "add_generation_prompt",
    "continue_final_message", "tokenizer_kwargs", "return_dict", "return_tensors", "padding", "truncation", "max_length",
})  # fmt: skip


def _read(value: Any, info: ValidationInfo) -> Any:
    return read_prompt(value, info.context[PROJECT]) if isinstance(value, str) and info.context else value


# By name in the application's file, and by content in what jobs are given.
ReadFile = Annotated[PromptFile, BeforeValidator(_read), WithJsonSchema({"type": "string"})]


class Step(Model):
    """One prompt of a sequence; the files of later steps may take its answer as a variable of its name."""

    name: Name = Field(description="the variable that stands for its answer in later steps")
    file: ReadFile = Field(description="a prompt file of the project folder, as prompts/intent.yaml")


class Prompt(Model):
    """How the application speaks to its model."""

    file: ReadFile | None = omit_default(
        None, description="a prompt file of the project folder, as prompts/intent.yaml, in place of `system` and `user`"
    )
    steps: list[Step] = omit_default(
        [],
        max_length=10,
        description="prompts that are answered one after the other, in place of `file`, `system` and `user`",
    )
    answer: Name | None = omit_default(
        None, description="the step whose answer is the application's; null: the last one"
    )
    system: str | None = Field(None, description="system message", max_length=8_000)
    system_from: Literal["row", "application"] = omit_default(
        "row", description="whose system message counts where a row and the application have one"
    )
    system_in_user_turn: bool = omit_default(
        False, description="put the system message before the first user's text, for chat templates that take none"
    )
    template: dict[Name, bool | int | float | str] = omit_default(
        {}, max_length=20, description="arguments of the model's chat template, as `enable_thinking: false`"
    )
    user: str = Field("{prompt}", description="the user's message; `{prompt}` stands for the row's text")

    @field_validator("steps")
    @classmethod
    def _have_names_of_their_own(cls, value: list[Step]) -> list[Step]:
        names = [step.name for step in value]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"`{min(twice)}` is there twice")
        if taken := {PROMPT, CONTEXT}.intersection(names):
            raise ValueError(f"`{min(taken)}` is a variable with a meaning of its own; give the step another name")
        return value

    @field_validator("template")
    @classmethod
    def _leaves_what_is_set(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(TAKEN & set(value)):
            raise ValueError(f"{', '.join(taken)}: Nightshift sets this itself")
        return value

    @field_validator("user")
    @classmethod
    def _holds_the_prompt(cls, value: str) -> str:
        if "{prompt}" not in value:
            raise ValueError("must hold {prompt}")
        return value

    @model_validator(mode="after")
    def _says_it_once(self) -> Self:
        if self.answer and self.answer not in (names := [step.name for step in self.steps]):
            raise ValueError(f"answer: there is no step `{self.answer}`; there are {', '.join(names) or 'none'}")
        if self.file and self.steps:
            raise ValueError("`file` and `steps` both say what the model is given; keep one of them")
        if self.steps and len(self.model_dump_json()) > MOST_CHARACTERS:
            raise ValueError(f"steps: their files have more than {MOST_CHARACTERS:,} characters together")
        for name in ("system", "user") if self.files else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"`{name}` stands in the prompt's file; take it out here")
        for key, file in self.files.items():
            if taken := sorted((TAKEN | set(self.template)) & set(file.variables)):
                raise ValueError(f"{key}: a chat template takes `{taken[0]}` as an argument; rename the variable")
        return self

    def __hash__(self) -> int:  # what is made with a prompt is kept by it, and a record has no hash of its own
        return hash(self.model_dump_json())

    @property
    def files(self) -> dict[str, PromptFile]:
        """The prompt's files by the keys that name them, in the order in which they are asked; empty without any."""
        of_steps = {f"steps[{place}].file": step.file for place, step in enumerate(self.steps)}
        return of_steps or ({"file": self.file} if self.file else {})

    @property
    def answering(self) -> PromptFile | None:
        """The file that asks for the application's answer; None: `system` and `user` do."""
        return self.steps[self._answering].file if self.steps else self.file

    @property
    def _answering(self) -> int:
        return next((place for place, step in enumerate(self.steps) if step.name == self.answer), len(self.steps) - 1)

    @property
    def before(self) -> list[str]:
        """The names of the steps before the one that answers: what that may take the answers of."""
        return [step.name for step in self.steps[: max(0, self._answering)]]

    def at(self, step: str) -> Prompt:
        """Return the prompt of a step: the same sequence, asked for the answer of this one."""
        return self.model_copy(update={"answer": step})

    @property
    def alone(self) -> dict[str, Prompt]:
        """The prompt that each step would be by itself, by the step's name."""
        by_itself: dict[str, Any] = {"steps": [], "answer": None}
        return {step.name: self.model_copy(update=by_itself | {"file": step.file}) for step in self.steps}

    def unfit(
        self, decoding: Decoding, max_new_tokens: int, sources: Sequence[Source], *, retrieves: bool
    ) -> str | None:
        """Return which of its files an application of such settings cannot ask with, and why; None: it can ask with all."""
        for place, (key, file) in enumerate(self.files.items()):
            earlier = [step.name for step in self.steps[:place]]
            wrong = file.not_as(decoding, max_new_tokens)
            if wrong := wrong or file.unfilled(sources, earlier, retrieves=retrieves):
                return f"{key}: {wrong}"
        return None

    @property
    def thinks(self) -> bool:
        """Whether the model is asked to think before it answers, by either name that chat templates have for that."""
        return any(self.template.get(name) is True for name in ("enable_thinking", "thinking"))

    @property
    def written(self) -> list[dict[str, str]]:
        """The messages as they are written, with `{{ prompt }}` and each other variable by its name, in every language."""
        if file := self.answering:
            return [{"role": turn.role, "content": turn.jinja} for turn in file.turns]
        user = {"role": "user", "content": self.user.replace("{prompt}", "{{ prompt }}")}
        return [*self.system_messages(None), user]

    @property
    def columns(self) -> list[str]:
        """The columns of a row that the model is given something of, and its digest."""
        variables = any(file.variables for file in self.files.values())
        return ["digest", "messages", "tools", *(["metadata"] if variables else [])]

    def taken_from(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Return what the prompt takes of a row's metadata: with its digest, what decides what the model is given."""
        return {
            f"{key}:{name}" if self.steps else name: text
            for key, file in self.files.items()
            for name, text in file.values(row.get("metadata")).items()
        }

    def asked(self, text: str, metadata: Metadata = None) -> list[dict[str, str]]:
        """Return what stands for a row's text: examples, where the prompt has some, and the user's message.

        The text and the metadata are untrusted: they are never interpreted.

        :raises BadInput: the template of the prompt's file cannot be rendered.
        """
        if file := self.answering:
            return [message for message in file.messages(text, metadata) if message["role"] != "system"]
        return [{"role": "user", "content": self.user.replace("{prompt}", text)}]

    def system_messages(self, of_row: str | None, metadata: Metadata = None) -> list[dict[str, str]]:
        """Return the system message for a row that has one of its own, or has none: one message, or no message.

        :raises BadInput: as :meth:`asked`.
        """
        own = self.system
        if file := self.answering:
            first = file.messages("", metadata)[0]
            own = first["content"] if first["role"] == "system" else None
        system = of_row or own if self.system_from == "row" else own or of_row
        return [{"role": "system", "content": system}] if system else []

    def with_examples(self, rows: Sequence[Mapping[str, Any]]) -> Prompt:
        """Return the prompt with rows as further examples (few-shot), before the message that holds the row's text.

        What the rows say is text, whatever it looks like.

        :param rows: each with `prompt`, `answer` and `metadata`, and without other turns.
        :raises BadInput: as :meth:`asked`.
        :raises ValidationError: together they are too long for a prompt file.
        """
        if not rows:
            return self
        *before, last = self._turns
        for row in rows:
            asked = self.asked(row["prompt"], row["metadata"])[-1]["content"]
            before += [Turn("user", (asked,), "jinja2", False), Turn("assistant", (row["answer"],), "jinja2", False)]
        return self.of_file(self._file_of([*before, last]))

    @property
    def as_file(self) -> PromptFile:
        """The file that asks for the answer; of a prompt that has none, the file that says the same."""
        return self.answering or self._file_of(self._turns)

    def of_file(self, file: PromptFile) -> Prompt:
        """Return the prompt with another file in place of what it says, or of what its answering step says.

        :raises ValidationError: a variable of the file has the name of an argument of the chat template.
        """
        said: dict[str, Any] = {"file": file}
        if self.steps:
            steps = [*self.steps]
            steps[self._answering] = Step(name=steps[self._answering].name, file=file)
            said = {"steps": steps}
        return type(self).model_validate(self.model_dump(exclude={"file", "steps", "system", "user"}) | said)

    @property
    def _turns(self) -> tuple[Turn, ...]:
        if file := self.answering:
            return file.turns
        written, *rest = self.user.split("{prompt}")
        parts = (written, *(part for text in rest for part in (Code(PROMPT), text)))
        user = Turn("user", tuple(part for part in parts if part), "semantic-kernel", False)
        return (*([Turn("system", (self.system,), "jinja2", False)] if self.system else []), user)

    def _file_of(self, turns: Sequence[Turn]) -> PromptFile:
        variables = self.answering.input_variables if self.answering else [InputVariable(name=PROMPT)]
        template = "\n".join(turn.tagged for turn in turns)
        return PromptFile(template_format="jinja2", template=template, input_variables=variables)
