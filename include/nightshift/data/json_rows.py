"""Reads rows from JSON: one object a line, or the objects of an array, one at a time."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nightshift.data.pieces import in_pieces
from nightshift.data.quarantine import Quarantined, RawRows, Reason, Row, Unusable, beginning
from nightshift.data.text_lines import LINE_BYTES, line_too_long, lines, peek, utf8_text
from nightshift.errors import BadInput

MOST_NESTED = 100  # lists and records in one another: everything that walks through a value has its stack
SCAN: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
WHITE = b" \t\r\n"
OUTSIDE_TEXT = re.compile(rb'["\[\]{},]')
INSIDE_TEXT = re.compile(rb'["\\]')


def read_json(path: Path, label: str) -> Iterator[Texts]:
    """Read the objects of a file that is one JSON array, else one object a line.

    Blank lines are no rows. A row is numbered by its line, or its place in the array, from 1.

    :raises BadInput: the file is damaged or cut off.
    :raises BadEnvironment: it cannot be read.
    """
    with utf8_text(path, label) as file:
        for texts in in_pieces(_numbered(file, label), lambda text: len(text) if isinstance(text, bytes) else 0):
            yield Texts(texts)


class Texts(list[tuple[int, bytes | Quarantined]]):
    """JSON texts with their numbers."""

    def rows(self) -> RawRows:
        """Yield the rows that they say."""
        for number, content in self:
            if isinstance(content, Quarantined):
                yield content
            elif text := content.strip():
                try:
                    yield Row(number, _object(text))
                except Unusable as problem:
                    yield Quarantined(number, problem.reason, problem.detail, beginning(text))


def _numbered(file: io.BufferedReader, label: str) -> Iterator[tuple[int, bytes | Quarantined]]:
    number = 0
    if peek(file, label, "its first bytes").lstrip(WHITE).startswith(b"["):
        for number, item in _array_items(file, label):
            yield number, item
    # Behind an array there may be anything, and nothing that it says ends the rows before it.
    yield from lines(file, label, number + 1)


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    :raises Unusable: it is not JSON, or nested too deep.
    """
    try:
        value = _loaded(text)
    except RecursionError:
        raise Unusable(Reason.NOT_JSON, f"nested deeper than {MOST_NESTED}") from None
    except ValueError as error:
        raise Unusable(Reason.NOT_JSON, str(error)) from None
    if text.count("[") + text.count("{") > MOST_NESTED and nested_deeper(value, MOST_NESTED):
        raise Unusable(Reason.NOT_JSON, f"nested deeper than {MOST_NESTED}")
    return value


def _loaded(text: str) -> Any:
    """As `json.loads`, which takes twice as long to get to the same scanner."""
    try:
        value, end = SCAN(text, 0)
    except (StopIteration, ValueError):
        end = -1  # `json.loads` says what is wrong
    return value if end == len(text) else json.loads(text.removeprefix("\ufeff"))  # files with a mark, joined to one


def json_or_text(text: str) -> Any:
    """Return the value of a JSON column of a database; one that is nested too deep stays text, and ends no other row."""
    try:
        return parse_json(text)
    except Unusable:
        return text


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = parse_json(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Unusable(Reason.NOT_UTF8, f"byte {error.start + 1} of the line: {error.reason}") from None
    if not isinstance(value, dict):
        raise Unusable(Reason.NOT_OBJECT, f"a JSON {type(value).__name__}, wanted is an object for each row")
    return value


def nested_deeper(value: Any, most: int) -> bool:
    """Return whether lists and records stand in one another more than `most` deep."""
    level = [value]
    for _ in range(most + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _array_items(file: io.BufferedReader, label: str) -> Iterator[tuple[int, bytes | Quarantined]]:
    """Yield the numbered items of the array that a file begins with, and leave the file behind its end."""
    item, length = bytearray(), 0  # of the item so far: its bytes, up to a line's limit, and how many there were
    number, depth, in_text, skip = 1, 0, False, -1
    while chunk := peek(file, label, f"row {number - 1}"):
        begin = place = 0
        ended = False
        while mark := (INSIDE_TEXT if in_text else OUTSIDE_TEXT).search(chunk, place):
            place = mark.end()
            if mark.start() == skip:
                continue
            sign = mark[0]
            if sign == b"\\":
                skip = place
            elif sign == b'"':
                in_text = not in_text
            elif sign in b"[{":
                depth += 1
                if depth == 1:
                    begin = place
            elif sign == b"," and depth > 1:
                continue
            elif sign == b"," or (depth := depth - 1) == 0:
                length += mark.start() - begin
                item += chunk[begin : mark.start()][: LINE_BYTES - len(item)]
                begin = place
                if bytes(item).strip():
                    yield (
                        number,
                        (bytes(item) if length < LINE_BYTES else line_too_long(number, length, beginning(bytes(item)))),
                    )
                    number += 1
                item.clear()
                length = 0
                if depth == 0:
                    ended = True
                    break
        if ended:
            file.read(place)
            return
        length += len(chunk) - begin
        item += chunk[begin:][: LINE_BYTES - len(item)]
        skip -= len(chunk)
        file.read(len(chunk))
    raise BadInput(
        f"{label}: the JSON array does not end: cut off after row {number - 1}, or broken there; get it again"
    )
