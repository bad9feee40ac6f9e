"""An index as a partition, addressed by its documents and settings; and indexes of the same documents by other settings."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from upath import UPath

from nightshift.errors import BadInput
from nightshift.retrieval.documents import Document
from nightshift.retrieval.embeddings import embedder_of, made_by
from nightshift.retrieval.index import AT_ONCE, CHUNKS, DOCUMENTS, QUARANTINE, VECTORS, Staged, build, stage
from nightshift.retrieval.kept_vectors import KeptVectors
from nightshift.retrieval.newest import INDEXES, last_read, mark_used, newest_index
from nightshift.settings.pinned_index import PinnedIndex
from nightshift.settings.retrieval import Embedder, Retrieval
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, digest_of, require_manifest
from nightshift.storage.partition import fetch, find, partition_of, publish

log = logging.getLogger(__name__)


def inputs_of(documents: str, settings: Retrieval) -> dict[str, Any]:
    """Return what determines an index of documents (a digest): all settings except `search` and `k`.

    :raises BadInput: a model is missing or unusable.
    :raises BadEnvironment: a model cannot be fetched.
    """
    inputs: dict[str, Any] = {"documents": documents, "chunk": settings.chunk.model_dump(mode="json")}
    inputs |= {"embedder": made_by(settings.embedder), "format": 2}
    if settings.reranker:
        from nightshift.retrieval.sentence_model import reranker_identity

        inputs["reranker"] = reranker_identity(settings.reranker)
    return inputs


def place_of(application: str, storage: str, documents: str, settings: Retrieval) -> tuple[UPath, dict[str, Any]]:
    """Return the address of an index of documents, and its inputs from :func:`inputs_of`."""
    inputs = inputs_of(documents, settings)
    return partition_of(storage, application, INDEXES, digest_of(inputs)[:16]), inputs


def make(
    application: str,
    partition: UPath,
    inputs: Mapping[str, Any],
    staged: Staged,
    settings: Retrieval,
    *,
    work: Path,
    before: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    endpoints: Sequence[Embedder] = (),
) -> Manifest:
    """Publish the index of documents. It records where its models are, but that is not part of its address.

    :param work: an empty folder for temporary files.
    :param before: files of an index of the same settings, whose vectors of unchanged documents are reused.
    :param endpoints: of the application's file.
    :raises BadInput: an endpoint embeds no passage at all.
    """
    made = work / "index"
    made.mkdir()
    home, identity = partition.parent.parent, inputs["embedder"]
    kept = KeptVectors(home, digest_of(_of_vectors(inputs))[:16], work) if "url" in identity else None
    embedder = embedder_of(identity, home, endpoints, kept, [settings.embedder.model])
    counts = build(staged, settings.chunk, embedder, made, work, before=before)
    if kept and not counts.embedded:
        raise BadInput(f"{identity['url']} refuses every passage; see the log")
    manifest = publish(
        partition,
        made,
        kind="index",
        application=application,
        inputs=inputs,
        rows={DOCUMENTS: staged.documents, CHUNKS: counts.chunks},
        counts={
            "documents": staged.documents, "chunks": counts.chunks, "near_duplicates": counts.near_duplicates,
            "quarantined": sum(staged.refused.values()),
        },
        facts={
            "unchanged": counts.unchanged, "removed": counts.removed, "models": settings.models, **(facts or {}),
        },
    )  # fmt: skip
    if kept:
        kept.drop()
    return manifest


def newest_files(application: str, storage: str, inputs: Mapping[str, Any], folder: Path) -> Path | None:
    """Return the files of the newest index; None if it was made with other settings."""
    newest = newest_index(storage, application)
    if newest is None:
        return None
    partition = UPath(newest.uri)
    try:
        return _with_vectors_of(inputs, partition, require_manifest(partition, newest.digest), folder)
    except BadInput as error:
        log.warning("all documents are embedded again: %s", error)
        return None


def _with_vectors_of(inputs: Mapping[str, Any], partition: UPath, manifest: Manifest, folder: Path) -> Path | None:
    if _of_vectors(manifest.inputs) != _of_vectors(inputs):
        return None
    fetch(partition, manifest, VECTORS, folder)
    return fetch(partition, manifest, DOCUMENTS, folder).parent


def _of_vectors(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs that determine the vector of a document: without the other documents and the reranker."""
    return {**inputs, **dict.fromkeys(("documents", "reranker"))}


def index_by(
    settings: Retrieval,
    index: PinnedIndex,
    application: str,
    storage: str,
    endpoints: Sequence[Embedder] = (),
) -> PinnedIndex:
    """Return an index of another index's documents by other settings, published now or found.

    It equals the one that the job `index` makes of these documents and settings. It is not named as the newest.

    :param endpoints: of the application's file.
    :raises BadInput: the other index is gone or damaged, or a model cannot be used.
    :raises BadEnvironment: a model cannot be fetched.
    """
    source, before = UPath(index.uri), require_manifest(UPath(index.uri), index.digest)
    pinned = index.model_copy(update={"search": settings.search, "k": settings.k})
    partition, inputs = place_of(application, storage, before.inputs["documents"], settings)
    if before.inputs == inputs:
        return pinned
    mark_used(partition)
    if (manifest := find(partition, inputs)) is None:
        with scratch_folder(UPath(storage)) as work:
            staged = _staged_again(source, before, work)
            read, _ = last_read(storage, application, before)
            manifest = make(
                application, partition, inputs, staged, settings, work=work, facts={"read": read.isoformat()},
                endpoints=endpoints,
                before=_with_vectors_of(inputs, source, before, work / "before"),
            )  # fmt: skip
    return pinned.model_copy(update={"uri": str(partition), "digest": manifest.digest})


def _staged_again(source: UPath, manifest: Manifest, work: Path) -> Staged:
    """The documents of an index, and the rejected ones."""
    staged = stage(_documents(fetch(source, manifest, CHUNKS, work / "before")), work / "staged")
    shutil.copy(fetch(source, manifest, QUARANTINE, work / "before"), staged.quarantine)
    reasons = pq.read_table(staged.quarantine, columns=["reason"])["reason"].value_counts().to_pylist()
    refused = Counter({one["values"]: one["counts"] for one in reasons})
    return replace(staged, digest=manifest.inputs["documents"], refused=refused)


def _documents(file: Path) -> Iterator[Document]:
    """Documents rebuilt from their passages, which overlap and cover all of the text."""
    with pq.ParquetFile(file) as chunks:
        rows = (row for batch in chunks.iter_batches(AT_ONCE) for row in batch.to_pylist())
        for (name, title), passages in groupby(rows, lambda row: (row["document"], row["title"])):
            parts, end = [], 0
            for passage in passages:
                parts.append(passage["text"][end - passage["begin_at"] :])
                end = passage["end_at"]
            yield Document(name, title, "".join(parts))
