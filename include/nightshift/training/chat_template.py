"""A model's chat template: the one place that says what a model is given and what it says.

A conversation is rendered once, with a mark in place of each answer that counts. What stands before the mark is what the model
is given, in training, generation, scoring and bias probes alike, whatever a template writes there: an empty block of thoughts,
the beginning of an answer with or without being asked for one. Behind the mark stands what ends the turn, which is learned too;
what follows that separates turns, and is neither given nor learned.

Templates that write the date always write 26 July 2024, as those of Llama 3 do by default: the same rows give the same tokens
on any day.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nightshift.errors import BadInput
from nightshift.settings.prompt import Prompt
from nightshift.settings.prompt_file import Metadata
from nightshift.training.control_tokens import ControlTokens
from nightshift.training.marks import Marks
from nightshift.training.tool_turns import Message, ToolForm, chat_messages, parts_of, texts_in, tool_form, writes_tools

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
NO_THOUGHTS = re.compile(r"<think>\s*</think>\s*$")
CANNOT_CHAT = "choose an instruction-tuned model, or one with another template"


def with_fixed_date(template: str) -> str:
    """Return a template that writes the same date on every day."""
    return FIXED_DATE + template if "strftime_now" in template else template


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


def application_messages(
    turns: Sequence[Mapping[str, Any]], prompt: Prompt, metadata: Metadata = None
) -> list[Message]:
    """Return the chat messages for the `turns` of a row, in the words of an application.

    One system message stands first: the row's or the application's, as `prompt.system_from` says; or its text stands before
    that of the first user's turn, where `prompt.system_in_user_turn` is true. The prompt's examples follow. A single user turn
    goes through the application's template; the turns of a longer conversation are as they were, and the last ones. Where
    the prompt is a sequence of steps, the last question of such a conversation goes through the template, too: a step that
    classifies would not be asked otherwise.

    :param metadata: of the row; the template of a prompt's file may take it.
    """
    messages = chat_messages(turns)
    own = messages.pop(0)["content"] if messages[0]["role"] == "system" else None
    questions = [place for place, message in enumerate(messages) if message["role"] == "user"]
    place = questions[-1] if prompt.steps else 0
    *examples, asked = prompt.asked(messages[place]["content"], metadata)
    if len(questions) == 1 or prompt.steps:
        messages[place] = asked
    messages = [*examples, *messages]
    system = prompt.system_messages(own, metadata)
    if system and prompt.system_in_user_turn:
        messages[0]["content"] = f"{system.pop()['content']}\n\n{messages[0]['content']}"
    return [*system, *messages]


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
        self._template = with_fixed_date(template)
        self.control = ControlTokens(tokenizer, template)
        self._secret = secrets.token_hex(8)
        self._end, self.end_id = self._end_of_turn()

    def messages(self, turns: Sequence[Mapping[str, Any]], metadata: Metadata = None) -> list[Message]:
        """Return the chat messages for the `turns` of a row and its metadata, in the application's words."""
        return application_messages(turns, self.prompt, metadata)

    def render(
        self, messages: Sequence[Message], answers: Collection[int], name: str, tools: str | None = None
    ) -> Rendering:
        """Return a conversation as text, cut at the answers that count.

        :param answers: their places in `messages`, rising, at least one. Of those that call tools, only the last message counts.
        :param name: what a message of an error calls the conversation.
        :param tools: those that may be called, as JSON.
        :raises BadInput: the template refuses the conversation, or loses, doubles or reorders an answer, a system message or
            what is of tools.
        """
        offered = json.loads(tools) if tools else None
        form = self._form(messages, offered, name)
        texts = [*texts_in(offered), *(part for message in messages for part in parts_of(message))]
        marks = Marks(self.control, self.control.within("".join(texts)), self._secret)
        shown, expected = [], []
        for place, message in enumerate(messages):
            if place in answers:
                expected.append(len(marks.texts))
                shown.append({"role": message["role"], "content": marks.said(message["content"])})
            else:
                shown.append(form.shown(marks.within(message)))
        if messages[0]["role"] == "system" and not self._shows_system:
            raise self._refusal(name, "leaves the system message out", messages)
        offered = marks.inside(offered)
        frames, found = marks.cut(self._apply(shown, name, offered), expected)
        if found != expected:
            raise self._refusal(name, "does not write each answer once, as it is", messages)
        rendering = Rendering(frames, [marks.texts[number] for number in found], marks.renamed)
        last = messages[-1]
        if "tool_calls" not in last:
            return rendering
        # What stands before an answer that calls tools is what stands before one that says something.
        said = marks.said(last["content"]) if last["content"] else ""
        beside = marks.texts[-1] if said else ""
        calling = form.shown({**last, "content": said, "tool_calls": marks.inside(last["tool_calls"])})
        ((whole,), _) = marks.cut(self._apply([*shown[:-1], calling], name, offered), [])
        if not whole.startswith(rendering.given):
            raise self._refusal(
                name, "begins an answer that calls tools in another way than one that does not", messages
            )
        answer, frame = self._cut_end(whole[len(rendering.given) :], marks.renamed)
        if not all(part in answer for part in [beside, *(call["function"]["name"] for call in last["tool_calls"])]):
            raise self._refusal(name, "leaves out a call, or what is said beside it", messages)
        return Rendering(
            [*frames[:-2], frames[-2].rstrip(" "), frame], [*rendering.answers[:-1], answer], marks.renamed
        )

    def _cut_end(self, text: str, renamed: bool) -> tuple[str, str]:
        """An answer that calls tools, and what follows it from the end of the turn on."""
        end = self.control.rename(self._end) if renamed else self._end
        at = text.rfind(end)
        return (text[:at].rstrip(), text[at:]) if at >= 0 else (text.rstrip(), "")

    def _form(self, messages: Sequence[Message], offered: Sequence[Message] | None, name: str) -> ToolForm:
        """How what is of tools is written; the template is tried once, where a conversation has some."""
        if offered and not self._writes_tools:
            raise self._refusal(name, "leaves the tools out", messages)
        if not any(message["role"] == "tool" or "tool_calls" in message for message in messages):
            return ToolForm()
        if self._tool_form.leaves_out:
            raise self._refusal(name, f"leaves {self._tool_form.leaves_out} out", messages)
        return self._tool_form

    @cached_property
    def _tool_form(self) -> ToolForm:
        return tool_form(lambda messages, tools: self._apply(messages, "", tools))

    @cached_property
    def _writes_tools(self) -> bool:
        return writes_tools(lambda messages, tools: self._apply(messages, "", tools))

    def asked(self, rendering: Rendering) -> str:
        """Return what the model is given to answer: what stands before an answer, but for an empty block of thoughts where the
        application asks for thoughts."""
        return NO_THOUGHTS.sub("", rendering.given) if self.prompt.thinks else rendering.given

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

    def _apply(self, messages: Sequence[Message], name: str, tools: Sequence[Message] | None = None) -> str:
        from jinja2 import TemplateError

        try:
            return str(
                self._tokenizer.apply_chat_template(
                    list(messages),
                    tools=list(tools) if tools else None,
                    tokenize=False,
                    chat_template=self._template,
                    **self.prompt.template,
                )
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise self._refusal(name, f"refuses the conversation: {error}", messages) from error

    def _refusal(self, name: str, what: str, messages: Sequence[Message]) -> BadInput:
        remedy = "Choose a model whose template takes such conversations, or leave them out of the source"
        if any("tool_calls" in message for message in messages) or what == "leaves the tools out":
            remedy = (
                "Choose a model whose template knows tools, leave conversations that call some out of the source, and where it "
                "does not name the tools, set `tools: null` in the source's `columns`"
            )
        elif messages[0]["role"] == "system":
            whose = "application's" if messages[0] in self.prompt.system_messages(None) else "row's own"
            remedy = (
                f"It begins with the {whose} system message; if the template takes none, set `prompt.system_in_user_turn: true`, "
                "which puts it before the user's text, or choose another model"
            )
        return BadInput(f"{name}: the model's chat template {what}. {remedy}")
