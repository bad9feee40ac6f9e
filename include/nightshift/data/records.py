"""Converts values that are not text to text: numbers, bytes and records, cleaned and without personal data."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nightshift.data.json_rows import MOST_NESTED, nested_deeper, parse_json
from nightshift.data.quarantine import Reason, Unusable


def text_of(value: Any) -> str:
    """Return a single value as text; bytes that are no text, as those of a binary id, in hexadecimal."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def json_of(value: Any) -> str:
    """Return a record as JSON on one line, in the order of its fields.

    :raises Unusable: a number is none of JSON's (NaN, infinite), or it is nested too deep.
    """
    if nested_deeper(value, MOST_NESTED):
        raise Unusable(Reason.NOT_JSON, f"nested deeper than {MOST_NESTED}")
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=text_of)
    except ValueError:
        raise Unusable(Reason.NOT_JSON, "a number is not finite") from None


def record_of(value: Any) -> Any:
    """Return a record that may come as JSON text. In Parquet each record has all fields: those that are null are left out.

    :raises Unusable: the text is no JSON, or the record is nested too deep.
    """
    if isinstance(value, str):
        return parse_json(value)
    if nested_deeper(value, MOST_NESTED):
        raise Unusable(Reason.NOT_JSON, f"nested deeper than {MOST_NESTED}")
    return parse_json(json_of(_without_nulls(value)))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def redacted_record(value: Any, redacted: Callable[[str], str], names: tuple[str, ...] = ()) -> Any:
    """Return a record in which every text, name and number is as `redacted` leaves it.

    What a value is called tells what a number means (`"phone": 447700900123`): what is left of it alone is redacted behind
    its name, and behind those of the records that it stands in, until something is found.
    """
    if isinstance(value, dict):
        safe: dict[str, Any] = {}
        for key, inner in value.items():
            shown = redacted(str(key))
            # Two names of personal data become the same.
            shown = f"{shown} {len(safe) + 1}" if shown in safe else shown
            safe[shown] = redacted_record(inner, redacted, (str(key), *names))
        return safe
    if isinstance(value, list):
        return [redacted_record(inner, redacted, names) for inner in value]
    if value is None or isinstance(value, bool):
        return value
    text = text_of(value)
    shown = redacted(text)
    for name in names:
        before = f"{name}: "
        more = redacted(before + shown)
        if more.startswith(before) and more != before + shown:
            shown = more.removeprefix(before)
            break
    return shown if isinstance(value, str | bytes) or shown != text else value
