"""The job `index`: read an application's documents and index their passages; only changed documents are embedded again."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import Field
from upath import UPath

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.storage.files import scratch_folder
from nightshift.storage.partition import find
from nightshift.verdict import Verdict


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

    :raises BadInput: a file of documents cannot be used, or the database of `retrieval.database`.
    :raises BadEnvironment: storage cannot be read, or that database does not answer.
    """
    from nightshift.data.source_files import NoData
    from nightshift.retrieval.documents import read_documents
    from nightshift.retrieval.index import stage
    from nightshift.retrieval.newest import Newest, mark_used, name_newest
    from nightshift.retrieval.partition import make, newest_files, place_of

    name, retrieval = spec.application.name, spec.application.retrieval
    if retrieval is None:
        return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=f"the file of {name} has no `retrieval`")
    read = datetime.now(UTC)
    with scratch_folder(UPath(spec.storage)) as folder:
        try:
            staged = stage(read_documents(retrieval.documents, folder / "sources"), folder / "staged")
        except NoData as error:
            return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=str(error))
        refused = dict(sorted(staged.refused.items()))
        if not staged.documents:
            reason = f"no document could be used: {refused}" if refused else "the sources hold no document"
            return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=reason, quarantined=refused)
        progress.report(0, staged.documents, unit="documents")
        partition, inputs = place_of(name, spec.storage, staged.digest, retrieval)
        mark_used(partition)
        manifest = find(partition, inputs)
        if manifest is None:
            before = newest_files(name, spec.storage, inputs, folder / "before")
            endpoints = spec.application.embedding_endpoints
            manifest = make(name, partition, inputs, staged, retrieval, work=folder, before=before, endpoints=endpoints)
        if retrieval.database:
            from nightshift.retrieval.vector_table import VectorTable

            VectorTable(retrieval.database, manifest).fill(partition, folder / "table")
        name_newest(spec.storage, name, Newest(uri=str(partition), digest=manifest.digest, read=read))
        progress.report(staged.documents, staged.documents, unit="documents")
    count, unchanged, removed = manifest.counts["documents"], manifest.facts["unchanged"], manifest.facts["removed"]
    chunks, near = manifest.counts["chunks"], manifest.counts["near_duplicates"]
    return Result(
        verdict=Verdict.PASS,
        reason=f"{chunks:,} passages of {count:,} documents ({unchanged:,} unchanged, {removed:,} removed when it was "
        f"made); {near:,} near-duplicates; {sum(refused.values()):,} quarantined{f': {refused}' if refused else ''}",
        index=str(partition), digest=manifest.digest, documents=count, unchanged=unchanged, removed=removed,
        chunks=chunks, near_duplicates=near, quarantined=refused,
    )  # fmt: skip
