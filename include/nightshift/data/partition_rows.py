"""The rows of a partition's Parquet file: queries over all of them, and parts of them as frames of pandas.

Every frame has the types that a frame of the whole file would have, and the numbers of its rows as its index.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
import pandas as pd

BATCH_VECTORS = 10  # of 2,048 rows each
MEMORY_LIMIT = "384MB"
THREADS = 4  # each needs memory of its own
ROW = "file_row_number"
INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT"}
KINDS: dict[str, Literal["text", "integer", "real"]] = {
    "VARCHAR": "text",
    "DOUBLE": "real",
    **dict.fromkeys(INTEGERS, "integer"),
}


class Parameters(dict[str, Any]):
    """The values of a query by name, so that none is ever part of its text."""

    def add(self, value: object) -> str:
        """Return the place that stands for a value."""
        name = f"value_{len(self)}"
        self[name] = value
        return f"${name}"


@dataclass(frozen=True)
class Column:
    """A column, its type in pandas, and whether that type is one with a null of its own (`Int64`, `boolean`)."""

    name: str
    kind: Literal["text", "integer", "real", "other"]
    dtype: Any
    nullable: bool

    @property
    def sql(self) -> str:
        """The quoted name."""
        return quoted(self.name)

    @property
    def is_number(self) -> bool:
        """Whether pandas holds it as plain numbers, in which a missing one is NaN."""
        return self.kind == "real" or (self.kind == "integer" and not self.nullable)

    def compares_with(self, value: object) -> bool:
        """Whether pandas and DuckDB agree on how this column compares with a constant."""
        if self.kind == "text":
            return isinstance(value, str)
        return self.is_number and is_plain_number(value)


def is_plain_number(value: object) -> bool:
    """Whether a value is a number that DuckDB compares as Python does."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 2**53 if isinstance(value, int) else math.isfinite(value)


def quoted(name: str) -> str:
    """Return a name as SQL quotes it."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


class PartitionRows:
    """The columns `names` of the Parquet file `file`; queries that outgrow their memory spill to `folder`."""

    def __init__(self, file: Path, names: Sequence[str], folder: Path) -> None:
        self.database = duckdb.connect()
        self.database.execute("SET enable_progress_bar = false")
        self.database.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        self.database.execute(f"SET threads = {THREADS}")
        self.database.execute("SET temp_directory = ?", [str(folder / "spill")])
        # DuckDB takes a column for free of NaN where the file's statistics name none; writers leave NaN out of them.
        self.database.execute("SET disabled_optimizers = 'statistics_propagation'")
        chosen = ", ".join(quoted(name) for name in names)
        self._relation = f"(SELECT {chosen}, {ROW} FROM read_parquet($file, file_row_number = true))"
        self._file = {"file": str(file)}
        types = {row[0]: str(row[1]) for row in self._run(f"DESCRIBE {self._relation}").fetchall()}
        empty = self._run(f"SELECT {chosen} FROM {self._relation} LIMIT 0").df()
        # A null makes `int64` to `Int64` and `bool` to `boolean`; other types hold nulls as they are.
        counted = [name for name in names if types[name] in INTEGERS or types[name] == "BOOLEAN"]
        counts = ", ".join(["count(*)", *(f"count({quoted(name)})" for name in counted)])
        ((self.count, *present),) = self._run(f"SELECT {counts} FROM {self._relation}").fetchall()
        nulls = {name for name, number in zip(counted, present, strict=True) if number < self.count}
        self.columns = {
            name: Column(
                name, KINDS.get(types[name], "other"), _dtype(empty.dtypes[name], name in nulls), name in nulls
            )
            for name in names
        }
        # DuckDB holds NaN for the greatest number; for pandas it is a missing one.
        cleaned = ", ".join(
            f"if(isnan({column.sql}), NULL, {column.sql}) AS {column.sql}"
            if types[column.name] in {"FLOAT", "DOUBLE"}
            else column.sql
            for column in self.columns.values()
        )
        self.relation = f"(SELECT {cleaned}, {ROW} FROM {self._relation})"

    def close(self) -> None:
        """Give back the memory of the queries."""
        self.database.close()

    def _run(self, query: str, values: Mapping[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
        return self.database.execute(query, {**(values or {}), **(self._file if "$file" in query else {})})

    def query(self, query: str, values: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Return the result of a query about `{rows}`, with its parameters."""
        # Only what a query names may be bound.
        used = {name: (values or {})[name] for name in set(re.findall(r"\$(\w+)", query))}
        return self._run(query.replace("{rows}", self.relation), used).df()

    def frame(self, numbers: Iterable[int], names: Iterable[str]) -> pd.DataFrame:
        """Return some rows, in their order."""
        places = ", ".join(str(int(number)) for number in sorted(set(numbers)))
        chosen = self._chosen(names)
        where = f"{ROW} IN ({places})" if places else "FALSE"
        found = self._run(f"SELECT {chosen} FROM {self._relation} WHERE {where} ORDER BY {ROW}")
        return self._typed(found.df())

    def sample(self, rows: int, by: str) -> pd.DataFrame:
        """Return the rows with the smallest values in a column, in their order; all where there are no more."""
        chosen = ", ".join(column.sql for column in self.columns.values())
        least = f"SELECT {quoted(by)} FROM {self._relation} ORDER BY {quoted(by)} LIMIT {int(rows)}"
        where = f"WHERE {quoted(by)} IN ({least})" if rows < self.count else ""
        found = self._run(f"SELECT {chosen} FROM {self._relation} {where} ORDER BY {ROW}").df()
        return found.astype({column.name: column.dtype for column in self.columns.values()})

    def batches(self, names: Iterable[str]) -> Iterator[pd.DataFrame]:
        """Yield all rows in their order, a few thousand at a time."""
        reader = self._run(f"SELECT {self._chosen(names)} FROM {self._relation}")
        while len(batch := reader.fetch_df_chunk(BATCH_VECTORS)):
            yield self._typed(batch)

    def _chosen(self, names: Iterable[str]) -> str:
        return ", ".join([ROW, *(quoted(name) for name in sorted(set(names)))])

    def _typed(self, frame: pd.DataFrame) -> pd.DataFrame:
        indexed = frame.set_index(ROW).rename_axis(None)
        return indexed.astype({name: self.columns[name].dtype for name in indexed.columns})


def _dtype(empty: Any, has_nulls: bool) -> Any:
    return pd.Series([], dtype=empty).convert_dtypes().dtype if has_nulls else empty
