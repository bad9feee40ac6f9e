"""Ingest: the raw rows of one interval become a partition of clean, redacted examples, or of production traffic."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from upath import UPath

from nightshift.errors import BadEnvironment, BadInput
from nightshift.jobs.contract import IntervalSpec, JobResult
from nightshift.jobs.nodes import Nodes, nodes, together
from nightshift.jobs.progress import Progress
from nightshift.settings.application import Application
from nightshift.settings.intake import Names, Source
from nightshift.storage.erasures import ErasedHashes, erased_of
from nightshift.storage.files import scratch_folder, sha256_of
from nightshift.storage.manifest import Manifest, digest_of
from nightshift.storage.partition import find, partition_of, publish
from nightshift.storage.sharing import await_parts
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.data.measures import TextMeasures
    from nightshift.data.shared_staging import SharedStaging
    from nightshift.data.sources import RawFile
    from nightshift.data.staging import Staged

VERSION = 5  # raised when the same raw rows would become other examples, so that they are made again
# With the key in it, subjects, and ids that hold personal data, are hashed; orchestration fills it from a connection.
ID_KEY_VARIABLE = "NIGHTSHIFT_ID_KEY"
ID_KEY_CHARACTERS = 16
UNUSABLE_FILES = 5  # of which no row could be used, that a reason names


class Spec(IntervalSpec):
    """Which interval of an application's sources to ingest, and which of its parts."""

    part: Literal["examples", "traffic"] = "examples"


class Result(JobResult):
    """The partition (of examples or traffic) and what became of the rows; None where there was nothing to ingest.

    FAIL: no row was kept. WARN: no row of some file could be used.
    """

    verdict: Verdict
    reason: str
    examples: str | None = None
    digest: str | None = None
    rows_in: int = 0
    kept: int = 0
    duplicates: int = 0
    near_duplicates: int = 0
    quarantined: int = 0
    erased: int = 0  # left out, or taken out since, because people had them erased


# `Any` stands for None: whoever calls this on one node need not look for it.
def run(spec: Spec, progress: Progress) -> Result | Any:
    """Publish the examples or the traffic of an interval, unless it is there, and log what happened to the rows.

    On many nodes each stages its share of the rows; the first one takes in all of them and has the result, the others
    return None.

    :raises BadInput: a file as a whole cannot be used, the part has no sources of its kind, or the key of ids is too short.
    :raises BadEnvironment: a source, the storage or MLflow cannot be reached, or other nodes do nothing.
    """
    from nightshift.data.ingest_summary import sentence_of, verdict_of
    from nightshift.data.measures import tokenizer_file
    from nightshift.data.names import identity
    from nightshift.data.source_files import NoData
    from nightshift.data.sources import raw_files
    from nightshift.training.base_model import resolve_tokenizer

    application, interval, node = spec.application, spec.interval, nodes()
    sources = _sources(application, spec.part)
    if any(source.query for source in sources):
        if not node.leads:
            return None
        node = Nodes()  # a query may give each node its rows in another order
    partition = partition_of(spec.storage, application.name, spec.part, interval.key)
    id_key = id_key_of(application, sources)
    names = application.ingest.names
    models = {"names": identity(names)} if names else {}
    tokenizer = tokenizer_file(resolve_tokenizer(application.base_model))
    with scratch_folder(UPath(spec.storage)) as work:
        try:
            files = [
                file
                for source in sources
                for file in raw_files(source, interval, work / "sources" / source.name, application.zone)
            ]
        except NoData as nothing:
            return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=str(nothing)) if node.leads else None
        inputs: dict[str, Any] = {
            "version": VERSION,
            "part": spec.part,
            "interval": interval.model_dump(mode="json"),
            "files": [file.inputs for file in files],
            # Where the files lay is left out: their digests say what they were, on every machine.
            "sources": [source.model_dump(mode="json", exclude={"uri"}) for source in sources],
            "ingest": application.ingest.model_dump(mode="json", exclude={"names"}),
            "tokenizer": sha256_of(tokenizer),
            **models,
            # Another key makes other ids. This tells that it is another one, not which.
            **({"id_key": hashlib.sha256(id_key).hexdigest()[:8]} if id_key else {}),
        }
        intake = _Intake(spec, files, inputs, partition, tokenizer, id_key or application.name.encode(), work)
        try:
            if node.count > 1:
                manifest = _together(intake, node, progress)
            else:
                manifest = intake.published() or _publish(intake, progress)
                intake.shared.drop()  # of attempts on more nodes, or at other files, that were given up
        except _NotOneRow:
            intake.shared.drop()
            reason = f"there is not one row in {', '.join(file.label for file in files)}"
            return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=reason) if node.leads else None
    if manifest is None or not node.leads:
        return None
    _log(spec, manifest, str(partition))
    return Result(
        verdict=verdict_of(manifest),
        reason=sentence_of(manifest),
        examples=str(partition),
        digest=manifest.digest,
        **manifest.counts,
    )


