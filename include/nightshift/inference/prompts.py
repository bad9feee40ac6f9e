"""The prompts of an interval, read from a partition part by part."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from nightshift.assignment import is_challengers
from nightshift.data.examples import EXAMPLE_SCHEMA, EXAMPLES
from nightshift.errors import BadInput
from nightshift.settings.split import Arm, Unit
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, require_manifest
from nightshift.storage.partition import fetch


class Prompts:
    """The rows of a traffic partition, or those of an examples partition with the split `traffic`, numbered from 0.

    :param folder: for a local copy of the partition's file.
    :param arm: restricts the rows to those of an arm of a split.
    :raises BadInput: the partition is of another kind, or its file is missing or damaged.
    """

    def __init__(self, partition: UPath, manifest: Manifest, folder: Path, arm: Arm | None = None) -> None:
        if manifest.kind not in {"examples", "traffic"}:
            raise BadInput(f"{partition} holds {manifest.kind}; prompts are read from examples or traffic")
        self._all = manifest.kind == "traffic"
        self._arm = arm
        self._file = pq.ParquetFile(fetch(partition, manifest, EXAMPLES, folder), pre_buffer=False)
        self._names = {*self._file.schema_arrow.names}
        self._counts = [self._count(group) for group in range(self._file.num_row_groups)]
        self.rows = sum(self._counts)

    def _count(self, group: int) -> int:
        if self._all and self._arm is None:
            return int(self._file.metadata.row_group(group).num_rows)
        return self._group(group, []).num_rows

    def _group(self, group: int, columns: Sequence[str]) -> pa.Table:
        """The selected rows of a row group."""
        needed = {*columns, "split", *((self._arm.unit, "digest") if self._arm else ())}
        table = self._file.read_row_group(group, columns=[name for name in needed if name in self._names])
        table = table if self._all else table.filter(pc.field("split") == "traffic")
        if (arm := self._arm) is None:
            return table
        mine = [is_challengers(arm.key, unit, arm.share) == arm.challenger for unit in units_of(table, arm.unit)]
        return table.filter(pa.array(mine, pa.bool_()))

    def read(self, first: int, last: int, columns: Sequence[str]) -> pa.Table:
        """Return columns of the rows from `first` to `last`, both included; only their row groups are read."""
        tables, start = [], 0
        for group, count in enumerate(self._counts):
            if start <= last and start + count > first and count:
                table = self._group(group, columns)
                low = max(0, first - start)
                tables.append(table.slice(low, min(count, last + 1 - start) - low))
            start += count
        table = pa.concat_tables(tables)
        for name in set(columns).difference(table.column_names):
            kind = EXAMPLE_SCHEMA.field(name).type  # an older partition without this column
            table = table.append_column(name, pa.nulls(table.num_rows, kind))
        return table.select(list(columns))


def units_of(rows: pa.Table, unit: Unit) -> list[str]:
    """Return the unit of each row; its digest if the column or its value is missing."""
    digests = rows["digest"].to_pylist()
    values = rows[unit].to_pylist() if unit in rows.column_names else digests
    return [value or digest for value, digest in zip(values, digests, strict=True)]


def numbers_in_arm(partition: UPath, arm: dict[str, Any], rows: Collection[int]) -> list[int]:
    """Return the numbers, among the rows of an arm, of some rows of a partition of prompts.

    :raises BadInput: the partition is damaged.
    """
    mine = Arm.model_validate(arm)
    with scratch_folder(partition.parent) as folder:
        prompts = Prompts(partition, require_manifest(partition), folder)
        units = units_of(prompts.read(0, prompts.rows - 1, sorted({mine.unit, "digest"} - {"row"})), mine.unit)
    own = (row for row, unit in enumerate(units) if is_challengers(mine.key, unit, mine.share) == mine.challenger)
    return [number for number, row in enumerate(own) if row in rows]
