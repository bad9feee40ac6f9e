"""The job `index`: read an application's documents and index their passages; only changed documents are embedded again."""

from __future__ import annotations

import logging
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import Field
from upath import UPath

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from nightshift.retrieval.index import Staged
    from nightshift.settings.retrieval import Retrieval
    from nightshift.storage.manifest import Manifest

log = logging.getLogger(__name__)


class Spec(JobSpec):
    """The application says all."""


class Result(JobResult):
    """Where the index is, or why there is none. Rows and files that were read = documents + quarantined."""

    verdict: Verdict
    reason: str
    index: str | None = None
    digest: str | None = None
    documents: int = 0
    near_duplicates: int = Field(0, description="documents that say nearly what an earlier one says")
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    quarantined: dict[str, int] = Field({}, description="by reason")


def run(spec: Spec, progress: Progress) -> Result:
    """Publish the index of the documents as they are now, or find it.

    :raises BadInput: a file of documents cannot be used.
    :raises BadEnvironment: storage cannot be read.
    """
    from nightshift.data.source_files import NoData
    from nightshift.retrieval.documents import read_documents
    from nightshift.retrieval.index import stage
    from nightshift.retrieval.newest import INDEXES, Newest, name_newest
    from nightshift.storage.files import scratch
    from nightshift.storage.manifest import digest_of
    from nightshift.storage.partition import find, partition_of

    name, retrieval = spec.application.name, spec.application.retrieval
    if retrieval is None:
        return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=f"the file of {name} has no `retrieval`")
    folder, read = scratch(UPath(spec.storage)), datetime.now(UTC)
    try:
        try:
            staged = stage(read_documents(retrieval.documents, folder / "sources"), folder / "staged")
        except NoData as error:
            return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=str(error))
        refused = dict(sorted(staged.refused.items()))
        if not staged.documents:
            reason = f"no document could be used: {refused}" if refused else "the sources hold no document"
            return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=reason, quarantined=refused)
        progress.report(0, staged.documents, unit="documents")
        inputs = {"documents": staged.digest, **_made_by(retrieval)}
        partition = partition_of(spec.storage, name, INDEXES, digest_of(inputs)[:16])
        manifest = find(partition, inputs) or _make(spec, partition, inputs, staged, folder)
        name_newest(spec.storage, name, Newest(uri=str(partition), digest=manifest.digest, read=read))
        progress.report(staged.documents, staged.documents, unit="documents")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    count, unchanged, removed = manifest.counts["documents"], manifest.facts["unchanged"], manifest.facts["removed"]
    chunks, near = manifest.counts["chunks"], manifest.counts["near_duplicates"]
    return Result(
        verdict=Verdict.PASS,
        reason=f"{chunks:,} passages of {count:,} documents ({unchanged:,} unchanged, {removed:,} removed when it was "
        f"made); {near:,} near-duplicates; {sum(refused.values()):,} quarantined{f': {refused}' if refused else ''}",
        index=str(partition), digest=manifest.digest, documents=count, unchanged=unchanged, removed=removed,
        chunks=chunks, near_duplicates=near, quarantined=refused,
    )  # fmt: skip


def _made_by(retrieval: Retrieval) -> dict[str, Any]:
    """What determines an index of documents, and how it is searched but for `search` and `k`."""
    from nightshift.retrieval.embeddings import made_by

    found = {"chunk": retrieval.chunk.model_dump(mode="json"), "embedder": made_by(retrieval.embedder), "format": 2}
    if retrieval.reranker:
        from nightshift.retrieval.sentence_model import reranker_identity

        found["reranker"] = reranker_identity(retrieval.reranker)
    return found


def _make(spec: Spec, partition: UPath, inputs: dict[str, Any], staged: Staged, folder: Path) -> Manifest:
    from nightshift.retrieval.embeddings import embedder_of
    from nightshift.retrieval.index import CHUNKS, DOCUMENTS, build
    from nightshift.storage.partition import publish

    assert spec.application.retrieval  # noqa: S101  (nothing was staged without)
    made = folder / "index"
    made.mkdir()
    before = _before(spec, inputs, folder / "before")
    embedder = embedder_of(inputs["embedder"])
    counts = build(staged, spec.application.retrieval.chunk, embedder, made, folder, before=before)
    return publish(
        partition,
        made,
        kind="index",
        application=spec.application.name,
        inputs=inputs,
        rows={DOCUMENTS: staged.documents, CHUNKS: counts.chunks},
        counts={
            "documents": staged.documents, "chunks": counts.chunks, "near_duplicates": counts.near_duplicates,
            "quarantined": sum(staged.refused.values()),
        },
        facts={"unchanged": counts.unchanged, "removed": counts.removed},
    )  # fmt: skip


def _before(spec: Spec, inputs: dict[str, Any], folder: Path) -> Path | None:
    """The files of the newest index; None where there is none that was made with the same settings."""
    from nightshift.errors import BadInput
    from nightshift.retrieval.index import DOCUMENTS, VECTORS
    from nightshift.retrieval.newest import newest_index
    from nightshift.storage.manifest import require_manifest
    from nightshift.storage.partition import fetch

    newest = newest_index(spec.storage, spec.application.name)
    if newest is None:
        return None
    partition = UPath(newest.uri)
    try:
        manifest = require_manifest(partition, newest.digest)
        # Vectors depend on neither which documents there are nor who reads them again.
        other = dict.fromkeys(("documents", "reranker"))
        if manifest.inputs | other != inputs | other:
            return None
        fetch(partition, manifest, VECTORS, folder)
        return fetch(partition, manifest, DOCUMENTS, folder).parent
    except BadInput as error:
        log.warning("all documents are embedded again: %s", error)
        return None
