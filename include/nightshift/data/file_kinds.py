"""Guesses the kind of an unusable file by its first bytes, for the error message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nightshift.data.json_rows import WHITE
from nightshift.data.text_lines import COMPRESSIONS, peek, utf8_text
from nightshift.errors import JobError
from nightshift.settings.intake import LAYOUTS, OPTIONAL, Source

FIRST_BYTES = 4_096
PARQUET = "Parquet; give the source `format: parquet`"
BEGINNINGS = {
    b"PAR1": PARQUET,
    b"PK\x03\x04": "a ZIP archive, as spreadsheets (.xlsx) are",
    b"%PDF": "a PDF",
    b"SQLite format 3": "an SQLite database",
    b"ORC": "ORC",
    b"Obj\x01": "Avro",
    b"BZh": "compressed with bzip2; only gzip and Zstandard are unpacked",
    b"\xfd7zXZ": "compressed with xz; only gzip and Zstandard are unpacked",
}
FEW_CONTROLS = 0.02  # of the bytes: text in UTF-8 holds none
CONTROLS = bytes(set(range(32)) - set(b"\t\n\f\r\x1b")) + b"\x7f"


def seems(path: Path, read_as: Source | None = None, file_format: str | None = None) -> str | None:
    """Return what a local file seems to be where it is no file of rows, or None where its beginning tells nothing.

    :param read_as: the source that it was read for: that a file is what its source says already is no news.
    :param file_format: as which it was read.
    """
    try:
        with utf8_text(path, path.name) as file:
            start = peek(file, path.name, "its first bytes")[:FIRST_BYTES]
    except JobError:
        return None
    kind = _packed(start) or _binary(start) or _markup(start)
    if kind is not None:
        return None if kind == PARQUET and file_format == "parquet" else kind
    return _json(start, read_as.layout if read_as else None, file_format)


def _packed(start: bytes) -> str | None:
    for magic, kind in COMPRESSIONS.items():
        if start.startswith(magic):
            return f"packed twice: {kind} inside of a compressed file"
    return next((kind for magic, kind in BEGINNINGS.items() if start.startswith(magic)), None)


def _binary(start: bytes) -> str | None:
    if len(start) - len(start.translate(None, CONTROLS)) <= FEW_CONTROLS * len(start):
        return None
    even, odd = start[::2].count(0), start[1::2].count(0)
    if max(even, odd) > 0.3 * len(start) / 2 and min(even, odd) < 0.1 * max(even, odd):
        return "UTF-16 without a byte order mark; export it as UTF-8"
    return "binary data"


def _markup(start: bytes) -> str | None:
    text = start.lstrip(WHITE).lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page, perhaps an error or a login in place of the data"
    return "XML or HTML" if text.startswith(b"<") else None


def _json(start: bytes, known_layout: str | None, file_format: str | None) -> str | None:
    text = start.lstrip(WHITE)
    is_array = text.startswith(b"[")
    first = text[1:].lstrip(WHITE) if is_array else text.partition(b"\n")[0].strip()
    if is_array and first and not first.startswith(b"{"):
        return "a JSON array of what are no objects"
    if not is_array and first == b"{":
        return "one JSON object over several lines; wanted is one object a line, or an array of objects"
    if not is_array and len(_objects(first)) > 1:
        return "several JSON objects on one line, or lines that end with a carriage return alone; wanted is one object a line"
    found = []
    if first.startswith(b"{") and file_format not in {None, "json", "jsonl"}:
        kind = ("a JSON array of objects", "json") if is_array else ("one JSON object a line", "jsonl")
        found.append(f"{kind[0]}; give the source `format: {kind[1]}`")
    layout = _layout(first)
    if layout is not None and layout != known_layout:
        found.append(f"rows of `layout: {layout}`")
    return ", ".join(found) or None


def _layout(text: bytes) -> str | None:
    """The only layout that the object at the beginning of a text has the columns of."""
    keys = set(next(iter(_objects(text)), ()))
    layouts = [
        name
        for name, columns in LAYOUTS.items()
        if {column.split(".")[0] for field, column in columns.items() if field not in OPTIONAL.get(name, ())} <= keys
    ]
    return layouts[0] if len(layouts) == 1 else None


def _objects(text: bytes) -> list[dict[str, Any]]:
    """The whole objects that a text begins with, at most two."""
    found: list[dict[str, Any]] = []
    left = text.decode("utf-8", "ignore").strip()
    try:
        while left.startswith("{") and len(found) < 2:
            item, end = json.JSONDecoder().raw_decode(left)
            found.append(item)
            left = left[end:].lstrip()
    except (ValueError, RecursionError):
        pass
    return found
