"""Builds the files of an index from documents: passages, postings with their BM25 scores, and vectors.

Everything is ordered by the documents' ids, and depends only on the documents and the settings: an index that reuses vectors
of an earlier one is equal to one that was built from scratch, byte by byte. Rows are streamed, and sorting spills to disk, so
that memory is bounded.

BM25 as in Lucene (Robertson and Zaragoza 2009; k1 = 1.2, b = 0.75): each posting holds its word's contribution to the score of
a passage.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.data.pieces import in_pieces
from nightshift.data.shared_text import SharedText
from nightshift.data.similarity import SimilarRows, connect, plain
from nightshift.data.words import words
from nightshift.retrieval.chunks import chunks
from nightshift.retrieval.documents import Document, Refused
from nightshift.retrieval.embeddings import TextEmbedder
from nightshift.retrieval.near_duplicates import write_near_duplicates
from nightshift.settings.retrieval import Chunk

DOCUMENTS, CHUNKS, POSTINGS, VECTORS = "documents.parquet", "chunks.parquet", "postings.parquet", "vectors.float16"
QUARANTINE = "quarantine.parquet"
K1, B = 1.2, 0.75
AT_ONCE = 500  # documents that are read together
POSTINGS_AT_ONCE = 1 << 15  # of a row group: what a question's words read
TEXT = pa.string()
STAGED_SCHEMA = pa.schema([("position", pa.int64()), ("id", TEXT), ("title", TEXT), ("text", TEXT), ("digest", TEXT)])
CUT_SCHEMA = pa.schema([("id", TEXT), ("title", TEXT), ("digest", TEXT), ("first", pa.int64()), ("chunks", pa.int64())])
# Null: no earlier document, in order of ids, is a near-duplicate.
DOCUMENT_SCHEMA = CUT_SCHEMA.append(pa.field("near_duplicate_of", TEXT))
CHUNK_SCHEMA = pa.schema(
    [
        ("chunk", pa.int64()),
        ("document", TEXT),
        ("title", TEXT),
        ("begin_at", pa.int64()),
        ("end_at", pa.int64()),
        ("text", TEXT),
    ]
)
TERM_SCHEMA = pa.schema([("chunk", pa.int64()), ("term", TEXT), ("count", pa.int32()), ("length", pa.int32())])
REFUSED_SCHEMA = pa.schema([("place", TEXT), ("reason", TEXT)])
FIRST_OF_ITS_ID = "SELECT * FROM read_parquet(?) QUALIFY row_number() OVER (PARTITION BY id ORDER BY position) = 1"
LATER_OF_ITS_ID = "SELECT id FROM read_parquet(?) QUALIFY row_number() OVER (PARTITION BY id ORDER BY position) > 1"


@dataclass(frozen=True, slots=True)
class Staged:
    """Documents in a local file. `digest` covers all of them, and the rejected ones."""

    path: Path
    quarantine: Path
    documents: int
    refused: Counter[str]
    digest: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of an index, also compared with the one before.

    :param embedded: at least one passage has a vector.
    """

    chunks: int
    embedded: bool
    near_duplicates: int
    unchanged: int
    removed: int


def stage(found: Iterable[Document | Refused], folder: Path) -> Staged:
    """Write documents to `folder`. Of several with the same id the first is kept, the others are rejected."""
    folder.mkdir()
    path, quarantine = folder / "staged.parquet", folder / QUARANTINE
    refused, digest, position = Counter[str](), hashlib.sha256(), 0

    def refuse(rows: list[Refused]) -> None:
        for one in rows:
            digest.update(f"{one.place}\0{one.reason}\0".encode())
            refused[one.reason] += 1
        set_aside.write_table(_table([(one.place, one.reason) for one in rows], REFUSED_SCHEMA))

    with ExitStack() as open_files:
        staged = open_files.enter_context(pq.ParquetWriter(path, STAGED_SCHEMA))
        set_aside = open_files.enter_context(pq.ParquetWriter(quarantine, REFUSED_SCHEMA))
        for piece in in_pieces(found, lambda one: len(one.text) if isinstance(one, Document) else 0):
            kept = [one for one in piece if isinstance(one, Document)]
            rows = [(position + at, one.id, one.title, one.text, _digest(one)) for at, one in enumerate(kept)]
            staged.write_table(_table(rows, STAGED_SCHEMA))
            refuse([one for one in piece if isinstance(one, Refused)])
            position += len(kept)
        staged.close()
        database = open_files.enter_context(connect(folder))
        for batch in _batches(database, f"{LATER_OF_ITS_ID} ORDER BY id, position", [str(path)]):
            refuse([Refused(row["id"], "duplicate_id") for row in batch.to_pylist()])
        documents = 0
        for batch in _batches(database, f"SELECT id, digest FROM ({FIRST_OF_ITS_ID}) ORDER BY id", [str(path)]):  # noqa: S608
            documents += batch.num_rows
            for row in batch.to_pylist():
                digest.update(f"{row['id']}\0{row['digest']}\0".encode())
    return Staged(path, quarantine, documents, refused, digest.hexdigest())


