"""Reads raw rows from CSV, TSV and Parquet in batches; JSON is read in `json_rows.py`.

A row that cannot be decoded or parsed comes out as :class:`Quarantined`; a file that cannot be trusted as a whole
(cut off in the middle, another format than expected, mapped columns missing) raises `BadInput` naming it.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.data.pieces import PIECE_ROWS
from nightshift.data.quarantine import Quarantined, RawRows, Reason, Row, Unusable, beginning
from nightshift.data.text_lines import LINE_BYTES, lines, unreadable, utf8_text
from nightshift.errors import BadInput

# A longer record has a quote that nobody closed. Lines are counted too, because each costs memory while it is held.
CSV_RECORD_BYTES = LINE_BYTES
CSV_RECORD_LINES = 50_000
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", ",": "commas"}

# Line number, fields, what is wrong, and the raw text.
Record = tuple[int, list[str] | None, Unusable | None, str]
csv.field_size_limit(2 * LINE_BYTES)


def read_csv(path: Path, label: str, wanted: list[str], delimiter: str = ",") -> RawRows:
    """Read rows of fields between delimiters under a header line; a row is numbered by the line it starts on.

    :raises BadInput: the header lacks one of the `wanted` columns, or names one of them twice.
    """
    header: list[str] | None = None
    for number, fields, wrong, raw in _records(path, label, delimiter):
        problem = wrong
        if header is None:
            if problem is not None or fields is None:
                raise BadInput(
                    f"{label}: the header cannot be read: {problem.detail if problem else 'it is empty'}"
                    f"{_other_delimiter([raw], delimiter)}"
                )
            header = [name.strip() for name in fields]
            require_columns(label, wanted, header, delimiter)
        elif problem is None and fields is not None and len(fields) != len(header):
            problem = Unusable(Reason.BAD_CSV, f"{len(fields)} fields, the header has {len(header)}")
        elif problem is None and fields is not None:
            yield Row(number, dict(zip(header, fields, strict=True)))
        if problem is not None:
            yield Quarantined(number, problem.reason, problem.detail, beginning(raw))


def bytes_of(row: Row | Quarantined) -> int:
    """Return about how large a row of :func:`read_csv` is: its characters."""
    return sum(map(len, row.values.values())) if isinstance(row, Row) else len(row.raw)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of a Parquet file, the first of which has the number `first`."""

    label: str
    first: int
    batch: pa.RecordBatch

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def rows(self) -> RawRows:
        """Yield them.

        :raises BadInput: the file is damaged.
        """
        try:
            rows = _python_values(self.batch)
        except pa.ArrowException as error:
            raise BadInput(f"{self.label}: not a sound Parquet file: {error}") from error
        for number, values in enumerate(rows, self.first):
            if isinstance(values, Unusable):
                yield Quarantined(number, values.reason, values.detail, "")
            else:
                yield Row(number, values)


def read_parquet(path: Path, label: str, wanted: list[str], optional: Iterable[str] = ()) -> Iterator[Batch]:
    """Read the wanted columns of a Parquet file, and of the optional ones those that it has.

    :raises BadInput: it is not Parquet, is damaged, or lacks one of the `wanted` columns.
    """
    try:
        file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False, coerce_int96_timestamp_unit="us")
        names = list(file.schema_arrow.names)
        require_columns(label, wanted, names)
        roots = {name if name in names else name.split(".")[0] for name in [*wanted, *optional]}
        first = 1
        for batch in file.iter_batches(PIECE_ROWS, columns=[name for name in names if name in roots]):
            yield Batch(label, first, batch)
            first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None):
            raise unreadable(label, error) from error
        raise BadInput(f"{label}: not a sound Parquet file: {error}") from error


def require_columns(label: str, wanted: Iterable[str], found: list[str], delimiter: str | None = None) -> None:
    """Check that a file or a query has every wanted column (or, for `payload.text`, its `payload`), once.

    :param delimiter: what the columns were separated at.
    :raises BadInput: it has not; the text names wanted and found columns.
    """
    missing = [name for name in wanted if name not in found and name.split(".")[0] not in found]
    if missing:
        raise BadInput(
            f"{label}: no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, found[:50])) or 'none'}. "
            f"Correct `columns` of the source, or the file{_other_delimiter(found, delimiter)}"
        )
    twice = sorted({name for name in wanted if found.count(name) > 1})
    if twice:
        raise BadInput(f"{label}: the column {twice[0]!r} is there {found.count(twice[0])} times; which one is meant?")


def _other_delimiter(found: list[str], delimiter: str | None) -> str:
    """A hint for a header that is one column, in which another sign separates names."""
    if delimiter is None or len(found) != 1:
        return ""
    other = next((sign for sign in SEPARATORS if sign != delimiter and sign in found[0]), None)
    if other is None:
        return ""
    return f": {SEPARATORS[other]} seem to separate its columns, and it was read with {SEPARATORS[delimiter]}"


def _records(path: Path, label: str, delimiter: str) -> Iterator[Record]:
    with utf8_text(path, label) as file:
        records = _Records(lines(file, label), delimiter)
        while (record := records.next()) is not None:
            yield record


