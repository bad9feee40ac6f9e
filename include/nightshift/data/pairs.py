"""Preference pairs: two answers to one prompt, of which one was chosen, from the forms in which people keep them."""

from __future__ import annotations

import re
from typing import Any

from nightshift.data.json_rows import json_or_text
from nightshift.data.quarantine import Reason, Unusable
from nightshift.data.tool_calls import Text
from nightshift.data.turns import ROLES, Turn, turns_of

# A whole conversation as one text, as in Anthropic's data of helpful and harmless answers.
TRANSCRIPT = re.compile(r"\s*Human:.*\n\nAssistant:", re.DOTALL)
SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")
SPEAKERS = {"Human": "user", "Assistant": "assistant"}


def pair_of(prompt: Any, chosen: Any, rejected: Any, text: Text) -> tuple[list[Turn], Turn]:
    """Return the conversation that ends with the chosen answer, and the rejected answer.

    Each value is a text, a message, a list of messages (or that as JSON text), or a transcript `Human: … Assistant: …`. The
    answers may hold the whole conversation; then the prompt may be None.

    :raises Unusable: an answer is missing, the prompts differ, or one is no conversation.
    """
    turns = _conversation(prompt, chosen, "chosen", text)
    other = _conversation(prompt, rejected, "rejected", text)
    if turns[:-1] != other[:-1]:
        raise Unusable(Reason.BAD_PAIR, "the two answers are to different prompts")
    return turns, other[-1]


def is_plain(prompt: str) -> bool:
    """Whether a prompt is what a user said, and neither messages nor a transcript."""
    return _messages(prompt, "user") == [{"role": "user", "content": prompt}] and not TRANSCRIPT.match(prompt)


def _conversation(prompt: Any, answer: Any, name: str, text: Text) -> list[Turn]:
    if isinstance(prompt, str) and isinstance(answer, str) and TRANSCRIPT.match(prompt):
        prompt, answer = None, prompt + answer  # the prompt ends with `Assistant:`
    before, said = _messages(prompt, "user"), _messages(answer, "assistant")
    is_whole = bool(said) and _is_asked(said[0])
    if said and not before and not is_whole:
        raise Unusable(Reason.MISSING_PROMPT, f"there is no prompt, and none in the {name} answer")
    turns = turns_of(said if is_whole else [*before, *said], f"the {name} answer", text)
    if turns[-1].role != "assistant":
        raise Unusable(Reason.BAD_PAIR, f"there is no {name} answer")
    if before and is_whole and not all(turn in turns for turn in turns_of(before, "the prompt", text)):
        raise Unusable(Reason.BAD_PAIR, f"the prompt is not in the conversation with the {name} answer")
    return turns


def _messages(value: Any, role: str) -> list[Any]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        if TRANSCRIPT.match(value):
            _, *parts = SPEAKER.split(value.strip())
            return [{"role": SPEAKERS[who], "content": said} for who, said in zip(parts[::2], parts[1::2], strict=True)]
        read = json_or_text(value) if value.lstrip()[:1] in ("[", "{") else value
        value = read if _is_message(read[0] if isinstance(read, list) and read else read) else value
    if isinstance(value, list):
        return value
    return [value if isinstance(value, dict) else {"role": role, "content": value}]


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and bool({"role", "from"} & value.keys())


def _is_asked(message: Any) -> bool:
    """Whether a message is not an answer's first."""
    role = (message.get("role") or message.get("from")) if isinstance(message, dict) else None
    return isinstance(role, str) and ROLES.get(role.strip().lower()) in ("system", "user")