def build(
    staged: Staged,
    settings: Chunk,
    embedder: TextEmbedder,
    folder: Path,
    scratch: Path,
    *,
    before: Path | None = None,
) -> Counts:
    """Write the files of an index of the documents to `folder`.

    :param before: folder with an index of the same settings, whose vectors of unchanged documents are reused.
    """
    count = unchanged = lengths = 0
    embedded = False
    terms, cut_documents = scratch / "terms.parquet", scratch / "documents.parquet"
    with ExitStack() as open_files:
        database = open_files.enter_context(connect(scratch))
        writers = [
            open_files.enter_context(pq.ParquetWriter(path, schema, compression="zstd"))
            for path, schema in (
                (cut_documents, CUT_SCHEMA),
                (folder / CHUNKS, CHUNK_SCHEMA),
                (terms, TERM_SCHEMA),
            )
        ]
        vectors = open_files.enter_context((folder / VECTORS).open("wb"))
        similar = SimilarRows(scratch / "similar", SharedText())
        open_files.callback(similar.release)
        documents = (row for batch in _in_order(database, staged, before) for row in batch.to_pylist())
        for piece in in_pieces(documents, lambda row: len(row["text"])):
            similar.add([plain(row["text"]) for row in piece], [""] * len(piece))
            cut = _Piece(count)
            for row in piece:
                cut.add(row, settings)
            for writer, rows in zip(writers, (cut.documents, cut.chunks, cut.terms), strict=True):
                writer.write_table(_table(rows, writer.schema))
            found = cut.vectors(embedder, before)
            vectors.write(found.tobytes())
            embedded |= bool(found.any())
            count, unchanged, lengths = count + len(cut.chunks), unchanged + cut.unchanged, lengths + cut.words
        for writer in writers:
            writer.close()
        similar.close()
        near = write_near_duplicates(similar, scratch / "near_duplicates.parquet")
        _write_documents(database, cut_documents, scratch / "near_duplicates.parquet", folder / DOCUMENTS)
        _write_postings(database, terms, count, lengths / max(count, 1), folder / POSTINGS)
        removed = 0
        if before:
            query = "SELECT count(*) FROM read_parquet(?) WHERE id NOT IN (SELECT id FROM read_parquet(?))"
            found = database.execute(query, [str(before / DOCUMENTS), str(folder / DOCUMENTS)]).fetchone()
            removed = found[0] if found else 0
    staged.quarantine.rename(folder / QUARANTINE)
    return Counts(count, embedded, near, unchanged, removed)


def read_vectors(path: Path, dimensions: int, first: int, count: int) -> npt.NDArray[np.float16]:
    """Read vectors of passages, shape (count, dimensions); a mapped file would count as used memory."""
    size = dimensions * np.dtype(np.float16).itemsize
    return np.fromfile(path, np.float16, count * dimensions, offset=first * size).reshape(count, dimensions)


class _Piece:
    """Some documents split into passages, which are numbered from `first`."""

    def __init__(self, first: int) -> None:
        self._first = first
        self.documents: list[tuple[Any, ...]] = []
        self.chunks: list[tuple[Any, ...]] = []
        self.terms: list[tuple[Any, ...]] = []
        self.unchanged = self.words = 0
        self._known: list[tuple[int, int, int]] = []  # place in the piece, place in the index before, how many

    def add(self, row: dict[str, Any], settings: Chunk) -> None:
        place = len(self.chunks)
        for begin, end in chunks(row["text"], settings):
            number, text = self._first + len(self.chunks), row["text"][begin:end]
            self.chunks.append((number, row["id"], row["title"], begin, end, text))
            found = words(searched(row["title"], text))
            self.words += len(found)
            self.terms += [(number, term, times, len(found)) for term, times in Counter(found).items()]
        count = len(self.chunks) - place
        self.documents.append((row["id"], row["title"], row["digest"], self._first + place, count))
        if row["known"] is not None:
            self.unchanged += 1
            self._known.append((place, row["known"], count))

    def vectors(self, embedder: TextEmbedder, before: Path | None) -> npt.NDArray[np.float16]:
        vectors = np.empty((len(self.chunks), embedder.dimensions), np.float16)
        new = np.ones(len(self.chunks), bool)
        if before:
            for place, known, count in self._known:
                vectors[place : place + count] = read_vectors(before / VECTORS, embedder.dimensions, known, count)
                new[place : place + count] = False
        texts = [searched(chunk[2], chunk[5]) for chunk, one in zip(self.chunks, new, strict=True) if one]
        vectors[new] = embedder.embed(texts)
        return vectors


