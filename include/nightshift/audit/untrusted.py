"""Sanitizes untrusted values for the audit log: plain JSON without secrets, of bounded size."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

SECRET_KEY = re.compile("pass|secret|token|credential|api_?key|private|authorization|cookie", re.IGNORECASE)
LONGEST_TEXT, MOST_DETAILS = 500, 4_000  # characters
DEEPEST = 20  # levels of lists and objects; Python's own JSON gives up at a few hundred


def without_secrets(value: Any, levels: int = DEEPEST) -> Any:
    """Return a JSON value without what is secret by its key, with texts of at most 500 characters, and 20 levels deep.

    What only Python takes for JSON becomes text: NaN, infinity, whole numbers beyond 64 bits.
    """
    if isinstance(value, Mapping | list) and not levels:
        return "…"
    if isinstance(value, Mapping):
        return {
            text_of(key): "***" if SECRET_KEY.search(str(key)) else without_secrets(inner, levels - 1)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(inner, levels - 1) for inner in value]
    fits = (isinstance(value, int) and abs(value) < 2**63) or (isinstance(value, float) and math.isfinite(value))
    return value if value is None or fits else text_of(value)


def bounded(details: dict[str, Any]) -> dict[str, Any]:
    """Return details of at most 4,000 characters: where there is more, the beginning of their text."""
    text = json.dumps(details)
    return details if len(text) <= MOST_DETAILS else {"cut": text[:MOST_DETAILS]}


def text_of(value: Any) -> str:
    """Return a value as a text of at most 500 characters that UTF-8 can hold, without the logins of addresses."""
    text = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    text = re.sub(r"//[^/@\s]*@", "//***@", text)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
