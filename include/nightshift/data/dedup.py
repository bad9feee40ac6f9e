"""Exact and near duplicates over any number of rows: MinHash signatures, LSH bands, groups that share a split.

Two prompts are similar when their signatures agree: the share of equal values estimates the Jaccard similarity of
their five-character pieces. Only rows that share a band are compared, and of those each with two others: with the
first row of the band, and with its neighbour in a finer order. So the work grows with the rows, not with their
square; bands and signatures lie on disk, and what stays in memory is a few numbers a row.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rensa import RMinHash

SHINGLE = 5  # characters
VALUES = 125  # in a signature: an estimate of 0.9 is right within 0.05 (two standard deviations)
BAND = 5  # values; 25 bands find a pair of similarity 0.6 with 87 %, of 0.7 with 99 %
BANDS = VALUES // BAND
SEED = 7
SIMILAR = 0.6  # rows at least this similar share a split
BANDS_AT_ONCE = 5  # in one query: each takes memory by the rows, and each query some milliseconds
PAIRS_AT_ONCE = 10_000
MEMORY_LIMIT = "256MB"

BAND_SCHEMA = pa.schema([("row", pa.int64()), *((f"b{band}", pa.uint64()) for band in range(BANDS))])
Signatures = npt.NDArray[np.uint32]


def signatures(texts: list[str]) -> Signatures:
    """Return the MinHash signatures of texts, shape (texts, VALUES); letter case and white space do not count."""
    plain = [" ".join(text.lower().split()).ljust(SHINGLE) for text in texts]
    lengths = np.array([len(text) for text in plain])
    codes = np.frombuffer("".join(plain).encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    count = len(codes) - SHINGLE + 1
    pieces = np.zeros(count, dtype=np.uint64)
    for offset in range(SHINGLE):
        pieces = pieces * np.uint64(0x9E3779B97F4A7C15) + codes[offset : offset + count] + np.uint64(1)
        pieces ^= pieces >> np.uint64(29)
    # A piece that begins in the last four characters of a text reaches into the next one.
    inside = np.ones(len(codes), dtype=bool)
    ends = np.cumsum(lengths)
    for offset in range(1, SHINGLE):
        inside[ends - offset] = False
    offsets = np.concatenate([[0], np.cumsum(lengths - SHINGLE + 1)]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(pieces[inside[:count]], offsets, VALUES, SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(texts), VALUES)


class SimilarityIndex:
    """Files in `folder` with the signatures and bands of rows, which are added in order and counted from 0."""

    def __init__(self, folder: Path) -> None:
        self.rows = 0
        self._signature_file = folder / "signatures.bin"
        self._band_file = folder / "bands.parquet"
        self._signatures = self._signature_file.open("wb")
        self._bands = pq.ParquetWriter(self._band_file, BAND_SCHEMA, compression="none", use_dictionary=False)

    def add(self, prompts: list[str], answers: list[str]) -> None:
        """Add one row for each prompt, with its answer (any text that is equal where answers are)."""
        values = signatures(prompts)
        same = [hashlib.sha256(answer.encode()).digest()[:8] for answer in answers]
        answer_values = np.frombuffer(b"".join(same), dtype=np.uint32).reshape(len(answers), 2)
        self._signatures.write(np.hstack([values, answer_values]).tobytes())
        keys = np.zeros((len(prompts), BANDS), dtype=np.uint64)
        for position in range(BAND):
            keys = keys * np.uint64(0xD6E8FEB86659FD93) + values[:, position::BAND].astype(np.uint64) + np.uint64(1)
            keys ^= keys >> np.uint64(32)
        rows = np.arange(self.rows, self.rows + len(prompts))
        self._bands.write_table(pa.table([rows, *keys.T], schema=BAND_SCHEMA))
        self.rows += len(prompts)

    def close(self) -> None:
        """Finish the files; no row can be added after that."""
        self._signatures.close()
        self._bands.close()

    def similar_pairs(self, database: duckdb.DuckDBPyConnection) -> Iterator[tuple[int, int, float, bool]]:
        """Yield (earlier row, later row, similarity, whether the answers are equal) of similar rows.

        Rows whose `fate` in the table `fates` is not `kept` are left out.
        """
        if self.rows < 2:
            return
        database.execute("CREATE TABLE pairs (earlier BIGINT, later BIGINT)")
        for start in range(0, BANDS, BANDS_AT_ONCE):
            bands = range(start, start + BANDS_AT_ONCE)
            keys, finer = (", ".join(f"b{(band + shift) % BANDS}" for band in bands) for shift in (0, 1))
            database.execute(
                f"""
                INSERT INTO pairs
                WITH candidates AS (
                    SELECT row, unnest([{keys}]) AS key, unnest([{finer}]) AS finer FROM read_parquet(?)
                    SEMI JOIN (FROM fates WHERE fate = 'kept') USING (row)
                ), shared AS (
                    FROM candidates SEMI JOIN (SELECT key FROM candidates GROUP BY key HAVING count(*) > 1) USING (key)
                ), compared AS (
                    SELECT row, unnest([
                        min(row) OVER (PARTITION BY key), lag(row) OVER (PARTITION BY key ORDER BY finer, row)
                    ]) AS other FROM shared
                )
                SELECT DISTINCT least(row, other), greatest(row, other) FROM compared WHERE row <> other
                """,  # noqa: S608
                [str(self._band_file)],
            )
        database.execute("SELECT DISTINCT earlier, later FROM pairs ORDER BY ALL")
        with self._signature_file.open("rb") as file:
            while pairs := database.fetchmany(PAIRS_AT_ONCE):
                earlier, later = zip(*pairs, strict=True)
                equal = _read_rows(file, earlier) == _read_rows(file, later)
                similarity, same = equal[:, :VALUES].mean(axis=1), equal[:, VALUES:].all(axis=1)
                for index in np.nonzero(similarity >= SIMILAR)[0]:
                    yield earlier[index], later[index], float(similarity[index]), bool(same[index])


def _read_rows(file: BinaryIO, rows: tuple[int, ...]) -> Signatures:
    """The signatures (with the answers' values) of rows, read one by one: a mapped file would fill the memory."""
    size = 4 * (VALUES + 2)
    wanted, places = np.unique(rows, return_inverse=True)
    content = b"".join(os.pread(file.fileno(), size, size * row) for row in wanted.tolist())
    return np.frombuffer(content, dtype=np.uint32).reshape(-1, VALUES + 2)[places]


def connect(folder: Path) -> duckdb.DuckDBPyConnection:
    """Return an empty database that spills to `folder` when its tables outgrow 256 MB."""
    database = duckdb.connect()
    database.execute("SET enable_progress_bar = false")  # it would draw on stdout, whoever reads that
    database.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
    database.execute("SET temp_directory = ?", [str(folder / "spill")])
    return database


def decide_fates(
    staged: Path, index: SimilarityIndex, near_duplicates: float, database: duckdb.DuckDBPyConnection
) -> None:
    """Make the table `fates` (row, fate, group): what happens to each staged row, and which rows share a split.

    Fates are `kept`, `duplicate` (an earlier row holds the same conversation), `duplicate_id` (an earlier row of the
    source has the same id and says something else) and `near_duplicate` (an earlier row has nearly the same prompt,
    at least `near_duplicates` similar, and the same answer). The group is the smallest digest of the kept rows that
    are similar to each other, directly or through others.
    """
    database.execute(
        """
        CREATE TABLE fates AS
        WITH numbered AS (
            SELECT row, digest, source_name, id, row_number() OVER (PARTITION BY digest ORDER BY row) AS copy
            FROM read_parquet(?)
        ), identified AS (
            SELECT row, row_number() OVER (PARTITION BY source_name, id ORDER BY row) AS version
            FROM numbered WHERE copy = 1 AND id IS NOT NULL
        )
        SELECT row, digest, CASE WHEN copy > 1 THEN 'duplicate' WHEN version > 1 THEN 'duplicate_id' ELSE 'kept' END AS fate
        FROM numbered LEFT JOIN identified USING (row)
        """,
        [str(staged)],
    )
    removed = bytearray(index.rows)
    first = array("q", range(index.rows))  # of the rows that are similar to it, as far as known
    for earlier, later, similarity, same_answer in index.similar_pairs(database):
        if similarity >= near_duplicates and same_answer:
            removed[later] = 1
        _join(first, earlier, later)
    roots = np.frombuffer(first, dtype=np.int64)
    for row in np.nonzero(roots != np.arange(index.rows))[0].tolist():
        first[row] = _root(first, row)
    linked = pa.table({"row": np.arange(index.rows), "root": roots, "removed": np.frombuffer(removed, dtype=np.uint8)})
    database.register("linked", linked)
    database.execute(
        """
        CREATE OR REPLACE TABLE fates AS
        WITH decided AS (
            SELECT row, digest, root, CASE WHEN removed = 1 THEN 'near_duplicate' ELSE fate END AS fate
            FROM fates JOIN linked USING (row)
        ), groups AS (
            SELECT root, min(digest) AS smallest FROM decided WHERE fate = 'kept' GROUP BY root HAVING count(*) > 1
        )
        SELECT row, fate, coalesce(smallest, digest) AS "group" FROM decided LEFT JOIN groups USING (root) ORDER BY row
        """
    )
    database.unregister("linked")


def decide_traffic_fates(staged: Path, database: duckdb.DuckDBPyConnection) -> None:
    """Make the table `fates` (row, fate, group) of production traffic, which repeats itself: equal rows are all kept.

    Only an id that an earlier row of the source has tells that a row is no request of its own: with the same content
    it is a `duplicate`, with other content a `duplicate_id`. The group is the row's own digest.
    """
    database.execute(
        """
        CREATE TABLE fates AS
        WITH numbered AS (
            SELECT row, digest, id, source_name,
                   sha256(to_json({digest: digest, response: response, context: context})) AS content
            FROM read_parquet(?)
        )
        SELECT row, CASE WHEN id IS NULL OR row_number() OVER same = 1 THEN 'kept'
                         WHEN content = first_value(content) OVER same THEN 'duplicate'
                         ELSE 'duplicate_id' END AS fate, digest AS "group"
        FROM numbered WINDOW same AS (PARTITION BY source_name, id ORDER BY row) ORDER BY row
        """,
        [str(staged)],
    )


def _join(first: array[int], one: int, other: int) -> None:
    one, other = _root(first, one), _root(first, other)
    first[max(one, other)] = min(one, other)


def _root(first: array[int], row: int) -> int:
    while first[row] != row:
        first[row] = first[first[row]]
        row = first[row]
    return row
