"""Near-duplicate documents by MinHash over character 5-grams (data/similarity.py)."""

from __future__ import annotations

from itertools import groupby, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.data.similarity import SimilarRows

NEAR = 0.8  # estimated Jaccard similarity; its standard error is 0.036
AT_ONCE = 10_000
SCHEMA = pa.schema([("row", pa.int64()), ("near", pa.int64())])


def write_near_duplicates(documents: SimilarRows, path: Path) -> int:
    """Write which rows are near-duplicates, each with the first row that it is similar to; return how many."""
    pairs = ((later, earlier) for earlier, later, similarity, _ in documents.pairs() if similarity >= NEAR)
    firsts = ((later, min(earlier for _, earlier in some)) for later, some in groupby(pairs, lambda pair: pair[0]))
    count = 0
    with pq.ParquetWriter(path, SCHEMA) as file:
        while rows := list(islice(firsts, AT_ONCE)):
            file.write_table(pa.table([list(column) for column in zip(*rows, strict=True)], schema=SCHEMA))
            count += len(rows)
    return count
