"""Turns a raw row into a clean conversation: mapped, normalised, checked, and without personal data."""

from __future__ import annotations

import hmac
import json
import math
import re
import unicodedata
from collections import Counter
from datetime import datetime
from functools import cache, partial
from typing import Any, NamedTuple

from nightshift.data.examples import digest_of_messages
from nightshift.data.json_rows import json_or_text
from nightshift.data.pairs import is_plain, pair_of
from nightshift.data.pii import ORDER, redact
from nightshift.data.quarantine import Reason, Row, Unusable
from nightshift.data.records import json_of, redacted_record, text_of
from nightshift.data.timestamps import timestamp_of
from nightshift.data.tool_calls import tools_of
from nightshift.data.turns import Turn, turns_of, with_system
from nightshift.settings.intake import Columns, Ingest
from nightshift.settings.interval import Interval

# Everything of Unicode's class Cc but tab and line feed, and the byte order mark.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")
SURROGATE = re.compile("[\ud800-\udfff]")
# White space, what Unicode says to show as nothing (Default_Ignorable_Code_Point), and the empty Braille cell.
INVISIBLE = re.compile(
    "[\\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800"
    "\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]*"
)
ID_CHARACTERS = 500
# Most ids are UUIDs or short numbers behind a name, and need no search.
PLAIN_ID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[A-Za-z_-]{0,12}[0-9]{0,8}")


SAME_ANSWERS = "the chosen and the rejected answer are the same"


class Conversation(NamedTuple):
    """A usable row: `messages` are its own system message, if it has one, and its turns, redacted.

    Messages have the fields of `examples.MESSAGE`, those of tools only where there are any. `late` says that it was
    written before the interval began.
    """

    digest: str
    messages: list[dict[str, str]]
    tools: str | None
    prompt: str
    answer: str | None
    rejected: dict[str, str] | None
    id: str | None
    subject: str | None
    split_group: str | None
    timestamp: datetime | None
    response: str | None
    context: str | None
    metadata: dict[str, str]
    pii: dict[str, int]
    late: bool


def conversation(row: Row, columns: Columns, ingest: Ingest, interval: Interval, id_key: bytes = b"") -> Conversation:
    """Return what a raw row says.

    :param id_key: with which subjects, and ids that hold personal data, are hashed; who knows it can find them by guessing.

    :raises Unusable: it cannot be used; the reason is one of the documented codes.
    """
    found: dict[str, int] = {}
    messages, rejected = _single_turn(row, columns, ingest, found), None
    if messages is None:
        turns, other = _turns(row, columns, ingest)
        messages = [
            {"role": turn.role, "content": redact(turn.content, ingest.redact, found)}
            if turn.calls is None and turn.answers is None
            else _with_tools(turn, ingest, found)
            for turn in turns
        ]
        rejected = None if other is None else _rejected(other, messages[-1], ingest, found)
    tools = None if columns.tools is None else _tools(row, columns, ingest, found)
    timestamp = None if columns.timestamp is None else timestamp_of(value_of(row, columns.timestamp))
    if timestamp is not None and timestamp >= interval.end:
        raise Unusable(
            Reason.FUTURE_TIMESTAMP,
            f"{timestamp.isoformat()} is not before {interval.end.isoformat()}, the interval's end",
        )
    response = (
        None if columns.response is None else redact(_response(row, columns.response, ingest), ingest.redact, found)
    )
    context = _optional(row, columns.context, ingest)
    context = context and redact(context, ingest.redact, found)
    metadata = {name: _redacted_plain(value_of(row, name), name, ingest, found) for name in columns.metadata}
    last = messages[-1]
    answered = last["role"] == "assistant"
    asked = messages[-2] if answered else last
    if asked["role"] != "user":
        asked = next(message for message in reversed(messages) if message["role"] == "user")
    digest = digest_of_messages(messages, tools, rejected)
    answer = answer_of(last) if answered else None
    row_id = _id(row, columns.id, id_key)
    subject = _id(row, columns.subject, id_key, always_hashed=True)
    split_group = _id(row, columns.split_group, id_key)
    pii = dict(sorted(found.items())) if found else {}
    late = timestamp is not None and timestamp < interval.start
    return Conversation(  # by position, which takes half of the time
        digest, messages, tools, asked["content"], answer, rejected, row_id, subject, split_group, timestamp, response,
        context, metadata, pii, late,
    )  # fmt: skip


def known_by(row: Row, columns: Columns, id_key: bytes) -> tuple[str | None, str | None]:
    """Return subject and id of a row that cannot be used, as an example would have them; None where that cannot be told."""
    try:
        return _id(row, columns.subject, id_key, always_hashed=True), _id(row, columns.id, id_key)
    except Unusable:
        return None, None


