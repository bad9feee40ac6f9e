"""A model's chat template: the one place that says what a model is given and what it says.

A conversation is rendered once, with a mark in place of each answer that counts. What stands before the mark is what the model
is given, in training, generation, scoring and bias probes alike, whatever a template writes there: an empty block of thoughts,
the beginning of an answer with or without being asked for one. Behind the mark stands what ends the turn, which is learned too;
what follows that separates turns, and is neither given nor learned.

Templates that write the date always write 26 July 2024, as those of Llama 3 do by default: the same rows give the same tokens
on any day.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from nightshift.errors import BadInput
from nightshift.settings.application import Prompt
from nightshift.training.control_tokens import ControlTokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TODAY = datetime(2024, 7, 26)
# A macro in front of a template takes the place of the function that tells it the time.
FORMATS = [*(f"%-{code}" for code in "dmyHIMSj"), *(f"%{code}" for code in "aAwdbBmyYHIMSpjUWcxXzZf"), "%%"]
FIXED_DATE = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f" | replace({code!r}, {TODAY.strftime(code)!r})" for code in FORMATS)
    + " }}{% endmacro %}\n"
)
CANNOT_CHAT = "choose an instruction-tuned model, or one with another template"


@dataclass(frozen=True)
class Rendering:
    """A conversation as text: what stands before, between and behind the answers that count, and these.

    :param frames: one more than there are answers.
    :param renamed: control tokens have the names that :class:`ControlTokens` gives them.
    """

    frames: list[str]
    answers: list[str]
    renamed: bool

    @cached_property
    def given(self) -> str:
        """What stands before the last answer. Spaces before it are left to the answer: tokens begin with their space."""
        return self._before_last.rstrip(" ")

    @property
    def said(self) -> str:
        """The last answer with the spaces before it."""
        return self._before_last[len(self.given) :] + self.answers[-1]

    @cached_property
    def _before_last(self) -> str:
        *earlier, last = self.frames[:-1]
        return "".join(text for pair in zip(earlier, self.answers, strict=False) for text in pair) + last


class ChatTemplate:
    """The chat template of a tokenizer, in the words of an application's `prompt`.

    :raises BadInput: the tokenizer has no template, or one that cannot be used; a small conversation was tried.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> None:
        if not tokenizer.chat_template:
            raise BadInput("the model's tokenizer has no chat template; choose an instruction-tuned model")
        try:
            template = tokenizer.get_chat_template()
        except ValueError as error:
            raise BadInput(f"the model's chat template cannot be used: {error}; choose another model") from error
        self._tokenizer, self.prompt = tokenizer, prompt
        self._template = FIXED_DATE + template if "strftime_now" in template else template
        self.control = ControlTokens(tokenizer, template)
        self._secret = secrets.token_hex(8)
        self._marks = re.compile(f"{self._secret}([0-9]+)z")
        self._end, self.end_id = self._end_of_turn()

    def messages(self, turns: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """Return the chat messages for the `turns` of a row, in the application's words.

        One system message stands first: the row's or the application's, as `prompt.system_from` says; or its text stands before
        that of the first user's turn, where `prompt.system_in_user_turn` is true. A single user turn goes through the
        application's template; the turns of a longer conversation are as they were.
        """
        messages = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
        own = messages.pop(0)["content"] if messages[0]["role"] == "system" else None
        if [message["role"] for message in messages] in (["user"], ["user", "assistant"]):
            messages[0]["content"] = self.prompt.asked(messages[0]["content"])
        system = self.prompt.system_messages(own)
        if system and self.prompt.system_in_user_turn:
            messages[0]["content"] = f"{system.pop()['content']}\n\n{messages[0]['content']}"
        return [*system, *messages]

    def render(self, messages: Sequence[Mapping[str, str]], answers: Collection[int], name: str) -> Rendering:
        """Return a conversation as text, cut at the answers that count.

        :param answers: their places in `messages`, rising, at least one.
        :param name: what a message of an error calls the conversation.
        :raises BadInput: the template refuses the conversation, or loses, doubles or reorders an answer or a system message.
        """
        renamed = self.control.within("".join(message["content"] for message in messages))
        texts: list[str] = []

        def mark(text: str) -> str:
            texts.append(text)
            return f"{self._secret}{len(texts) - 1}z"

        shown, expected = [], []
        for place, message in enumerate(messages):
            content = message["content"]
            if place in answers:
                expected.append(len(texts))
                content = mark(self.control.rename_said(content) if renamed else content)
            elif renamed and message["role"] == "assistant":
                content = self.control.special.sub(lambda found: mark(found.group()), content)
            elif renamed and (core := content.strip()):
                # Nothing of it is left that could become a control token together with what stands beside it.
                content = content.replace(core, mark(core))
            shown.append({"role": message["role"], "content": content})
        if messages[0]["role"] == "system" and not self._shows_system:
            raise self._refusal(name, "leaves the system message out", messages)
        pieces = self._marks.split(self._apply(shown, name))
        frames, found = [""], []
        for at, piece in enumerate(pieces):
            if at % 2 == 0:
                frames[-1] += self.control.rename(piece) if renamed else piece
            elif int(piece) in expected:
                found.append(int(piece))
                frames.append("")
            else:
                frames[-1] += texts[int(piece)]
        if found != expected:
            raise self._refusal(name, "does not write each answer once, as it is", messages)
        return Rendering(frames, [texts[number] for number in found], renamed)

    def end_behind(self, frame: str, renamed: bool) -> str:
        """Return what ends a turn at the beginning of a frame that follows an answer, with the white space before it."""
        found = self.control.pattern(renamed).search(frame)
        end = self.control.rename(self._end) if renamed else self._end
        ends = found is not None and found.group() == end and not frame[: found.start()].strip()
        return frame[: found.end()] if found and ends else ""

    def last_segment(self, rendering: Rendering) -> str:
        """Return the end of what is given, from its last control token on: nothing before that changes tokens behind it."""
        starts = [found.start() for found in self.control.pattern(rendering.renamed).finditer(rendering.given)]
        return rendering.given[starts[-1] if starts else 0 :]

    def _end_of_turn(self) -> tuple[str, int]:
        """The control token behind an answer, else the tokenizer's end token, as text and id; a small conversation is tried."""
        asked = secrets.token_hex(8)
        messages = self.messages([{"role": "user", "content": asked}, {"role": "assistant", "content": "yes"}])
        rendering = self.render(messages, [len(messages) - 1], "a conversation of one message")
        if asked not in rendering.given:
            raise self._refusal("a conversation of one message", "leaves the user's message out", messages)
        found = self.control.pattern(rendering.renamed).search(rendering.frames[-1])
        begins = self.control.pattern(rendering.renamed).match(self.last_segment(rendering))
        # What begins an answer does not end one: some templates always write the beginning of the next.
        if found and not (begins and begins.group() == found.group()):
            number = self.control.id(found.group(), rendering.renamed)
            return str(self._tokenizer.convert_ids_to_tokens(number)), number
        if self._tokenizer.eos_token_id is None:
            raise BadInput(
                f"the model's chat template writes no token that ends a turn, and its tokenizer has none; {CANNOT_CHAT}"
            )
        return str(self._tokenizer.eos_token), int(self._tokenizer.eos_token_id)

    @cached_property
    def _shows_system(self) -> bool:
        """Whether a system message is written; true also where the template refuses it, which it says of each itself."""
        system = secrets.token_hex(8)
        turns = [("system", system), ("user", "Hello"), ("assistant", "yes")]
        try:
            return system in self._apply([{"role": role, "content": content} for role, content in turns], "")
        except BadInput:
            return True

    def _apply(self, messages: Sequence[dict[str, str]], name: str) -> str:
        from jinja2 import TemplateError

        try:
            return str(
                self._tokenizer.apply_chat_template(list(messages), tokenize=False, chat_template=self._template)
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise self._refusal(name, f"refuses the conversation: {error}", messages) from error

    def _refusal(self, name: str, what: str, messages: Sequence[Mapping[str, str]]) -> BadInput:
        remedy = "Choose a model whose template takes such conversations, or leave them out of the source"
        if messages[0]["role"] == "system":
            whose = "application's" if messages[0]["content"] == self.prompt.system else "row's own"
            remedy = (
                f"It begins with the {whose} system message; if the template takes none, set `prompt.system_in_user_turn: true`, "
                "which puts it before the user's text, or choose another model"
            )
        return BadInput(f"{name}: the model's chat template {what}. {remedy}")
