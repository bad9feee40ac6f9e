"""What a file seems to be of which no row could be used, by its first bytes: the words of a message to people."""

from __future__ import annotations

import json
from pathlib import Path

from nightshift.data.json_rows import WHITE
from nightshift.data.text_lines import COMPRESSIONS, peek, utf8_text
from nightshift.errors import JobError
from nightshift.settings.intake import LAYOUTS

FIRST_BYTES = 4_096
BEGINNINGS = {
    b"PAR1": "Parquet; give the source `format: parquet`",
    b"PK\x03\x04": "a ZIP archive, as spreadsheets (.xlsx) are",
    b"%PDF": "a PDF",
    b"SQLite format 3": "an SQLite database",
    b"ORC": "ORC",
    b"Obj\x01": "Avro",
    b"BZh": "compressed with bzip2; only gzip and Zstandard are unpacked",
    b"\xfd7zXZ": "compressed with xz; only gzip and Zstandard are unpacked",
}
FEW_ZEROS = 0.02  # of the bytes: text in UTF-8 holds none


def seems(path: Path) -> str | None:
    """Return what a local file seems to be where it is no file of rows, or None where its beginning tells nothing."""
    try:
        with utf8_text(path, path.name) as file:
            start = peek(file, path.name, "its first bytes")[:FIRST_BYTES]
    except JobError:
        return None
    return _packed(start) or _binary(start) or _markup(start) or _json(start)


def _packed(start: bytes) -> str | None:
    for magic, kind in COMPRESSIONS.items():
        if start.startswith(magic):
            return f"packed twice: {kind} inside of a compressed file"
    return next((kind for magic, kind in BEGINNINGS.items() if start.startswith(magic)), None)


def _binary(start: bytes) -> str | None:
    if start.count(b"\0") <= FEW_ZEROS * len(start):
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


def _json(start: bytes) -> str | None:
    line = start.lstrip(WHITE).partition(b"\n")[0].strip()
    if line.startswith(b"["):
        return "a JSON array of what are no objects"
    if line == b"{":
        return "one JSON object over several lines; wanted is one object a line, or an array of objects"
    try:
        keys = set(json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
    layouts = [name for name, columns in LAYOUTS.items() if set(columns.values()) - {"input"} <= keys]
    return f"rows of `layout: {layouts[0]}`" if len(layouts) == 1 else None
