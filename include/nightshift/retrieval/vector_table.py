"""The vectors of an index as a table of PostgreSQL with pgvector, which other programs may search, too. The partition stays the
source: a missing table is made from it in one transaction, and a table that was not searched for a month is dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from upath import UPath

from nightshift.data.database import database_url
from nightshift.errors import BadEnvironment, BadInput
from nightshift.retrieval.index import CHUNKS, VECTORS, read_vectors
from nightshift.storage.manifest import Manifest, digest_of
from nightshift.storage.partition import fetch

TABLES = "nightshift_indexes"  # every table of vectors, with the day on which it was last searched
UNUSED_DAYS = 31
AT_ONCE = 1_000  # passages of a statement
DROP_TIMEOUT = "5s"  # wait for a table that is being read

log = logging.getLogger(__name__)


class VectorTable:
    """The table of one index, named by its application and its digest.

    :param connection: Airflow connection of the database.
    :raises BadInput: it is not a PostgreSQL connection.
    :raises BadEnvironment: this job does not have the connection.
    """

    def __init__(self, connection: str, manifest: Manifest) -> None:
        url = database_url(connection)
        if url.get_backend_name() != "postgresql":
            raise BadInput(f"retrieval.database: {connection} is not a PostgreSQL connection")
        self._connection, self._manifest, self._application = connection, manifest, manifest.application
        size = next(file.bytes for file in manifest.files if file.name == VECTORS)
        self._dimensions = size // np.dtype(np.float16).itemsize // manifest.counts["chunks"]
        named_by = {"application": self._application, "index": manifest.digest}
        self.name = f"nightshift_{self._application[:30]}_{digest_of(named_by)[:16]}"
        self._engine = create_engine(url, poolclass=NullPool)  # an index is open for hours

    def fill(self, partition: UPath, folder: Path) -> None:
        """Make the table from the files of the index if it is missing, and drop tables that were not searched for a month.

        Vectors that the last searched table has are copied within the database.

        :raises BadInput: a file is gone or damaged, or the database refuses: pgvector or a privilege is missing.
        :raises BadEnvironment: storage or the database does not answer.
        """
        with self._alone(TABLES) as database:
            database.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
            columns = "name text PRIMARY KEY, application text, dimensions integer, used date"
            database.execute(text(f"CREATE TABLE IF NOT EXISTS {TABLES} ({columns})"))
        of_mine = {"application": self._application, "days": UNUSED_DAYS}
        with self._alone(self.name) as database:
            # A table may have been dropped, or only the list restored.
            query = (
                f"SELECT name, dimensions, used < current_date - :days FROM {TABLES} "  # noqa: S608
                "WHERE application = :application AND to_regclass(quote_ident(name)) IS NOT NULL ORDER BY used DESC"
            )
            listed = database.execute(text(query), of_mine).all()
            if self.name not in [name for name, _, _ in listed]:
                columns = "chunk bigint PRIMARY KEY, passage text NOT NULL, digest uuid NOT NULL"
                vector = f"embedding halfvec({self._dimensions}) NOT NULL"
                database.execute(text(f"CREATE TABLE {self.name} ({columns}, {vector})"))
                database.execute(text(f"CREATE INDEX ON {self.name} (digest)"))
                alike = (name for name, numbers, unused in listed if numbers == self._dimensions and not unused)
                before = next(alike, None)
                for rows in self._rows(partition, folder):
                    self._add(database, rows, before)
            query = (
                f"INSERT INTO {TABLES} VALUES (:name, :application, :dimensions, current_date) "  # noqa: S608
                "ON CONFLICT (name) DO UPDATE SET used = current_date"
            )
            database.execute(text(query), {"name": self.name, "dimensions": self._dimensions, **of_mine})
        for name, _, unused in listed:
            if unused and name != self.name:
                self._drop(name)

    def nearest(self, wanted: NDArray[np.float32], k: int) -> list[list[tuple[int, float]]]:
        """Return the numbers and cosines of the `k` nearest passages to each unit vector, best first, by an exact search.

        :raises BadEnvironment: the database does not answer.
        """
        query = (
            "WITH asked AS MATERIALIZED (SELECT number, CAST(vector AS vector) AS vector "  # noqa: S608
            "FROM unnest(CAST(:vectors AS text[])) WITH ORDINALITY AS one(vector, number)) "
            "SELECT number, chunk, score FROM asked CROSS JOIN LATERAL ("
            "SELECT chunk, -(embedding::vector <#> asked.vector) AS score "
            f"FROM {self.name} ORDER BY score DESC, chunk LIMIT :k) AS found ORDER BY number, score DESC, chunk"
        )
        rankings: list[list[tuple[int, float]]] = [[] for _ in wanted]
        with self._transaction() as database:
            for number, chunk, score in database.execute(text(query), {"vectors": _texts(wanted), "k": k}):
                rankings[number - 1].append((chunk, score))
        return rankings

    def vectors(self, chunks: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Return the vectors of passages.

        :raises BadEnvironment: the database does not answer.
        """
        query = f"SELECT chunk, embedding::vector::real[] FROM {self.name} WHERE chunk = ANY(CAST(:chunks AS bigint[]))"  # noqa: S608
        with self._transaction() as database:
            rows = database.execute(text(query), {"chunks": list(chunks)}).all()
        return {chunk: np.array(vector, np.float32) for chunk, vector in rows}

    def _rows(self, partition: UPath, folder: Path) -> Iterator[dict[str, Any]]:
        chunks, vectors = (fetch(partition, self._manifest, name, folder) for name in (CHUNKS, VECTORS))
        first = 0
        with pq.ParquetFile(chunks) as file:
            for batch in file.iter_batches(AT_ONCE, columns=["document", "begin_at", "end_at"]):
                found = read_vectors(vectors, self._dimensions, first, batch.num_rows)
                yield {
                    "chunks": list(range(first, first + batch.num_rows)),
                    "passages": [f"{one['document']}#{one['begin_at']}-{one['end_at']}" for one in batch.to_pylist()],
                    "digests": [sha256(one.tobytes()).hexdigest()[:32] for one in found],
                    "vectors": found,
                }
                first += batch.num_rows

    def _add(self, database: Connection, rows: dict[str, Any], before: str | None) -> None:
        vectors, known = rows.pop("vectors"), set()
        of_arrays = "unnest(CAST(:chunks AS bigint[]), CAST(:passages AS text[]), CAST(:digests AS uuid[])"
        if before:
            query = (
                f"INSERT INTO {self.name} SELECT new.*, old.embedding FROM {of_arrays}) AS new(chunk, passage, digest) "  # noqa: S608
                f"CROSS JOIN LATERAL (SELECT embedding FROM {before} WHERE digest = new.digest LIMIT 1) AS old RETURNING chunk"
            )
            known = set(database.execute(text(query), rows).scalars())
        new = [place for place, chunk in enumerate(rows["chunks"]) if chunk not in known]
        if new:
            sent = {name: [values[place] for place in new] for name, values in rows.items()}
            query = (
                f"INSERT INTO {self.name} SELECT chunk, passage, digest, vector::halfvec "  # noqa: S608
                f"FROM {of_arrays}, CAST(:vectors AS text[])) AS new(chunk, passage, digest, vector)"
            )
            database.execute(text(query), sent | {"vectors": _texts(vectors[new])})

    def _drop(self, name: str) -> None:
        """Drop a table, unless it was searched meanwhile, is being read, or the database refuses; the next job tries again."""
        query = f"DELETE FROM {TABLES} WHERE name = :name AND used < current_date - :days RETURNING name"  # noqa: S608
        try:
            with self._alone(name, DROP_TIMEOUT) as database:
                if database.execute(text(query), {"name": name, "days": UNUSED_DAYS}).all():
                    database.execute(text(f"DROP TABLE {name}"))
                    log.info("%s was not searched for %d days: dropped from %s", name, UNUSED_DAYS, self._connection)
        except (BadInput, BadEnvironment) as error:
            log.warning("%s was not searched for %d days, and cannot be dropped: %s", name, UNUSED_DAYS, error)

    @contextmanager
    def _alone(self, name: str, lock_timeout: str | None = None) -> Iterator[Connection]:
        """A transaction with an exclusive lock on a name."""
        with self._transaction() as database:
            if lock_timeout:
                database.execute(text(f"SET LOCAL lock_timeout = '{lock_timeout}'"))
            database.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": name})
            yield database

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as database:
                yield database
        except SQLAlchemyError as error:
            said = f"retrieval.database: {self._connection}: {getattr(error, 'orig', None) or error}"
            if isinstance(error, OperationalError | InterfaceError):
                raise BadEnvironment(said) from error
            raise BadInput(said) from error


def _texts(vectors: np.ndarray[Any, Any]) -> list[str]:
    """Vectors in pgvector's format, without rounding."""
    return [f"[{','.join(map(repr, vector))}]" for vector in vectors.astype(np.float32).astype(np.float64).tolist()]
