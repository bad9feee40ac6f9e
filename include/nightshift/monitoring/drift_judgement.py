"""One interval from its interactions to a published verdict: measured, held against a reference, reported and logged."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.interactions import INTERACTIONS, SCORES
from nightshift.errors import BadInput
from nightshift.monitoring.drift_report import Compared, page_without_rows, phrase, report_of
from nightshift.monitoring.due_intervals import (
    Answered,
    Due,
    answered_interval,
    champion_beside,
    drift_partition,
    inputs_of,
    trailing,
)
from nightshift.monitoring.feedback import feedback_of
from nightshift.monitoring.measured import PROFILE_VERSION, SAMPLE, measure, sample_of
from nightshift.monitoring.of_documents import DOCUMENTS, least_kept_to
from nightshift.monitoring.own_metrics import categorical_in, measured_alike, own_metrics, scored_apart
from nightshift.monitoring.profiles import PROFILE, Profile, merge, read_profile, write_profile
from nightshift.monitoring.references import Reference
from nightshift.monitoring.topics import Embedder
from nightshift.monitoring.verdicts import judge_interval
from nightshift.registry.tracking import TrackingRun
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.settings.metrics import Metric
from nightshift.shown import in_markdown
from nightshift.storage.files import names_in, scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of, read_manifest, require_manifest
from nightshift.storage.partition import fetch, find, partition_of, publish
from nightshift.verdict import Verdict

NOVEL, VERDICT, REPORT, REPORT_JSON = "novel.parquet", "verdict.json", "report.html", "report.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DriftContext:
    """What the intervals of one model are judged with.

    :param model_digest: the model that answered the intervals, `version` in the registry.
    :param all_answered: the interactions of all intervals that may be trailing ones.
    """

    application: Application
    storage: str
    reference: Reference
    model_digest: str
    version: str
    all_answered: Sequence[Answered]
    embedder: Embedder
    report: Callable[[int, int], None]


def judge(context: DriftContext, due: Due) -> tuple[UPath, Manifest]:
    """Return the published verdict about an interval, made if there is none.

    The report is logged before it is published: an interval whose report MLflow did not take has no verdict yet.

    :raises BadInput: its interactions are damaged.
    :raises BadEnvironment: MLflow cannot be reached.
    """
    app = context.application
    partition = drift_partition(context.storage, app.name, due.answered.key, due.inputs)
    if manifest := find(partition, due.inputs):
        return partition, manifest
    with scratch_folder(UPath(context.storage)) as work:
        profiled, at = _profile(context, due.answered)
        profile = _read_profile(context, at, profiled, work)
        interactions = require_manifest(due.answered.partition, due.answered.digest)
        before = _trailing(context, due.answered, work)
        own = own_metrics(app, interactions, context.reference.manifest)
        verdict = judge_interval(
            profile,
            context.reference.profile,
            app.drift,
            merge(before) if before else None,
            _learned(context, due.answered, work),
            own | scored_apart(app, interactions, context.reference.manifest),
            feedback_of(context.storage, app, due.answered, due.answered.model_digest),
        )
        beside = champion_beside(due.answered, context.all_answered)
        comparable = [metric for metric, why in own.items() if not why]
        champion = _of_champion(beside, interactions, comparable, work) if beside else None
        compared = Compared(
            application=app,
            interval=due.answered.key,
            verdict=verdict,
            profile=profile,
            sample=_table(at, profiled, SAMPLE, work / "sample"),
            novel=_table(at, profiled, NOVEL, work / "novel"),
            reference=context.reference,
            model_version=context.version,
            trailing_intervals=len(before),
            places=[
                ("interactions", str(due.answered.partition)),
                ("reference", str(context.reference.partition)),
                ("verdict", str(partition)),
                *([("interactions of the champion", str(beside.partition))] if beside else []),
            ],
            own=[metric for metric in comparable if champion is None or metric in champion.column_names],
            champion=champion,
            documents=_table(at, profiled, DOCUMENTS, work / "documents") if _says_of_documents(profiled) else None,
        )
        report = report_of(compared)
        folder = work / "publish"
        folder.mkdir()
        (folder / VERDICT).write_text(verdict.model_dump_json(indent=1))
        (folder / REPORT).write_text(report.html, encoding="utf-8")
        (folder / REPORT_JSON).write_text(json.dumps(report.content, indent=1), encoding="utf-8")
        facts = {
            **_facts(context, due.answered.key, verdict.verdict, verdict.reasons),
            "rows": profile.rows(),
            "failing": list(map(str, verdict.failing)),
            "kinds": [kind.value for kind in verdict.kinds],
            "worst": str(verdict.worst) if verdict.worst else None,
            "worst_segment": phrase(verdict.worst_segment) if verdict.worst_segment else None,
            "interactions": str(due.answered.partition),
        }
        effects = {f"effect/{one.metric}": one.effect for one in verdict.metrics}
        facts["run_url"] = _log(context, partition, facts, effects, folder)
        manifest = publish(
            partition,
            folder,
            kind="drift",
            application=app.name,
            inputs=due.inputs,
            interval=due.answered.interval,
            counts={"rows": profile.rows()},
            facts=facts,
            parents=[
                Parent(uri=str(due.answered.partition), digest=due.answered.digest),
                Parent(uri=str(context.reference.partition), digest=context.reference.manifest.digest),
            ],
            logs={REPORT, REPORT_JSON},  # Evidently numbers its pictures by the clock
        )
    return partition, manifest


def profile_partition(context: DriftContext, answered: Answered) -> tuple[UPath, dict[str, Any]]:
    """Return the address of an interval's profile against the context's reference, and what determines it."""
    inputs: dict[str, Any] = {
        "interactions": answered.digest,
        "reference": context.reference.manifest.digest,
        "segments": context.application.traffic.segments,
        "version": PROFILE_VERSION,
    }
    return partition_of(
        context.storage, context.application.name, "profiles", answered.key, digest_of(inputs)[:16]
    ), inputs


def _profile(context: DriftContext, answered: Answered) -> tuple[Manifest, UPath]:
    partition, inputs = profile_partition(context, answered)
    if manifest := find(partition, inputs):
        return manifest, partition
    storage = UPath(context.storage)
    try:
        with scratch_folder(storage) as work, scratch_folder(storage) as folder:
            interactions = require_manifest(answered.partition, answered.digest)
            file = fetch(answered.partition, interactions, INTERACTIONS, work)
            segments = context.application.traffic.segments
            own = measured_alike(interactions, context.reference.manifest)
            measured = measure(file, context.reference.topics, context.embedder, segments, context.report, own)
            write_profile(measured.profile, folder / PROFILE)
            pq.write_table(measured.sample, folder / SAMPLE, compression="zstd")
            pq.write_table(measured.novel, folder / NOVEL, compression="zstd")
            # Answers to rows that bring a context rest on that.
            if context.application.retrieval and not any(
                one.columns.context for one in context.application.traffic.sources
            ):
                pq.write_table(least_kept_to(file, work), folder / DOCUMENTS, compression="zstd")
            manifest = publish(
                partition,
                folder,
                kind="profile",
                application=context.application.name,
                inputs=inputs,
                interval=answered.interval,
                rows={SAMPLE: measured.sample.num_rows, NOVEL: measured.novel.num_rows},
                counts={"rows": measured.rows},
                facts={"scores": interactions.inputs.get("version")},
                parents=[Parent(uri=str(answered.partition), digest=answered.digest)],
            )
    except pa.ArrowInvalid as error:
        raise BadInput(f"{answered.partition}: {INTERACTIONS} cannot be read: {error}") from error
    return manifest, partition


def _of_champion(answered: Answered, challenger: Manifest, own: Sequence[Metric], work: Path) -> pa.Table | None:
    """A sample of what the champion answered of a challenger's interval; None where it is damaged: it has an error of its own."""
    try:
        manifest = require_manifest(answered.partition, answered.digest)
        alike = [metric for metric in own if metric in measured_alike(manifest, challenger)]
        return sample_of(fetch(answered.partition, manifest, INTERACTIONS, work / "champion"), alike)
    except BadInput as error:
        log.warning("%s is compared without what the champion answered: %s", answered.key, error)
        return None


