"""Whether a response has the application's response format."""

from __future__ import annotations

import json
from typing import Literal

from nightshift.data.normalise import INVISIBLE

Format = Literal["text", "line", "json"]


def is_valid(response: str, finish_reason: str | None, response_format: Format) -> bool:
    """Return whether a response is complete and in the response format.

    A response that was cut at the maximum length never is. If the reason is unknown (served elsewhere), only the format
    counts. Invisible characters count as blank. `text`: not blank. `line`: one line that is not blank; surrounding white space
    is ignored. `json`: the whole response is one JSON object or array (RFC 8259: no NaN, no text or fence around it).
    """
    text = response.strip()
    if finish_reason not in {None, "stop"} or INVISIBLE.fullmatch(text):
        return False
    match response_format:
        case "text":
            return True
        case "line":
            return len(text.splitlines()) == 1
        case "json":
            return _is_json(text)


def _is_json(text: str) -> bool:
    if not text.startswith(("{", "[")):
        return False
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):  # nested too deeply
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
