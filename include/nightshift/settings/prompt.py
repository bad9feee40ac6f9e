"""How an application speaks to its model: what a model is given, in training and wherever it answers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from nightshift.settings.fields import Model, Name

# Arguments of a chat template, and of the function that applies it, which are Nightshift's own.
TAKEN = frozenset(
    [
        "messages",
        "conversation",
        "tools",
        "documents",
        "chat_template",
        "tokenize",
        "add_generation_prompt",
        "continue_final_message",
        "tokenizer_kwargs",
        "return_dict",
        "return_tensors",
        "padding",
        "truncation",
        "max_length",
    ]
)


class Prompt(Model):
    """How the application speaks to its model."""

    system: str | None = Field(None, description="system message", max_length=8_000)
    # Left out where it is the default, so that what was made before it was there keeps its address.
    system_from: Literal["row", "application"] = Field(
        "row",
        description="whose system message counts where a row and the application have one",
        exclude_if=lambda value: value == "row",
    )
    system_in_user_turn: bool = Field(
        False,
        description="put the system message before the first user's text, for chat templates that take none",
        exclude_if=lambda value: not value,
    )
    template: dict[Name, bool | int | float | str] = Field(
        {},
        max_length=20,
        description="arguments of the model's chat template, as `enable_thinking: false`",
        exclude_if=lambda value: not value,
    )
    user: str = Field("{prompt}", description="the user's message; `{prompt}` stands for the row's text")

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

    def __hash__(self) -> int:  # what is made with a prompt is kept by it, and a record has no hash of its own
        return hash(self.model_dump_json())

    @property
    def thinks(self) -> bool:
        """Whether the model is asked to think before it answers, by either name that chat templates have for that."""
        return any(self.template.get(name) is True for name in ("enable_thinking", "thinking"))

    def asked(self, text: str) -> str:
        """Return the user's message for a row's text, which is untrusted: it is never interpreted."""
        return self.user.replace("{prompt}", text)

    def system_messages(self, of_row: str | None) -> list[dict[str, str]]:
        """Return the system message for a row that has one of its own, or has none: one message, or no message."""
        system = of_row or self.system if self.system_from == "row" else self.system or of_row
        return [{"role": "system", "content": system}] if system else []