def searched(title: str, text: str) -> str:
    return f"{title}\n{text}" if title else text


def _digest(document: Document) -> str:
    return hashlib.sha256(f"{document.title}\0{document.text}".encode()).hexdigest()


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    return pa.table([list(column) for column in zip(*rows, strict=True)] or [[] for _ in schema], schema=schema)


def _batches(
    database: duckdb.DuckDBPyConnection, query: str, parameters: list[str], rows: int = AT_ONCE
) -> Iterator[pa.RecordBatch]:
    """The rows of an ordered query in batches, which are the same for the same rows."""
    held: list[pa.RecordBatch] = []
    for batch in database.sql(query, params=parameters).to_arrow_reader(rows):
        held.append(batch)
        if sum(one.num_rows for one in held) >= rows:
            table = pa.Table.from_batches(held).combine_chunks()
            whole = table.num_rows // rows * rows
            for start in range(0, whole, rows):
                yield from table.slice(start, rows).to_batches()
            held = table.slice(whole).to_batches()
    yield from pa.Table.from_batches(held).combine_chunks().to_batches() if held else ()


def _in_order(database: duckdb.DuckDBPyConnection, staged: Staged, before: Path | None) -> Iterator[pa.RecordBatch]:
    """The documents by id, each with the start of its vectors in the index before; None: it is new or has changed."""
    query, parameters = f"SELECT *, NULL AS known FROM ({FIRST_OF_ITS_ID}) ORDER BY id", [str(staged.path)]  # noqa: S608
    if before:
        query = (
            f"SELECT now.*, before.first AS known FROM ({FIRST_OF_ITS_ID}) now "  # noqa: S608
            "LEFT JOIN read_parquet(?) before ON now.id = before.id AND now.digest = before.digest ORDER BY now.id"
        )
        parameters.append(str(before / DOCUMENTS))
    return _batches(database, query, parameters)


def _write_documents(database: duckdb.DuckDBPyConnection, documents: Path, near_duplicates: Path, path: Path) -> None:
    query = """
        WITH documents AS (FROM read_parquet(?, file_row_number = true))
        SELECT documents.* EXCLUDE file_row_number, earlier.id AS near_duplicate_of
        FROM documents LEFT JOIN read_parquet(?) found ON found.row = documents.file_row_number
        LEFT JOIN documents earlier ON earlier.file_row_number = found.near ORDER BY documents.id
    """
    with pq.ParquetWriter(path, DOCUMENT_SCHEMA, compression="zstd") as file:
        for batch in _batches(database, query, [str(documents), str(near_duplicates)], POSTINGS_AT_ONCE):
            file.write_table(pa.Table.from_batches([batch]).cast(DOCUMENT_SCHEMA))


def _write_postings(database: duckdb.DuckDBPyConnection, terms: Path, count: int, average: float, path: Path) -> None:
    query = """
        WITH terms AS (FROM read_parquet(?)),
        found AS (SELECT term, count(*) AS passages FROM terms GROUP BY term)
        SELECT term, chunk, (ln(1 + (? - passages + 0.5) / (passages + 0.5)) * count * (? + 1)
               / (count + ? * (1 - ? + ? * length / ?)))::FLOAT AS score
        FROM terms JOIN found USING (term) ORDER BY term, chunk
    """
    parameters: list[Any] = [str(terms), count, K1, K1, B, B, average]
    schema = pa.schema([("term", TEXT), ("chunk", pa.int64()), ("score", pa.float32())])
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        for batch in _batches(database, query, parameters, POSTINGS_AT_ONCE):
            file.write_table(pa.Table.from_batches([batch]).cast(schema))