class _Records:
    """Cuts lines into CSV records. Where a quote is left open, only the line that opened it is lost."""

    def __init__(self, numbered: Iterator[tuple[int, bytes | Quarantined]], delimiter: str) -> None:
        self._source = numbered
        self._delimiter = delimiter
        self._ahead: deque[tuple[int, bytes | Quarantined]] = deque()

    def next(self) -> Record | None:
        """Return the next record; None at the end."""
        while True:
            first = self._line()
            if first is None:
                return None
            number, line = first
            if isinstance(line, Quarantined):
                return number, None, Unusable(line.reason, line.detail), line.raw
            if line.strip():
                return self._parse(number, line)

    def _line(self) -> tuple[int, bytes | Quarantined] | None:
        return self._ahead.popleft() if self._ahead else next(self._source, None)

    def _parse(self, number: int, first: bytes) -> Record:
        used: list[tuple[int, bytes | Quarantined]] = []

        def text() -> Iterator[str]:
            yield first.decode("utf-8", "surrogateescape")
            size = len(first)
            while (line := self._line()) is not None:
                used.append(line)
                if isinstance(line[1], Quarantined) or len(used) > CSV_RECORD_LINES:
                    return
                size += len(line[1])
                if size > CSV_RECORD_BYTES:
                    return
                yield line[1].decode("utf-8", "surrogateescape")

        try:
            fields = self._spaced(first) or next(csv.reader(text(), strict=True, delimiter=self._delimiter))
        except csv.Error as error:
            # The lines after the first may be sound rows of their own: they are read again as such.
            self._ahead.extendleft(reversed(used))
            detail = "a quote is opened and not closed" if "unexpected end" in str(error) else str(error)
            return number, None, Unusable(Reason.BAD_CSV, detail), beginning(first)
        joined = "".join(fields)
        if not joined.isascii():
            try:
                joined.encode()
            except UnicodeEncodeError:
                raw = first + b"".join(line for _, line in used if isinstance(line, bytes))
                return number, None, Unusable(Reason.NOT_UTF8, "not valid UTF-8"), beginning(raw)
        return number, fields, None, beginning(first)

    def _spaced(self, line: bytes) -> list[str] | None:
        """The fields of a line with spaces before quotes; None: it has none, or cannot be read so. Behind a tab they are text."""
        if b' "' in line and self._delimiter != "\t":
            text = line.decode("utf-8", "surrogateescape")
            with suppress(csv.Error):
                return next(csv.reader([text], strict=True, delimiter=self._delimiter, skipinitialspace=True))
        return None


def _python_values(batch: pa.RecordBatch) -> Iterable[dict[str, Any] | Unusable]:
    """The rows of a batch, maps as dicts."""
    for index, column in enumerate(batch.columns):
        readable = _readable(column.type)
        if readable != column.type:
            batch = batch.set_column(index, batch.schema.names[index], column.cast(readable, safe=False))
    maps = [name for name, column in zip(batch.schema.names, batch.columns, strict=True) if _holds_map(column.type)]
    try:
        rows: list[dict[str, Any]] = batch.to_pylist(maps_as_pydicts="strict")
    except (ValueError, OverflowError, KeyError, pa.ArrowException):
        return [_python_row(batch, row, maps) for row in range(batch.num_rows)]
    return [row | {name: _with_text_keys(row[name]) for name in maps} for row in rows] if maps else rows


def _python_row(batch: pa.RecordBatch, row: int, maps: list[str]) -> dict[str, Any] | Unusable:
    try:
        values = {
            name: column[row].as_py(maps_as_pydicts="strict")
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
    except (ValueError, OverflowError, KeyError, pa.ArrowException) as error:
        return Unusable(Reason.BAD_VALUE, f"a value cannot be read: {error}")
    return values | {name: _with_text_keys(values[name]) for name in maps}


def _readable(kind: pa.DataType) -> pa.DataType:
    """A type as Python can hold it: times in microseconds, and in UTC, because a file may name a zone nobody knows."""
    if pa.types.is_timestamp(kind):
        unit = "us" if kind.unit == "ns" else kind.unit
        return pa.timestamp(unit, tz=None if kind.tz is None else "UTC")
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_readable(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        value = kind.value_field.with_type(_readable(kind.value_type))
        size = kind.list_size if pa.types.is_fixed_size_list(kind) else -1
        return pa.large_list(value) if pa.types.is_large_list(kind) else pa.list_(value, size)
    if pa.types.is_map(kind):
        return pa.map_(_readable(kind.key_type), kind.item_field.with_type(_readable(kind.item_type)))
    return kind


def _holds_map(kind: pa.DataType) -> bool:
    return pa.types.is_map(kind) or any(_holds_map(kind.field(index).type) for index in range(kind.num_fields))


def _with_text_keys(value: Any) -> Any:
    """A value in which maps have the keys of a JSON object."""
    if isinstance(value, dict):
        return {str(key): _with_text_keys(inner) for key, inner in value.items()}
    return [_with_text_keys(inner) for inner in value] if isinstance(value, list) else value
