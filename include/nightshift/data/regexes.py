"""Python's regular expressions in the dialect of DuckDB (RE2), where both find the same texts.

The dialects share their signs and not their meaning: `\\d`, `\\w` and `\\s` are ASCII in RE2 and Unicode in Python, `$` stands
before a last line feed in Python alone, RE2 has no look-around and no back-references. So a pattern is not passed on: it is
parsed by Python and written anew, every character and class spelled out. What cannot be written so has no translation.
"""

from __future__ import annotations

import importlib
import re
import sys
from array import array
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

LINE_FEED = r"\x{a}"
MOST_REPEATS = 1_000  # RE2's own limit
CLASSES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


def to_re2(pattern: str) -> str | None:
    """Return the pattern that RE2 finds in exactly the texts in which `re.search` finds `pattern`; None: there is none.

    :raises re.error: `pattern` is not a regular expression.
    """
    if re.compile(pattern).flags != re.UNICODE:
        return None
    parser: Any = importlib.import_module("re._parser")
    return _sequence(parser.parse(pattern), ends=True)


def _sequence(items: Iterable[tuple[Any, Any]], *, ends: bool) -> str | None:
    """Write items one after another.

    :param ends: nothing of the pattern follows, so that `$` may consume the line feed before which it stands.
    """
    items = list(items)
    written = [
        _item(str(name), value, ends=ends and place == len(items)) for place, (name, value) in enumerate(items, 1)
    ]
    return None if None in written else "".join(text for text in written if text)


def _item(name: str, value: Any, *, ends: bool) -> str | None:  # noqa: PLR0911 - a table
    match name:
        case "LITERAL":
            return _character(value)
        case "NOT_LITERAL":
            return f"[^{_character(value)}]"
        case "ANY":
            return f"[^{LINE_FEED}]"
        case "IN":
            return _class(value)
        case "BRANCH":
            branches = [_sequence(branch, ends=ends) for branch in value[1]]
            return None if None in branches else f"(?:{'|'.join(str(branch) for branch in branches)})"
        case "SUBPATTERN":
            _, added, removed, body = value
            inner = None if added or removed else _sequence(body, ends=ends)
            return None if inner is None else f"(?:{inner})"
        case "MAX_REPEAT" | "MIN_REPEAT":
            return _repeat(*value)
        case "AT":
            return _anchor(str(value), ends=ends)
    return None  # look-around, back-references, conditions, atomic groups, possessive repeats


def _repeat(least: Any, most: Any, body: Iterable[tuple[Any, Any]]) -> str | None:
    inner = _sequence(body, ends=False)
    endless = str(most) == "MAXREPEAT"
    if inner is None or int(least) > MOST_REPEATS or (not endless and int(most) > MOST_REPEATS):
        return None
    return f"(?:{inner}){{{int(least)},{'' if endless else int(most)}}}"


def _anchor(name: str, *, ends: bool) -> str | None:
    if name in {"AT_BEGINNING", "AT_BEGINNING_STRING"}:
        return r"\A"
    if name == "AT_END_STRING":
        return r"\z"
    return rf"{LINE_FEED}?\z" if name == "AT_END" and ends else None


def _class(items: Sequence[tuple[Any, Any]]) -> str | None:
    written = []
    for name, value in items:
        match str(name):
            case "NEGATE":
                written.append("^")
            case "LITERAL":
                written.append(_character(value))
            case "RANGE":
                written.append(f"{_character(value[0])}-{_character(value[1])}")
            case "CATEGORY" if str(value) in CLASSES:
                written.append(_members(CLASSES[str(value)]))
            case _:
                return None
    return f"[{''.join(written)}]"


@cache
def _members(category: str) -> str:
    """Every character of a class of Python's, as ranges."""
    codes = array("I", range(sys.maxunicode + 1)).tobytes()
    everything = codes.decode(f"utf-32-{sys.byteorder[0]}e", "surrogatepass")
    return "".join(
        f"{_character(run.start())}-{_character(run.end() - 1)}" for run in re.finditer(f"{category}+", everything)
    )


def _character(code: int) -> str:
    return rf"\x{{{code:x}}}"