class _NotOneRow(Exception):
    """All files together hold no row."""


@dataclass(frozen=True)
class _Intake:
    """What is ingested, and where it goes.

    :param id_key: with which ids are hashed. Without the installation's, the application's name at least keeps the ids of
        two applications from being joined.
    """

    spec: Spec
    files: list[RawFile]
    inputs: dict[str, Any]
    target: UPath
    tokenizer: Path
    id_key: bytes
    work: Path

    def published(self) -> Manifest | None:
        return find(self.target, self.inputs)

    @cached_property
    def shared(self) -> SharedStaging:
        from nightshift.data.shared_staging import SharedStaging

        return SharedStaging(self.spec.application.name, self.spec.storage, self.inputs, self.work)

    @cached_property
    def erased(self) -> ErasedHashes:
        return erased_of(self.target.parents[1])

    @cached_property
    def measures(self) -> TextMeasures:
        from nightshift.data.measures import TextMeasures

        return TextMeasures(self.tokenizer)


def _together(intake: _Intake, node: Nodes, progress: Progress) -> Manifest | None:
    """Stage this node's share; the first node publishes the partition. None: it is not published yet, the first one waits."""
    return together(lambda: _share(intake, node, progress), intake.published, intake.shared.drop)


def _share(intake: _Intake, node: Nodes, progress: Progress) -> Manifest | None:
    from nightshift.data.staging import Staging

    spec, shared = intake.spec, intake.shared
    staging = Staging(spec.application.ingest, spec.interval, intake.measures, spec.part, intake.id_key, intake.erased)
    stretches = shared.share(intake.files, staging, node.index, node.count, progress.report)
    if not node.leads:
        return intake.published()

    def find(first: int, last: int) -> Manifest | None:
        found = shared.find(first, last)
        if found is None and intake.published():
            raise BadEnvironment(f"{intake.target}: another attempt has published this partition")
        return found

    def report(done: int, of: int, others: str) -> None:
        progress.report(done, of, "stretches", waiting_for=others)

    known = {rows: manifest for rows, manifest in stretches.items() if manifest}
    manifests = await_parts(list(stretches), known, find, node.count, report)
    return _publish(intake, progress, shared.join(dict(zip(stretches, manifests, strict=True))))


def _publish(intake: _Intake, progress: Progress, staged: Iterable[tuple[str, Staged]] | None = None) -> Manifest:
    """Publish the partition from its files, or from what others have staged of them.

    :raises _NotOneRow: there is nothing to publish.
    """
    from nightshift.data.ingestion import Ingestion
    from nightshift.data.published_sides import catch_up, is_behind
    from nightshift.data.split_map import SplitMap

    spec, application = intake.spec, intake.spec.application
    names, split_map = application.ingest.names, SplitMap(spec.storage, application.name)
    if spec.part == "examples" and is_behind(split_map, spec.storage, application.name):
        catch_up(split_map, spec.storage, application.name)
    target = intake.work / "partition"
    target.mkdir()
    ingestion = Ingestion(
        application.ingest, spec.interval, intake.measures, intake.work, spec.part, id_key=intake.id_key, erased=intake.erased,
        split_map=split_map, made_by=digest_of(intake.inputs),
    )  # fmt: skip
    ingested = ingestion.run(intake.files, target, progress.report, staged)
    if ingested.rows_in == 0:
        raise _NotOneRow
    return publish(
        intake.target,
        target,
        kind=spec.part,
        application=application.name,
        interval=spec.interval,
        inputs=intake.inputs,
        rows={"examples.parquet": ingested.kept, "quarantine.parquet": ingested.quarantined},
        counts=ingested.counts,
        facts={
            "bytes": sum(file.bytes for file in intake.files),
            "quarantine": _sorted(ingested.reasons),
            "pii": _sorted(ingested.pii),
            "languages": _sorted(ingested.languages),
            "splits": _sorted(ingested.splits),
            "late": ingested.late,
            "unusable": {"files": len(ingested.unusable), "first": ingested.unusable[:UNUSABLE_FILES]},
            "between_sides": ingested.between_sides,
            "largest_group": ingested.largest_group,
            **({"names_not_searched": _unsearched(names, ingested.languages)} if names else {}),
        },
    )


