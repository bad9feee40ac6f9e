"""The turns of a conversation, from the forms in which people keep them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from nightshift.data.json_rows import parse_json
from nightshift.data.quarantine import Reason, Unusable
from nightshift.data.tool_calls import SAYS, Call, Calls, Text, content_of, result_text

Role = Literal["system", "user", "assistant", "tool"]

ROLES: dict[str, Role | Literal["call"]] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "ai", "bot", "bard", "bing"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "ipython"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),  # an assistant's, with the calls in place of a text
}
TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal"})
# What Gemini writes beside a text.
BESIDE_TEXT = frozenset({"text", "thought", "thoughtSignature", "thought_signature"})


class Turn(NamedTuple):
    """One message, cleaned: an assistant may call tools, with or without a text, and a tool answers one call."""

    role: Role
    content: str
    calls: list[Call] | None = None
    answers: str | None = None  # the id of the call


def turns_of(value: Any, where: str, text: Text) -> list[Turn]:
    """Return the turns of a list of messages, `{role, content}` or ShareGPT's `{from, value}`, or of the same as JSON text.

    One system message may stand first: several at the beginning are joined. Then user and assistant take turns; where
    the assistant calls tools, the results of all calls come before its next message. An assistant's message at the end
    that is empty, or has the weight 0, is left out: the answer is unknown.

    :param where: the column, for the reason.
    :raises Unusable: it is no such list, it holds what is not text, the turns do not alternate, or calls have no results.
    """
    messages = list(_messages(value, where))
    system: list[str] = []
    turns: list[Turn] = []
    calls = Calls()
    for number, message in enumerate(messages, 1):
        place = f"message {number}"
        role = _role(message, place)
        if role == "system":
            if turns:
                raise Unusable(Reason.BAD_MESSAGES, f"{place} is a system message; these come before the first turn")
            system.append(_content(message, place, text))
        elif role == "tool":
            content = _content({"content": result_text(message)}, place, text)
            turns.append(Turn(role, content, answers=calls.answered_by(message, place)))
        elif calls.waiting:
            raise Unusable(Reason.TOOL_CALLS, f"{place} comes before the results of all calls")
        elif (role == "user") == bool(turns and turns[-1].role != "assistant"):
            one, other = ("user", "assistant") if role == "user" else ("assistant", "user")
            raise Unusable(Reason.BAD_MESSAGES, f"{place} is by the {one}, the turn is the {other}'s")
        elif role == "user":
            turns.append(_asked(message, place, text))
        else:
            said = message if role == "assistant" else _with_calls(message)
            if turn := _answered(said, place, text, calls, is_last=number == len(messages)):
                turns.append(turn)
    if not turns:
        raise Unusable(Reason.MISSING_PROMPT, "no message of a user")
    if calls.waiting and turns[-1].role == "tool":
        raise Unusable(Reason.TOOL_CALLS, "the conversation ends before the results of all calls")
    return with_system(system, turns)


def _asked(message: dict[str, Any], place: str, text: Text) -> Turn:
    if message.keys().isdisjoint(SAYS):
        raise Unusable(Reason.BAD_MESSAGES, f"{place} is not {{role, content}}")
    if _given(message):
        raise Unusable(Reason.TOOL_CALLS, f"{place} is by the user and calls a tool")
    content = _content(message, place, text)
    if not content:
        raise Unusable(Reason.EMPTY_PROMPT, f"{place} is empty")
    return Turn("user", content)


def _answered(message: dict[str, Any], place: str, text: Text, calls: Calls, *, is_last: bool) -> Turn | None:
    """The assistant's turn; None where the last one is unknown."""
    given = _given(message)
    made = calls.made_by(given, place, text) if given else None
    content = _content(message, place, text)
    # The weight 0 is OpenAI's mark of an answer that is not to be learned.
    if is_last and (not (content or made) or _is_zero(message.get("weight"))):
        calls.waiting = ()
        return None
    if not (content or made):
        raise Unusable(Reason.BAD_MESSAGES, f"{place} is empty")
    return Turn("assistant", content, made or None)


def _given(message: dict[str, Any]) -> Any:
    """What a message calls; a record of nothing but nulls is how some files write none."""
    given = message.get("tool_calls") or message.get("function_call")
    return None if isinstance(given, dict) and all(value is None for value in given.values()) else given


def _with_calls(message: dict[str, Any]) -> dict[str, Any]:
    """A message that is a call, as one that makes it."""
    return {"tool_calls": content_of(message), "weight": message.get("weight")}


def _is_zero(weight: Any) -> bool:
    """Whether a weight is 0, as a number or, as exports write it, as text."""
    if isinstance(weight, str):
        try:
            return float(weight) == 0
        except ValueError:
            return False
    return bool(weight == 0)


def with_system(texts: list[str], turns: list[Turn]) -> list[Turn]:
    """Return turns behind one system message of all the texts that say something; behind none where none does."""
    own = "\n\n".join(text for text in texts if text)
    return [Turn("system", own), *turns] if own else turns


def _messages(value: Any, where: str) -> Iterator[dict[str, Any]]:
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except Unusable as problem:
            raise Unusable(
                Reason.BAD_MESSAGES, f"{where} holds a text that is no JSON to read: {problem.detail}"
            ) from None
    if not isinstance(value, list) or not value:
        raise Unusable(Reason.BAD_MESSAGES, f"{where} is not a list of messages")
    for number, message in enumerate(value, 1):
        if not isinstance(message, dict):
            raise Unusable(Reason.BAD_MESSAGES, f"message {number} is not {{role, content}}")
        yield message


def _role(message: dict[str, Any], place: str) -> Role | Literal["call"]:
    # In Parquet every message has every field, and those that are not its own are null.
    name = message.get("role") or message.get("from")
    if not isinstance(name, str):
        raise Unusable(Reason.BAD_MESSAGES, f"{place} is not {{role, content}}")
    name = name.strip().lower()
    if name not in ROLES:
        said = repr(name) if len(name) <= 60 else f"a text of {len(name):,} characters"
        raise Unusable(Reason.BAD_MESSAGES, f"{place} is by {said}, which is no role that is known")
    return ROLES[name]


def _content(message: dict[str, Any], place: str, text: Text) -> str:
    content = content_of(message)
    if content is None:
        if message.get("refusal"):
            return text(message["refusal"], place)
        return ""
    if isinstance(content, list):
        content = "\n".join(_part(part, place) for part in content if not _is_thought(part))
    return text(content, place)


def _is_thought(part: Any) -> bool:
    """Whether a part is what Gemini's models think before they answer."""
    return isinstance(part, dict) and part.get("thought") is True


def _part(part: Any, place: str) -> str:
    if isinstance(part, str):
        return part
    named = {} if not isinstance(part, dict) else {name: value for name, value in part.items() if value is not None}
    # Parts of Gemini and Bedrock have a field that is called so.
    kind = named.get("type") or next((name for name in named if name not in BESIDE_TEXT), "text" if named else None)
    if not isinstance(kind, str):
        raise Unusable(Reason.BAD_MESSAGES, f"{place} has a part that is not {{type, text}}")
    text = named.get("refusal" if kind == "refusal" else "text")
    if kind not in TEXT_PARTS or not isinstance(text, str):
        raise Unusable(Reason.NOT_TEXT_PART, f"{place} has a part of the type {kind[:60]!r}; only text is read")
    return text
