"""The prompts of a night: which rows of a partition they are, read part by part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.examples import EXAMPLE_SCHEMA, EXAMPLES
from nightshift.errors import BadInput
from nightshift.storage.partition import Manifest, fetch


class Prompts:
    """The rows of a traffic partition, or those of an examples partition with the split `traffic`, numbered from 0.

    :param folder: for a local copy of the partition's file.
    :raises BadInput: the partition is of another kind, or its file is gone or damaged.
    """

    def __init__(self, partition: UPath, manifest: Manifest, folder: Path) -> None:
        if manifest.kind not in {"examples", "traffic"}:
            raise BadInput(f"{partition} holds {manifest.kind}; prompts are read from examples or traffic")
        self._all = manifest.kind == "traffic"
        self._file = pq.ParquetFile(fetch(partition, manifest, EXAMPLES, folder), pre_buffer=False)
        self._counts = [self._count(group) for group in range(self._file.num_row_groups)]
        self.rows = sum(self._counts)

    def _count(self, group: int) -> int:
        if self._all:
            return int(self._file.metadata.row_group(group).num_rows)
        splits = self._file.read_row_group(group, columns=["split"])["split"]
        return int(pc.sum(pc.equal(splits, "traffic")).as_py() or 0)

    def read(self, first: int, last: int, columns: Sequence[str]) -> pa.Table:
        """Return columns of the rows from `first` to `last`, both included; only their row groups are read."""
        tables, start = [], 0
        for group, count in enumerate(self._counts):
            if start <= last and start + count > first and count:
                table = self._file.read_row_group(group, columns=list({*columns, "split"}))
                table = table if self._all else table.filter(pc.field("split") == "traffic")
                low = max(0, first - start)
                tables.append(table.slice(low, min(count, last + 1 - start) - low))
            start += count
        table = pa.concat_tables(tables)
        for name in set(columns).difference(table.column_names):
            kind = EXAMPLE_SCHEMA.field(name).type  # of a partition from before there was such a column
            table = table.append_column(name, pa.nulls(table.num_rows, kind))
        return table.select(list(columns))
