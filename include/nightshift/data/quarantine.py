"""Rows that cannot be used: why each one was set aside, under a documented code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

RAW_CHARACTERS = 2_000  # of a quarantined row that are kept


class Reason(StrEnum):
    """Why a row is in `quarantine.parquet`; docs/data.md says what to do about each."""

    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    NOT_OBJECT = "not_object"
    BAD_CSV = "bad_csv"
    BAD_VALUE = "bad_value"
    LINE_TOO_LONG = "line_too_long"
    MISSING_PROMPT = "missing_prompt"
    EMPTY_PROMPT = "empty_prompt"
    NOT_TEXT = "not_text"
    LONE_SURROGATE = "lone_surrogate"
    TOO_LONG = "too_long"
    BAD_MESSAGES = "bad_messages"
    BAD_TIMESTAMP = "bad_timestamp"
    FUTURE_TIMESTAMP = "future_timestamp"
    DUPLICATE_ID = "duplicate_id"


class Unusable(Exception):
    """Raised where a row turns out to be unusable."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Row:
    """One raw row of a source; `number` is its line in a text file, or its place (from 1) in Parquet and SQL."""

    number: int
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One row that cannot be used; `raw` holds its beginning."""

    number: int
    reason: Reason
    detail: str
    raw: str


def beginning(raw: bytes | str) -> str:
    """Return the first 2,000 characters of a raw row, as text that any file can hold."""
    if isinstance(raw, bytes):
        return raw[: RAW_CHARACTERS * 4].decode("utf-8", "replace")[:RAW_CHARACTERS]
    return raw[:RAW_CHARACTERS].encode("utf-8", "replace").decode()