def _trailing(context: DriftContext, answered: Answered, work: Path) -> list[Profile]:
    """The profiles of the intervals before against the same reference, as far as there are any."""
    profiles = []
    for earlier in trailing(context.all_answered, answered, context.application.drift.trailing_nights):
        partition, inputs = profile_partition(context, earlier)
        try:
            if manifest := find(partition, inputs):
                profiles.append(_comparable(context, partition, manifest, work / earlier.key))
        except BadInput as error:
            log.warning("%s is not among the intervals before %s: %s", earlier.key, answered.key, error)
    return profiles


def _learned(context: DriftContext, answered: Answered, work: Path) -> Profile | None:
    """The profile of the newest interval before that the model answered again, because it was retrained for it."""
    folder = partition_of(context.storage, context.application.name, "replays", context.model_digest[:16])
    for key in reversed([name for name in names_in(folder) if name < answered.key]):
        try:
            if manifest := read_manifest(folder / key):
                profiled, at = _profile(context, answered_interval(folder / key, manifest))
                return _comparable(context, at, profiled, work / "learned")
        except BadInput as error:
            log.warning("the replay of %s says nothing about %s: %s", key, answered.key, error)
    return None


def _comparable(context: DriftContext, partition: UPath, manifest: Manifest, folder: Path) -> Profile:
    """The profile of another interval, without its scores where another version than the reference's made them."""
    profile = _read_profile(context, partition, manifest, folder)
    alike = manifest.facts.get("scores") == context.reference.manifest.inputs.get("scores")
    return profile if alike else profile.without(SCORES)