def _sources(application: Application, part: str) -> list[Source]:
    if part == "traffic":
        if not application.traffic.sources:
            raise BadInput(
                f"{application.name} has no traffic.sources; its traffic is the split `traffic` of its examples"
            )
        return application.traffic.sources
    for source in application.sources:
        for name in ("response", "context"):
            if getattr(source.columns, name) is not None:
                raise BadInput(
                    f"source {source.name!r}: `columns.{name}` is for production traffic; examples are what the model "
                    f"is trained on, with the wanted answer in `columns.answer`. Move the source to `traffic.sources`, "
                    f"or leave `{name}` out"
                )
    return application.sources


def id_key_of(application: Application, sources: Sequence[Source]) -> bytes:
    """The installation's key for ids; empty where none is set, or where no source has what it hashes."""
    key = os.environ.get(ID_KEY_VARIABLE, "") if any(source.columns.keyed for source in sources) else ""
    if not key and (named := [source.name for source in sources if source.columns.subject]):
        raise BadInput(
            f"source {named[0]!r}: `columns.subject` needs the installation's key: without one, whoever can guess a user "
            f"finds their rows. Make the Airflow connection nightshift_id_key, with the output of `openssl rand -hex 32` "
            f"as its password (outside of Airflow, set {ID_KEY_VARIABLE}); or leave `subject` out"
        )
    if 0 < len(key) < ID_KEY_CHARACTERS:
        raise BadInput(
            f"{application.name}: the key for ids ({ID_KEY_VARIABLE}) has {len(key)} characters, which can be guessed; "
            f"it needs {ID_KEY_CHARACTERS} or more, as `openssl rand -hex 32` makes them"
        )
    return key.encode()


def _log(spec: Spec, manifest: Manifest, examples: str) -> None:
    from nightshift.registry.tracking import TrackingRun

    facts = manifest.facts
    run = TrackingRun(
        spec.application.name,
        key=f"ingest-{manifest.inputs_digest[:16]}",
        name=f"ingest {'traffic ' if spec.part == 'traffic' else ''}{spec.interval.key}",
        tags={
            "nightshift.job": "ingest",
            "nightshift.examples": examples,
            "nightshift.examples_digest": manifest.digest,
        },
    )
    run.params(
        {
            "interval": spec.interval.key,
            "sources": [file["file"] if "file" in file else file["query"] for file in manifest.inputs["files"]],
            "ingest": manifest.inputs["ingest"],
            "tokenizer": manifest.inputs["tokenizer"][:16],
            **({"names": manifest.inputs["names"]} if "names" in manifest.inputs else {}),
        }
    )
    nested = {
        f"{name}/{key}": n
        for name in ("quarantine", "pii", "languages", "splits", "names_not_searched")
        for key, n in facts.get(name, {}).items()
    }
    measured = {name: facts[name] for name in ("bytes", "late", "between_sides", "largest_group")}
    run.metrics({**manifest.counts, **nested, **measured})
    run.finish()


def _unsearched(names: Names, languages: dict[str, int]) -> dict[str, int]:
    """Rows that were kept in a language that no model searches, by language."""
    return {language: rows for language, rows in _sorted(languages).items() if names.model_for(language) is None}


def _sorted(counter: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counter.items()))
