"""Tools in a chat template: the turns of a row as messages, and how a template writes calls, results and tools, if it does.

A template that knows no tools leaves them out without a word. So a small conversation is tried first, in the forms that templates
ask for: arguments as a record or as JSON text, and the empty text or nothing beside a call.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightshift.errors import BadInput

Message = dict[str, Any]
# Renders messages with tools.
Apply = Callable[[Sequence[Message], Sequence[Message] | None], str]


def chat_messages(turns: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Return the `messages` of a row as templates take them: calls with records for arguments, results with their tool's name."""
    messages, names = [], {}
    for turn in turns:
        message: Message = {"role": turn["role"], "content": turn["content"]}
        if calls := turn.get("tool_calls"):
            message["tool_calls"] = json.loads(calls)
            names = {call["id"]: call["function"]["name"] for call in message["tool_calls"]}
        elif answers := turn.get("tool_call_id"):
            message |= {"tool_call_id": answers, "name": names.get(answers, "")}
        messages.append(message)
    return messages


def parts_of(message: Message) -> Iterator[str]:
    """Yield the texts of a message in which control tokens may stand."""
    yield message["content"]
    if "tool_calls" in message:
        yield from texts_in(message["tool_calls"])


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text and name of calls or tools as they are: in JSON, quotes would stand otherwise."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from texts_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_in(inner)


def replaced(value: Any, replace: Callable[[str], str]) -> Any:
    """Return calls or tools with every text and name in them replaced."""
    if isinstance(value, dict):
        return {replace(key): replaced(inner, replace) for key, inner in value.items()}
    if isinstance(value, list):
        return [replaced(inner, replace) for inner in value]
    return replace(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class ToolForm:
    """How a template takes calls, and what it leaves out (None: nothing)."""

    arguments_as_text: bool = False
    nothing: str | None = ""
    leaves_out: str | None = None

    def shown(self, message: Message) -> Message:
        """Return a message in this form."""
        if "tool_calls" not in message:
            return message
        functions = [call["function"] for call in message["tool_calls"]]
        if self.arguments_as_text:
            functions = [function | {"arguments": _text(function["arguments"])} for function in functions]
        calls = [call | {"function": function} for call, function in zip(message["tool_calls"], functions, strict=True)]
        return message | {"content": message["content"] or self.nothing, "tool_calls": calls}


def tool_form(apply: Apply) -> ToolForm:
    """Return the form in which a template writes the whole of a small conversation with a tool.

    What it refuses in every form, it refuses of each row by itself.
    """
    name, field, value, result = (secrets.token_hex(8) for _ in range(4))
    call = {"id": "call00001", "type": "function", "function": {"name": name, "arguments": {field: value}}}
    messages: list[Message] = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": result, "tool_call_id": "call00001", "name": name},
        {"role": "assistant", "content": "yes"},
    ]
    found = ToolForm()
    for form in (ToolForm(text, nothing) for text in (False, True) for nothing in ("", None)):
        try:
            written = apply([form.shown(message) for message in messages], None)
        except BadInput:
            continue
        # Python's way to write a record is what comes of a template that asks for text.
        calls = all(word in written for word in (name, field, value)) and f"'{field}': '{value}'" not in written
        if calls and result in written:
            return form
        found = ToolForm(leaves_out="the results of tools" if calls else "the calls of tools")
    return found


def writes_tools(apply: Apply) -> bool:
    """Return whether a template writes which tools there are; true also where it refuses them, which it says of each row."""
    name = secrets.token_hex(8)
    parameters = {
        "type": "object",
        "properties": {"day": {"type": "string", "description": "a day"}},
        "required": ["day"],
    }
    tool = {"type": "function", "function": {"name": name, "description": "a tool", "parameters": parameters}}
    try:
        return name in apply([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "yes"}], [tool])
    except BadInput:
        return True


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
