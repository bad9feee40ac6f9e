"""Reads rows of a partition for an erasure: in batches, and by their numbers among prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.examples import EXAMPLES, ROWS_AT_ONCE
from nightshift.errors import BadInput
from nightshift.storage.manifest import Manifest

Hits = Callable[[pa.RecordBatch], pa.Array]  # a mask of the rows of a batch that match


def batches(partition: UPath, manifest: Manifest, name: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield those of the columns that a file has, 5,000 rows at a time.

    :raises BadInput: the file is missing or damaged.
    """
    path = partition / manifest.file(name).path
    try:
        with path.open("rb") as opened, pq.ParquetFile(opened, pre_buffer=False) as file:
            known = [column for column in columns if column in file.schema_arrow.names]
            yield from file.iter_batches(ROWS_AT_ONCE, columns=known)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise BadInput(
            f"{path} cannot be read, so its rows cannot be searched: {error}. Restore it from a backup, or "
            f"delete {partition}"
        ) from error


def numbers_of(partition: UPath, manifest: Manifest, places: list[int]) -> list[int]:
    """The numbers of rows among the prompts of a partition; in examples only rows of the split `traffic` are prompts."""
    if manifest.kind != "examples":
        return places
    numbers: list[int] = []
    indices, begin, before = np.array(places), 0, 0
    for batch in batches(partition, manifest, EXAMPLES, ["split"]):
        asked = np.asarray(pc.equal(batch["split"], "traffic"))
        here = indices[(indices >= begin) & (indices < begin + len(asked))] - begin
        numbers += (np.cumsum(asked)[here[asked[here]]] - 1 + before).tolist()
        begin, before = begin + len(asked), before + int(asked.sum())
    return numbers


def numbered(numbers: list[int]) -> Hits:
    """Return a mask function for rows with these numbers."""
    return lambda batch: pc.is_in(batch["row"], value_set=pa.array(numbers, pa.int64()))