def _read_profile(context: DriftContext, partition: UPath, manifest: Manifest, folder: Path) -> Profile:
    return read_profile(fetch(partition, manifest, PROFILE, folder), categorical_in(context.reference.manifest))


def _says_of_documents(profile: Manifest) -> bool:
    return any(file.name == DOCUMENTS for file in profile.files)


def _table(partition: UPath, manifest: Manifest, name: str, folder: Path) -> pa.Table:
    return pq.read_table(fetch(partition, manifest, name, folder))


def missing_interval(context: DriftContext, interval: Interval) -> tuple[UPath, Manifest]:
    """Return the published verdict about an interval that did not arrive: no pass, and gone once it does arrive."""
    app = context.application
    inputs = inputs_of(None, context.reference.manifest.digest, app)
    partition = drift_partition(context.storage, app.name, interval.key, inputs)
    if manifest := find(partition, inputs):
        return partition, manifest
    reasons = [
        f"no interactions of {interval.key} arrived",
        "look at the runs of batch_inference for that interval, and at the traffic's sources",
    ]
    verdict = Verdict.INSUFFICIENT_DATA
    with scratch_folder(UPath(context.storage)) as folder:
        (folder / VERDICT).write_text(json.dumps({"verdict": verdict, "reasons": reasons}, indent=1))
        (folder / REPORT).write_text(page_without_rows(app, interval.key, verdict, reasons), encoding="utf-8")
        facts = {**_facts(context, interval.key, verdict, reasons), "rows": 0}
        facts["run_url"] = _log(context, partition, facts, {}, folder)
        manifest = publish(
            partition,
            folder,
            kind="drift",
            application=app.name,
            inputs=inputs,
            interval=interval,
            counts={"rows": 0},
            facts=facts,
        )
    return partition, manifest


def _facts(context: DriftContext, interval: str, verdict: Verdict, reasons: list[str]) -> dict[str, Any]:
    """What the policy reads in the manifest of a verdict; texts are bounded and harmless in a log."""
    return {
        "monitor": "drift",
        "interval": interval,
        "verdict": verdict.value,
        "model_digest": context.model_digest,
        "model_version": context.version,
        "failing": [],
        "kinds": [],
        "worst": None,
        "worst_segment": None,
        "reasons": [phrase(reason) for reason in reasons],
        "interactions": "",
    }


def _log(
    context: DriftContext, partition: UPath, facts: dict[str, Any], metrics: dict[str, float], folder: Path
) -> str:
    """Show a verdict in MLflow and return the address of its page."""
    run = TrackingRun(
        context.application.name,
        key=f"drift-{facts['interval']}-{partition.name}",
        name=f"drift {facts['interval']}",
        tags={
            "nightshift.job": "drift",
            "nightshift.night": facts["interval"],
            "nightshift.verdict": facts["verdict"],
            "nightshift.worst": facts["worst"] or "",
            "nightshift.drift_kinds": ", ".join(facts["kinds"]),
            "nightshift.model_version": context.version,
            "nightshift.model_digest": context.model_digest,
            "nightshift.drift": str(partition),
            "nightshift.interactions": facts["interactions"],
            "mlflow.note.content": "\n".join(f"- {in_markdown(reason)}" for reason in facts["reasons"]),
        },
    )
    run.metrics({"rows": facts["rows"], "failing": len(facts["failing"]), **metrics})
    for file in sorted(folder.iterdir()):
        run.artifact(file)
    run.finish()
    return run.url
