"""Equal rows of an interval: which of them are kept. What is nearly equal, `sides` decides with the split."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt

KEPT, DUPLICATE, DUPLICATE_ID, NEAR_DUPLICATE = range(4)


def decide_fates(staged: Path, database: duckdb.DuckDBPyConnection) -> npt.NDArray[np.uint8]:
    """Return what happens to each staged row, in order.

    Of equal conversations the first is KEPT and the others are DUPLICATE. DUPLICATE_ID is a row with the id of an earlier
    row of its source that says something else.
    """
    return _fates(
        """
        WITH numbered AS (
            SELECT row, digest, source_name, id, row_number() OVER (PARTITION BY digest ORDER BY row) AS copy
            FROM read_parquet(?)
        ), identified AS (
            SELECT row, row_number() OVER (PARTITION BY source_name, id ORDER BY row) AS version
            FROM numbered WHERE copy = 1 AND id IS NOT NULL
        )
        SELECT row, CASE WHEN copy > 1 THEN 1 WHEN version > 1 THEN 2 ELSE 0 END::UTINYINT AS fate
        FROM numbered LEFT JOIN identified USING (row) ORDER BY row
        """,
        staged,
        database,
    )


def decide_traffic_fates(staged: Path, database: duckdb.DuckDBPyConnection) -> npt.NDArray[np.uint8]:
    """The same for production traffic, which repeats itself: equal rows are all kept.

    Only an id that an earlier row of the source has tells that a row is no request of its own: with the same content
    it is a DUPLICATE, with other content a DUPLICATE_ID.
    """
    return _fates(
        """
        WITH numbered AS (
            SELECT row, id, source_name, sha256(to_json({digest: digest, response: response, context: context})) AS content
            FROM read_parquet(?)
        )
        SELECT row, CASE WHEN id IS NULL OR row_number() OVER same = 1 THEN 0
                         WHEN content = first_value(content) OVER same THEN 1
                         ELSE 2 END::UTINYINT AS fate
        FROM numbered WINDOW same AS (PARTITION BY source_name, id ORDER BY row) ORDER BY row
        """,
        staged,
        database,
    )


def _fates(query: str, staged: Path, database: duckdb.DuckDBPyConnection) -> npt.NDArray[np.uint8]:
    found = database.execute(query, [str(staged)]).fetchnumpy()["fate"]
    return np.array(found, dtype=np.uint8)