def stored_id(value: str, id_key: bytes, *, subject: bool = False) -> str:
    """Return an id, or a subject, as an example has it.

    :raises Unusable: it holds half of a surrogate pair.
    """
    return _id(Row(0, {"id": value}), "id", id_key, always_hashed=subject) or ""


def clean(text: str) -> str:
    """Return text in Unicode's composed form (NFC), with `\\n` line ends, without control characters, trimmed.

    A text of nothing but white space and characters that nobody sees is the empty text.

    :raises Unusable: it holds half of a surrogate pair, which no file can store.
    """
    if text.isascii() and text.isprintable():
        return text.strip()
    text = legible(text).strip()
    return "" if INVISIBLE.fullmatch(text) else text


def legible(text: str) -> str:
    """The same with the white space around it: within a call of a tool, it may be code."""
    if SURROGATE.search(text):
        raise Unusable(Reason.LONE_SURROGATE, "half of a surrogate pair; the text was cut or decoded wrongly")
    return CONTROL.sub("", unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")))


def _single_turn(row: Row, columns: Columns, ingest: Ingest, found: dict[str, int]) -> list[dict[str, str]] | None:
    """A question and its answer, redacted, in half of the time of a conversation; None where they are anything else."""
    if columns.prompt is None or not columns.single_turn:
        return None
    values, most = row.values, ingest.max_characters
    prompt, answer = values.get(columns.prompt), "" if columns.answer is None else values.get(columns.answer)
    if not isinstance(prompt, str) or not isinstance(answer, str) or len(prompt) > most or len(answer) > most:
        return None
    # Some characters become several when they are composed.
    if not (prompt := clean(prompt)) or len(prompt) > most or len(answer := clean(answer)) > most:
        return None
    asked = {"role": "user", "content": redact(prompt, ingest.redact, found)}
    return [asked, {"role": "assistant", "content": redact(answer, ingest.redact, found)}] if answer else [asked]


def _with_tools(turn: Turn, ingest: Ingest, found: dict[str, int]) -> dict[str, str]:
    role, content, calls, answers = turn
    if answers is not None:
        return {"role": role, "content": _redacted_result(content, ingest, found), "tool_call_id": answers}
    called = {} if calls is None else {"tool_calls": _redacted_json(calls, ingest, found)}
    return {"role": role, "content": redact(content, ingest.redact, found), **called}


def _rejected(turn: Turn, chosen: dict[str, str], ingest: Ingest, found: dict[str, int]) -> dict[str, str]:
    rejected = _with_tools(turn, ingest, found)
    if rejected == chosen:
        raise Unusable(Reason.BAD_PAIR, SAME_ANSWERS)
    return rejected


def answer_of(message: dict[str, str]) -> str:
    """Return what is learned, as one text: an answer that calls tools is their JSON behind what it says."""
    calls = message.get("tool_calls")
    return message["content"] if calls is None else "\n".join(filter(None, [message["content"], calls]))


def _tools(row: Row, columns: Columns, ingest: Ingest, found: dict[str, int]) -> str | None:
    value = value_of(row, columns.tools)
    tools = None if value is None else tools_of(value, repr(columns.tools), partial(_text, ingest=ingest))
    return None if tools is None else _redacted_json(tools, ingest, found)


def _turns(row: Row, columns: Columns, ingest: Ingest) -> tuple[list[Turn], Turn | None]:
    """The turns of a row behind its system message, and of a preference pair the answer that was rejected."""
    system, rejected = _optional(row, columns.system, ingest), None
    if columns.rejected is not None:
        prompt, chosen, other = (value_of(row, name) for name in (columns.prompt, columns.answer, columns.rejected))
        if more := _optional(row, columns.input, ingest):
            if not isinstance(prompt, str) or not is_plain(prompt):
                raise Unusable(Reason.BAD_PAIR, f"{_shown(columns.input)} continues a prompt that is no text")
            prompt = f"{prompt}\n\n{more}"
        turns, rejected = pair_of(prompt, chosen, other, partial(_text, ingest=ingest))
    elif columns.messages is None:
        turns = _pair(row, columns, ingest)
    else:
        value = value_of(row, columns.messages)
        if value is None:
            raise Unusable(Reason.MISSING_PROMPT, f"no value in {columns.messages!r}")
        turns = turns_of(value, repr(columns.messages), partial(_text, ingest=ingest))
    if turns[0].role == "system":
        return with_system([system or "", turns[0].content], turns[1:]), rejected
    return with_system([system], turns) if system else turns, rejected


def _pair(row: Row, columns: Columns, ingest: Ingest) -> list[Turn]:
    prompt = value_of(row, columns.prompt)
    if prompt is None:
        raise Unusable(Reason.MISSING_PROMPT, f"no value in {columns.prompt!r}")
    if isinstance(prompt, list) and columns.input is None and prompt and isinstance(prompt[0], dict):
        # As TRL keeps them: the messages in front of the answer, and those of the answer.
        said = value_of(row, columns.answer)
        said = said if isinstance(said, list) else [{"role": "assistant", "content": said}]
        return turns_of([*prompt, *said], _shown(columns.prompt), partial(_text, ingest=ingest))
    text = _text(prompt, columns.prompt or "", ingest)
    if not text:
        raise Unusable(Reason.EMPTY_PROMPT, f"nothing but white space or control characters in {columns.prompt!r}")
    if more := _optional(row, columns.input, ingest):
        text = f"{text}\n\n{more}"
    answer = _optional(row, columns.answer, ingest)
    return [Turn("user", text), *([Turn("assistant", answer)] if answer else [])]


def _response(row: Row, column: str, ingest: Ingest) -> str:
    """What a serving system answered; an empty text is an answer too, and one that reports should see."""
    response = value_of(row, column)
    if response is None:
        raise Unusable(Reason.MISSING_RESPONSE, f"no value in {column!r}")
    return _text(response, column, ingest)


def _optional(row: Row, column: str | None, ingest: Ingest) -> str | None:
    """The text of a column that a row may lack; None also where it says nothing."""
    value = None if column is None else value_of(row, column)
    return None if value is None else _text(value, _shown(column), ingest) or None


_shown = cache(repr)  # names of columns are few


def _text(value: Any, where: str, ingest: Ingest) -> str:
    if isinstance(value, bytes):  # some programs write the texts of Parquet so
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise Unusable(Reason.NOT_UTF8, f"{where} holds bytes that are not UTF-8") from None
    if not isinstance(value, str):
        raise Unusable(Reason.NOT_TEXT, f"{where} is {type(value).__name__}, wanted is text")
    if len(value) > 2 * ingest.max_characters:
        # Not worth normalising first.
        raise Unusable(Reason.TOO_LONG, f"{where} has {len(value):,} characters, at most {ingest.max_characters:,}")
    text = clean(value)
    if len(text) > ingest.max_characters:
        raise Unusable(Reason.TOO_LONG, f"{where} has {len(text):,} characters, at most {ingest.max_characters:,}")
    return text


def value_of(row: Row, name: str | None) -> Any:
    """The value of a mapped column; a dot reaches into a record, unless a column has just that name. NaN is None."""
    if name is None:
        return None
    value: Any = row.values
    if name in value:
        value = value[name]
    elif "." in name:
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
    else:
        return None
    return None if isinstance(value, float) and math.isnan(value) else value


def _plain(value: Any) -> str:
    """Any value as text: texts as they are, nothing as the empty text, records as JSON, bytes decoded."""
    if isinstance(value, str):
        return clean(value)
    if value is None:
        return ""
    if isinstance(value, dict | list | bool):
        value = json.dumps(value, ensure_ascii=False, default=text_of)
    return clean(text_of(value))


def _redacted_plain(value: Any, name: str, ingest: Ingest, found: dict[str, int]) -> str:
    """The same without personal data. Records are searched text by text: the escapes of JSON would hide some."""
    redacted = partial(redact, kinds=ingest.redact, found=found)
    if isinstance(value, dict | list):
        return redacted(_plain(redacted_record(value, redacted, (name,))))
    return str(redacted_record(_plain(value), redacted, (name,)))


def _redacted_json(value: Any, ingest: Ingest, found: dict[str, int]) -> str:
    return json_of(redacted_record(value, lambda text: redact(legible(text), ingest.redact, found)))


def _redacted_result(content: str, ingest: Ingest, found: dict[str, int]) -> str:
    """What a tool answered, without personal data; where it is JSON, it is searched text by text, and stays JSON."""
    if content[:1] in ("{", "["):
        value = json_or_text(content)
        if isinstance(value, dict | list):
            hidden: dict[str, int] = {}
            safe = _redacted_json(value, ingest, hidden)
            if hidden:
                found |= Counter(found) + Counter(hidden)
                return safe
    return redact(content, ingest.redact, found)


def _id(row: Row, name: str | None, key: bytes, *, always_hashed: bool = False) -> str | None:
    if name is None:
        return None
    text = _plain(value_of(row, name))
    if text and (always_hashed or (not PLAIN_ID.fullmatch(text) and redact(text, ORDER, {}) != text)):
        # It must go on telling rows apart without telling whose they are.
        return "hmac-sha256:" + hmac.new(key, text.encode(), "sha256").hexdigest()[:32]
    return text[:ID_CHARACTERS] or None
