"""Ingest: the raw rows of one interval become a partition of clean, redacted examples, or of production traffic."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationInfo, field_validator

from nightshift.errors import BadInput
from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.settings.application import Application, Interval
from nightshift.settings.intake import Names, Source
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.storage.partition import Manifest

VERSION = 4  # raised when the same raw rows would become other examples, so that they are made again
# With the key in it, subjects, and ids that hold personal data, are hashed; orchestration fills it from a connection.
ID_KEY_VARIABLE = "NIGHTSHIFT_ID_KEY"
ID_KEY_CHARACTERS = 16
UNUSABLE_FILES = 5  # of which no row could be used, that a reason names


class Spec(JobSpec):
    """Which interval of an application's sources to ingest: its `start` and `end`, or a `day` that stands for one."""

    interval: Interval
    part: Literal["examples", "traffic"] = "examples"

    @field_validator("interval", mode="before")
    @classmethod
    def _is_of_the_schedule(cls, value: Any, info: ValidationInfo) -> Any:
        # What a person typed. Any other bounds would make a second partition of the same rows.
        application = info.data.get("application")
        if application and isinstance(value, dict) and set(value) == {"day"}:
            return application.interval_of(value["day"])
        return value


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


def run(spec: Spec, progress: Progress) -> Result:
    """Publish the examples or the traffic of an interval, unless it is there, and log what happened to the rows.

    :raises BadInput: a file as a whole cannot be used, the part has no sources of its kind, or the key of ids is too short.
    :raises BadEnvironment: a source, the storage or MLflow cannot be reached.
    """
    from upath import UPath

    from nightshift.data.measures import TextMeasures, tokenizer_file
    from nightshift.data.names import identity
    from nightshift.data.source_files import NoData
    from nightshift.data.sources import raw_files
    from nightshift.storage.files import scratch, sha256_of
    from nightshift.storage.partition import digest_of, find, partition_of, publish
    from nightshift.training.base_model import resolve_tokenizer

    application, interval = spec.application, spec.interval
    sources = _sources(application, spec.part)
    partition = partition_of(spec.storage, application.name, spec.part, interval.key)
    id_key = _id_key(application, sources)
    names = application.ingest.names
    models = {"names": identity(names)} if names else {}
    tokenizer = tokenizer_file(resolve_tokenizer(application.base_model))
    work = scratch(UPath(spec.storage))
    try:
        try:
            files = [
                file
                for source in sources
                for file in raw_files(source, interval, work / "sources" / source.name, application.zone)
            ]
        except NoData as nothing:
            return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=str(nothing))
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
        manifest = find(partition, inputs)
        if manifest is None:
            from nightshift.data.ingestion import Ingestion
            from nightshift.data.published_sides import catch_up, is_behind
            from nightshift.data.split_map import SplitMap

            split_map = SplitMap(spec.storage, application.name)
            if spec.part == "examples" and is_behind(split_map, spec.storage, application.name):
                catch_up(split_map, spec.storage, application.name)
            target = work / "partition"
            target.mkdir()
            ingestion = Ingestion(
                application.ingest,
                interval,
                TextMeasures(tokenizer),
                work,
                spec.part,
                # Without a key, the name at least keeps the ids of two applications from being joined.
                id_key=id_key or application.name.encode(),
                split_map=split_map,
                made_by=digest_of(inputs),
            )
            ingested = ingestion.run(files, target, progress.report)
            if ingested.rows_in == 0:
                labels = ", ".join(file.label for file in files)
                return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=f"there is not one row in {labels}")
            manifest = publish(
                partition,
                target,
                kind=spec.part,
                application=application.name,
                interval=interval,
                inputs=inputs,
                rows={"examples.parquet": ingested.kept, "quarantine.parquet": ingested.quarantined},
                counts=ingested.counts,
                facts={
                    "bytes": sum(file.bytes for file in files),
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
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _log(spec, manifest, str(partition))
    return Result(
        verdict=_verdict(manifest),
        reason=_sentence(manifest),
        examples=str(partition),
        digest=manifest.digest,
        **manifest.counts,
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


def _id_key(application: Application, sources: list[Source]) -> bytes:
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


def _verdict(manifest: Manifest) -> Verdict:
    """A night of which nothing is kept fails, and a file of which nothing could be used is never passed over."""
    if not manifest.counts["kept"]:
        return Verdict.FAIL
    return Verdict.WARN if manifest.facts["unusable"]["files"] else Verdict.PASS


def _sentence(manifest: Manifest) -> str:
    counts = manifest.counts
    parts = [f"{counts['kept']:,} of {counts['rows_in']:,} rows kept"]
    parts += [
        f"{counts[name]:,} {name.replace('_', '-')}"
        for name in ("duplicates", "near_duplicates", "quarantined")
        if counts[name]
    ]
    if between := manifest.facts["between_sides"]:
        parts.append(f"{between:,} belong to two sides and are on none")
    if unsearched := manifest.facts.get("names_not_searched"):
        languages = ", ".join(f"{language} {rows:,}" for language, rows in unsearched.items())
        parts.append(f"{sum(unsearched.values()):,} not searched for names, for lack of a model ({languages})")
    unusable = manifest.facts["unusable"]
    more = unusable["files"] - len(unusable["first"])
    files = [*unusable["first"], *([f"{more:,} more files without a row that could be used"] if more else [])]
    return ". ".join([", ".join(parts), *files])


def _unsearched(names: Names, languages: dict[str, int]) -> dict[str, int]:
    """Rows that were kept in a language that no model searches, by language."""
    return {language: rows for language, rows in _sorted(languages).items() if names.model_for(language) is None}


def _sorted(counter: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counter.items()))
