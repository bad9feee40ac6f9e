"""Converts messages and tool calls to and from OpenAI's chat protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from nightshift.inference.reasoning import END, apart
from nightshift.training.tool_turns import Message


def without_answer(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return a conversation without an answer at its end."""
    return messages[:-1] if messages[-1]["role"] == "assistant" else messages


def as_sent(message: Message) -> Message:
    """Return a message in the protocol's form: arguments of calls are text, and a tool result has no name."""
    if "tool_calls" in message:
        calls = [
            call | {"function": call["function"] | {"arguments": json.dumps(call["function"]["arguments"])}}
            for call in message["tool_calls"]
        ]
        return message | {"tool_calls": calls, "content": message["content"] or None}
    return {name: value for name, value in message.items() if name != "name"}


def calls_as_text(calls: Sequence[Any]) -> list[str]:
    """Return calls of tools as text, a line for each: the name and the arguments in order; what is no call, as it is."""
    return [json.dumps(_compared(call), ensure_ascii=False, sort_keys=True) for call in calls]


def _compared(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return call
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
    return {"name": function.get("name"), "arguments": arguments}


def reference_text(row: Mapping[str, Any]) -> str:
    """Return the answer that a row ends with, in the form of responses."""
    last = row["messages"][-1]
    text = str(last["content"] or "")
    text = apart(text)[1] if END in text else text
    return "\n".join(filter(None, [text, *calls_as_text(json.loads(last.get("tool_calls") or "[]"))]))
