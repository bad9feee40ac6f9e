"""Calls of tools, their results, and the tools that may be called: one form, from the forms in which people keep them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from nightshift.data.quarantine import Reason, Unusable
from nightshift.data.records import json_of, record_of

# What templates write and models repeat. Names of tools behind a server have dots, slashes and colons.
NAME = re.compile(r"[\w.:/-]{1,128}")

# Checks and cleans a text; the second argument says where it stands, for the reason.
Text = Callable[[Any, str], str]
Call = dict[str, Any]
# The fields of what a message says: in OpenAI's form, ShareGPT's, OpenAssistant's and Gemini's.
SAYS = ("content", "value", "text", "parts")


class Calls:
    """The calls of one conversation. Those that wait for a result have to get it before the next answer."""

    _made = 0
    waiting: Sequence[tuple[Any, Call]] = ()  # the id in the row, and the call

    def made_by(self, given: Any, place: str, text: Text) -> list[Call]:
        """Return the calls of a message, of which each then waits for its result.

        :param given: one call or a list of them, `{id, function: {name, arguments}}` or `{name, arguments}`, or JSON text.
        :raises Unusable: one cannot be read.
        """
        try:
            given = record_of(given)
            given = given if isinstance(given, list) else [] if given is None else [given]
            calls = [self._call(one, place) for one in given]
            text(json_of(calls), f"what {place} calls")
        except Unusable as problem:
            raise _named(problem, f"{place} calls a tool") from None
        self.waiting = [(one.get("id"), call) for one, call in zip(given, calls, strict=True)]
        return calls

    def answered_by(self, message: dict[str, Any], place: str) -> str:
        """Return the id of the call that a result is of: the one that it names, else the first that waits.

        :raises Unusable: no such call waits.
        """
        wanted, name = message.get("tool_call_id"), message.get("name")
        for number, (given, call) in enumerate(self.waiting):
            named = name in (None, call["function"]["name"])
            if named if given is None or wanted is None else given == wanted:
                self.waiting = [*self.waiting[:number], *self.waiting[number + 1 :]]
                return str(call["id"])
        raise Unusable(Reason.TOOL_CALLS, f"{place} is the result of a tool, and no such call waits for one")

    def _call(self, given: Any, place: str) -> Call:
        function = given.get("function") or given if isinstance(given, dict) else None
        if not isinstance(function, dict) or given.get("type") not in (None, "function"):
            raise Unusable(Reason.TOOL_CALLS, f"{place} has a call that is not {{function: {{name, arguments}}}}")
        arguments = function.get("arguments")
        arguments = function.get("parameters") if arguments is None else arguments
        arguments = record_of(arguments) if not isinstance(arguments, str) or arguments.strip() else {}
        if not isinstance(arguments, dict | None):
            raise Unusable(
                Reason.TOOL_CALLS, f"{place} calls a tool with {type(arguments).__name__}, wanted is a record"
            )
        self._made += 1
        # Some templates take ids of nine letters and digits alone. Those of the row say nothing, and differ between equal rows.
        function = {"name": _name(function, place), "arguments": arguments or {}}
        return {"id": f"call{self._made:05}", "type": "function", "function": function}


def tools_of(value: Any, where: str, text: Text) -> list[dict[str, Any]] | None:
    """Return the tools that a row offers, each `{type: function, function: {name, description, parameters}}`; None: none.

    :param where: the column, for the reason.
    :raises Unusable: they are no such list, nor one of functions, nor the same as JSON text.
    """
    if value is None or value == "":
        return None
    try:
        tools = record_of(value)
        tools = tools if isinstance(tools, list) else [] if tools is None else [tools]
        text(json_of(tools), where)
    except Unusable as problem:
        raise _named(problem, where) from None
    functions = [one.get("function") or one if isinstance(one, dict) else None for one in tools]
    for one, function in zip(tools, functions, strict=True):
        if not isinstance(function, dict) or one.get("type", "function") != "function":
            raise Unusable(Reason.TOOL_CALLS, f"{where} holds what is no function {{name, description, parameters}}")
        _name(function, where)
    return [{"type": "function", "function": function} for function in functions] or None


def result_text(message: dict[str, Any]) -> Any:
    """Return what a tool answered: a text or parts of text as they are, a record or number as JSON."""
    content = content_of(message)
    return content if content is None or isinstance(content, str | list) else json_of(content)


def content_of(message: dict[str, Any]) -> Any:
    """Return what a message says, in any form; None: nothing."""
    return next((message[name] for name in SAYS if message.get(name) is not None), None)


def _name(function: dict[str, Any], place: str) -> str:
    name = function.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        said = repr(name) if len(str(name)) <= 60 else f"a name of {len(str(name)):,} characters"
        raise Unusable(
            Reason.TOOL_CALLS, f"{place}: {said} is no name of a tool, which has letters, digits and ._:/- only"
        )
    return name


def _named(problem: Unusable, where: str) -> Unusable:
    """What is wrong with a part of a row that is JSON is told as the part's."""
    if problem.reason is not Reason.NOT_JSON:
        return problem
    return Unusable(Reason.TOOL_CALLS, f"{where}: no JSON to read: {problem.detail}")
