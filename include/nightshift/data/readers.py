"""Reading raw rows from one local file, without ever holding more than a batch of it.

A row that cannot be decoded or parsed comes out as :class:`Quarantined`; a file that cannot be trusted as a whole
(cut off in the middle, another format than expected, mapped columns missing) raises `BadInput` naming it.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.data.quarantine import Quarantined, Reason, Row, Unusable, beginning
from nightshift.errors import BadEnvironment, BadInput

LINE_BYTES = 4_000_000  # a longer line is quarantined without being held
CSV_RECORD_LINES = 1_000  # a record that goes on for longer has a quote that nobody closed
PARQUET_BATCH = 1_000  # rows
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}

RawRows = Iterator[Row | Quarantined]
csv.field_size_limit(2 * LINE_BYTES)


def read_jsonl(path: Path, label: str) -> RawRows:
    """Read one JSON object a line; blank lines are no rows."""
    for number, line in _lines(path, label):
        if isinstance(line, Quarantined):
            yield line
            continue
        text = line.strip()
        if not text:
            continue
        try:
            yield Row(number, _json_object(text))
        except Unusable as problem:
            yield Quarantined(number, problem.reason, problem.detail, beginning(text))


def read_csv(path: Path, label: str, wanted: list[str]) -> RawRows:
    """Read comma-separated rows under a header line; a row is numbered by the line it starts on.

    :raises BadInput: the header lacks one of the `wanted` columns, or names one of them twice.
    """
    lines = _Lines(_lines(path, label))
    header: list[str] | None = None
    while (record := lines.record()) is not None:
        number, fields, problem, raw = record
        if header is None:
            if problem is not None or fields is None:
                raise BadInput(f"{label}: the header cannot be read: {problem.detail if problem else 'it is empty'}")
            header = [name.strip() for name in fields]
            require_columns(label, wanted, header)
        elif problem is None and fields is not None and len(fields) != len(header):
            problem = Unusable(Reason.BAD_CSV, f"{len(fields)} fields, the header has {len(header)}")
        elif problem is None and fields is not None:
            yield Row(number, dict(zip(header, fields, strict=True)))
        if problem is not None:
            yield Quarantined(number, problem.reason, problem.detail, beginning(raw))


def read_parquet(path: Path, label: str, wanted: list[str]) -> RawRows:
    """Read the wanted columns of a Parquet file.

    :raises BadInput: it is not Parquet, is damaged, or lacks one of the `wanted` columns.
    """
    try:
        file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        names = list(file.schema_arrow.names)
        require_columns(label, wanted, names)
        roots = {name if name in names else name.split(".")[0] for name in wanted}
        number = 0
        for batch in file.iter_batches(PARQUET_BATCH, columns=[name for name in names if name in roots]):
            for values in _python_values(batch):
                number += 1
                if isinstance(values, Unusable):
                    yield Quarantined(number, values.reason, values.detail, "")
                else:
                    yield Row(number, values)
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None):
            raise _unreadable(label, error) from error
        raise BadInput(f"{label}: not a sound Parquet file: {error}") from error


def require_columns(label: str, wanted: Iterable[str], found: list[str]) -> None:
    """Check that a file or a query has every wanted column (or, for `payload.text`, its `payload`), once.

    :raises BadInput: it has not; the text names wanted and found columns.
    """
    missing = [name for name in wanted if name not in found and name.split(".")[0] not in found]
    if missing:
        raise BadInput(
            f"{label}: no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, found[:50])) or 'none'}. "
            "Correct `columns` of the source, or the file"
        )
    twice = sorted({name for name in wanted if found.count(name) > 1})
    if twice:
        raise BadInput(f"{label}: the column {twice[0]!r} is there {found.count(twice[0])} times; which one is meant?")


def compression(path: Path) -> str | None:
    """Return `gzip`, `zstd` or None by the first bytes of a file, whatever its name says."""
    with path.open("rb") as file:
        magic = file.read(4)
    return next((kind for start, kind in MAGIC.items() if magic.startswith(start)), None)


def decompressed(path: Path, label: str) -> BinaryIO:
    """Open a file for reading, unpacked if it is compressed.

    :raises BadEnvironment: it cannot be opened.
    """
    try:
        kind = compression(path)
        if kind is None:
            return path.open("rb")
    except OSError as error:
        raise _unreadable(label, error) from error
    return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), kind), 1 << 18)


def _unreadable(label: str, error: OSError) -> BadEnvironment:
    return BadEnvironment(f"{label}: cannot be read: {error.strerror or error}")


def _lines(path: Path, label: str) -> Iterator[tuple[int, bytes | Quarantined]]:
    """Yield the numbered lines of a file; of a line above the limit, only a record that says so."""
    with decompressed(path, label) as file:
        for number in itertools.count(1):
            try:
                line = file.readline(LINE_BYTES)
                if len(line) == LINE_BYTES and not line.endswith(b"\n"):
                    yield number, _overlong(number, line, file)
                    continue
            except OSError as error:
                if error.errno:
                    raise _unreadable(label, error) from error
                raise BadInput(f"{label}: damaged or cut off after line {number - 1}: {error}; get it again") from error
            if not line:
                return
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _overlong(number: int, line: bytes, file: BinaryIO) -> Quarantined:
    raw, length = beginning(line), len(line)
    while line and not line.endswith(b"\n"):
        line = file.readline(1 << 16)
        length += len(line)
    return Quarantined(number, Reason.LINE_TOO_LONG, f"{length:,} bytes, at most {LINE_BYTES:,} are read", raw)


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Unusable(Reason.NOT_UTF8, f"byte {error.start + 1} of the line: {error.reason}") from None
    except RecursionError:
        raise Unusable(Reason.NOT_JSON, "nested too deep") from None
    except ValueError as error:
        raise Unusable(Reason.NOT_JSON, str(error)) from None
    if not isinstance(value, dict):
        raise Unusable(Reason.NOT_OBJECT, f"a JSON {type(value).__name__}, wanted is one object a line")
    return value


class _Lines:
    """Cuts lines into CSV records. Where a quote is left open, only the line that opened it is lost."""

    def __init__(self, lines: Iterator[tuple[int, bytes | Quarantined]]) -> None:
        self._source = lines
        self._ahead: deque[tuple[int, bytes | Quarantined]] = deque()

    def record(self) -> tuple[int, list[str] | None, Unusable | None, str] | None:
        """Return line number, fields, what is wrong, and the raw text of the next record; None at the end."""
        while True:
            first = self._next()
            if first is None:
                return None
            number, line = first
            if isinstance(line, Quarantined):
                return number, None, Unusable(line.reason, line.detail), line.raw
            if line.strip():
                return self._parse(number, line)

    def _next(self) -> tuple[int, bytes | Quarantined] | None:
        return self._ahead.popleft() if self._ahead else next(self._source, None)

    def _parse(self, number: int, first: bytes) -> tuple[int, list[str] | None, Unusable | None, str]:
        used: list[tuple[int, bytes | Quarantined]] = []

        def text() -> Iterator[str]:
            yield first.decode("utf-8", "surrogateescape")
            size = len(first)
            while (line := self._next()) is not None:
                used.append(line)
                if isinstance(line[1], Quarantined) or len(used) > CSV_RECORD_LINES:
                    return
                size += len(line[1])
                if size > LINE_BYTES:
                    return
                yield line[1].decode("utf-8", "surrogateescape")

        try:
            fields = next(csv.reader(text(), strict=True))
        except csv.Error as error:
            # The lines after the first may be sound rows of their own: they are read again as such.
            self._ahead.extendleft(reversed(used))
            detail = "a quote is opened and not closed" if "unexpected end" in str(error) else str(error)
            return number, None, Unusable(Reason.BAD_CSV, detail), beginning(first)
        joined = ",".join(fields)
        if not joined.isascii():
            try:
                joined.encode()
            except UnicodeEncodeError:
                raw = first + b"".join(line for _, line in used if isinstance(line, bytes))
                return number, None, Unusable(Reason.NOT_UTF8, "not valid UTF-8"), beginning(raw)
        return number, fields, None, beginning(first)


def _python_values(batch: pa.RecordBatch) -> Iterable[dict[str, Any] | Unusable]:
    for index, column in enumerate(batch.columns):
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            # Python's datetime ends at microseconds.
            column = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)  # noqa: PLW2901
            batch = batch.set_column(index, batch.schema.names[index], column)
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        return [_python_row(batch, row) for row in range(batch.num_rows)]


def _python_row(batch: pa.RecordBatch, row: int) -> dict[str, Any] | Unusable:
    try:
        return {name: column[row].as_py() for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    except (ValueError, OverflowError, pa.ArrowException) as error:
        return Unusable(Reason.BAD_VALUE, f"a value cannot be read: {error}")
