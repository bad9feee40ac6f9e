"""Rows that cannot be used: why each one was set aside, under a documented code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

RAW_CHARACTERS = 2_000  # of a quarantined row that are kept
# Read beyond them, so that nothing personal is cut in half before it is recognised; longer than any pattern matches.
MARGIN = 1_000
# How JSON writes white space and other characters, and what lies between the letters of UTF-16.
ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\[bfnrt]|\x00")


class Reason(StrEnum):
    """Why a row is in `quarantine.parquet`; docs/rows.md says what to do about each."""

    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    NOT_OBJECT = "not_object"
    BAD_CSV = "bad_csv"
    BAD_VALUE = "bad_value"
    LINE_TOO_LONG = "line_too_long"
    MISSING_PROMPT = "missing_prompt"
    EMPTY_PROMPT = "empty_prompt"
    MISSING_RESPONSE = "missing_response"
    NOT_TEXT = "not_text"
    LONE_SURROGATE = "lone_surrogate"
    TOO_LONG = "too_long"
    BAD_MESSAGES = "bad_messages"
    NOT_TEXT_PART = "not_text_part"
    TOOL_CALLS = "tool_calls"
    BAD_PAIR = "bad_pair"
    BAD_TIMESTAMP = "bad_timestamp"
    FUTURE_TIMESTAMP = "future_timestamp"
    DUPLICATE_ID = "duplicate_id"
    BAD_FEEDBACK = "bad_feedback"
    NO_INTERACTION = "no_interaction"


class Unusable(Exception):
    """Raised where a row turns out to be unusable."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Row(NamedTuple):
    """One raw row of a source; `number` is its line in a text file, or its place (from 1) in a JSON array, Parquet and SQL."""

    number: int
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One row that cannot be used; `raw` holds its beginning."""

    number: int
    reason: Reason
    detail: str
    raw: str


RawRows = Iterator[Row | Quarantined]


def beginning(raw: bytes | str) -> str:
    """Return the first 3,000 characters of a raw row, as text that any file can hold."""
    most = RAW_CHARACTERS + MARGIN
    if isinstance(raw, bytes):
        return raw[: most * 4].decode("utf-8", "replace")[:most]
    return raw[:most].encode("utf-8", "replace").decode()


def without(values: dict[str, Any], column: str | None) -> dict[str, Any]:
    """Return the values of a row with a placeholder in a column, which a dot may reach into, where there is one."""
    if column is None or column in values:
        return values if column is None else values | {column: "<subject>"}
    outer, _, rest = column.partition(".")
    inner = values.get(outer)
    return values | {outer: without(inner, rest)} if rest and isinstance(inner, dict) else values


def presentable(text: str, redacted: Callable[[str], str]) -> str:
    """Return the first 2,000 characters of a beginning without what `redacted` takes out of a text.

    Escapes hide personal data from patterns (`\\n0770…` is no number after white space): they are resolved where
    something is found behind them, and stay as they are elsewhere.
    """
    plain = ESCAPE.sub(_resolved, text)
    found = redacted(plain)
    shown = redacted(text) if found == plain else found
    if len(text) >= RAW_CHARACTERS + MARGIN:
        shown = shown[:-MARGIN]
    return shown[:RAW_CHARACTERS].encode("utf-8", "replace").decode()


def _resolved(escape: re.Match[str]) -> str:
    if escape[1]:
        return chr(int(escape[1], 16)).replace("\x00", "")
    return "" if escape[0] == "\x00" else " "
