"""The job `replay`: the interval that led to a retraining, answered again by the new champion. Did it help?"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pydantic import Field
from upath import UPath

from nightshift.errors import BadInput
from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.environment import FOR_MODELS
from nightshift.jobs.progress import Progress
from nightshift.registry.versions import ORDER_TAG, Registered
from nightshift.storage.application_version import open_version
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of, require_manifest
from nightshift.storage.partition import fetch, find, partition_of, publish
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from nightshift.ledger.records import Order
    from nightshift.monitoring.replay import Replayed
    from nightshift.monitoring.verdicts import IntervalVerdict

log = logging.getLogger(__name__)

REPORT, NUMBERS = "report.html", "replay.json"
# Generating is bound by the same processors and allocator as training.
ENVIRONMENT = FOR_MODELS
VERSION = 3  # of how a replay is judged


class Spec(JobSpec):
    """The model that became champion."""

    model_digest: str


class Result(JobResult):
    """Whether it helped; scores of the gate's metric as part -> before, after, gain, low, high, rows.

    The parts are `everything`, `known` (answers that the earlier champion was trained on) and `new`.
    """

    verdict: Verdict
    reasons: list[str]
    night: str | None = None
    order: int | None = None
    parts: dict[str, dict[str, float]] = Field({})
    drift: Verdict | None = None  # of the replayed interval against the new champion's reference
    report: str | None = None
    run_url: str | None = None


def run(spec: Spec, progress: Progress) -> Result:
    """Replay the newest interval of the order that the champion was trained for, and publish the comparison.

    :raises BadInput: the interval's prompts or interactions, or a model, are gone or damaged.
    :raises BadEnvironment: the order has no outcome yet, or MLflow or storage cannot be reached.
    """
    from nightshift.jobs import generate, score
    from nightshift.monitoring.references import require_reference
    from nightshift.registry.models import find_version

    name, common = spec.application.name, {"application": spec.application, "storage": spec.storage}
    version = find_version(name, spec.model_digest)
    if version is None:
        raise BadInput(f"no version of {name} is the model {spec.model_digest[:12]}")
    order = _order_of(spec, version)
    if order is None or not order.decision.reports:
        reason = f"no interval led to version {version.version}, so there is none to replay"
        return Result(verdict=Verdict.INSUFFICIENT_DATA, reasons=[reason])
    # The newest of the intervals that failed: its report lies below its key.
    interval = UPath(order.decision.reports[0]).parent.name
    before = partition_of(spec.storage, name, "interactions", interval)
    answered = require_manifest(before)
    prompts, arm = answered.parents[0], answered.inputs.get("arm")
    generated = generate.run(
        generate.Spec(
            **common, prompts=prompts.uri, digest=prompts.digest, model=version.version, arm=arm, in_batches=False
        ),
        progress,
    )
    scored = score.run(
        score.Spec(
            **common,
            prompts=prompts.uri,
            digest=prompts.digest,
            responses=generated.responses,
            model=version.version,
            model_digest=version.digest,
            replay=True,
            arm=arm,
        ),
        progress,
    )
    reference = require_reference(spec.storage, name, spec.model_digest)
    inputs = {
        "order": order.number,
        "before": answered.digest,
        "after": scored.digest,
        "reference": reference.digest,
        "gate": spec.application.gate.model_dump(mode="json"),
        "drift": spec.application.drift.model_dump(mode="json"),
        "version": VERSION,
    }
    partition = partition_of(spec.storage, name, "replay_reports", interval, digest_of(inputs)[:16])
    with scratch_folder(UPath(spec.storage)) as folder:
        manifest = find(partition, inputs) or _judge(
            spec, order, version, inputs, partition=partition, answered=(before, answered), after=UPath(scored.interactions),
            folder=folder, progress=progress,
        )  # fmt: skip
        url = _log(spec, version, partition, manifest, folder)
    facts = manifest.facts
    return Result(
        verdict=Verdict(facts["verdict"]),
        reasons=facts["reasons"],
        night=interval,
        order=order.number,
        parts=facts["parts"],
        drift=Verdict(facts["drift"]),
        report=str(partition / manifest.file(REPORT).path),
        run_url=url,
    )


def _order_of(spec: Spec, version: Registered) -> Order | None:
    """The order that the version was trained for, or None where nobody ordered it."""
    from nightshift.ledger.store import Ledger

    number = version.tags.get(ORDER_TAG)
    return Ledger(spec.storage, spec.application.name).orders().get(int(number)) if number else None


def _judge(
    spec: Spec,
    order: Order,
    version: Registered,
    inputs: dict[str, Any],
    *,
    partition: UPath,
    answered: tuple[UPath, Manifest],
    after: UPath,
    folder: Path,
    progress: Progress,
) -> Manifest:
    from nightshift.data.unseen import seen_in_training
    from nightshift.monitoring import replay
    from nightshift.monitoring.replay_report import render

    before, before_manifest = answered
    after_manifest = require_manifest(after)
    earlier_rows = replay.read_interactions(before, before_manifest)
    measured = replay.replayed(
        earlier_rows,
        replay.read_interactions(after, after_manifest),
        _answers_of(spec, order.decision.model_digest),
        seen_in_training(earlier_rows, spec.storage, spec.application.name),
    )
    verdict, reasons = replay.helped(measured, spec.application.gate)
    drift = _drift(spec, after, after_manifest, folder, progress)
    reasons = [*reasons, f"the interval is {drift.verdict} against the reference of version {version.version}"]
    output = folder / "output"
    output.mkdir()
    (output / NUMBERS).write_text(measured.model_dump_json(indent=1))
    page = render(
        spec.application,
        before.name,
        order,
        version.version,
        measured=measured,
        verdict=verdict,
        reasons=reasons,
        drift=drift,
    )
    (output / REPORT).write_text(page, encoding="utf-8")
    return publish(
        partition,
        output,
        kind="replay",
        application=spec.application.name,
        inputs=inputs,
        interval=before_manifest.interval,
        counts={"rows": measured.everything.examples, "left_out": measured.left_out},
        facts={
            "verdict": verdict.value,
            "reasons": reasons,
            "parts": _parts(spec, measured),
            "drift": drift.verdict.value,
            "model_version": version.version,
            **({"cost": cost} if (cost := after_manifest.facts.get("cost")) else {}),
        },
        parents=[
            Parent(uri=str(before), digest=before_manifest.digest),
            Parent(uri=str(after), digest=after_manifest.digest),
        ],
    )


def _answers_of(spec: Spec, model_digest: str) -> frozenset[str]:
    """What the earlier champion was trained to answer; of one that is gone, nothing is known."""
    from nightshift.monitoring.replay import trained_answers
    from nightshift.registry.models import find_version

    earlier = find_version(spec.application.name, model_digest)
    try:
        return (
            trained_answers(open_version(earlier.model, earlier.digest, spec.application)) if earlier else frozenset()
        )
    except BadInput as error:
        log.warning("known and new answers cannot be told apart: %s", error)
        return frozenset()


def _drift(spec: Spec, after: UPath, manifest: Manifest, folder: Path, progress: Progress) -> IntervalVerdict:
    from nightshift.data.interactions import INTERACTIONS
    from nightshift.monitoring.measured import measure
    from nightshift.monitoring.own_metrics import measured_alike, own_metrics
    from nightshift.monitoring.references import read_reference, reference_partition
    from nightshift.monitoring.topics import Embedder
    from nightshift.monitoring.verdicts import judge_interval

    at = reference_partition(spec.storage, spec.application.name, spec.model_digest)
    reference = read_reference(at, require_manifest(at).digest, folder / "reference")
    measured = measure(
        fetch(after, manifest, INTERACTIONS, folder / "after"),
        reference.topics,
        Embedder(),
        spec.application.traffic.segments,
        lambda done, of: progress.report(done, of, unit="prompts"),
        measured_alike(manifest, reference.manifest),
    )
    own = own_metrics(spec.application, manifest, reference.manifest)
    return judge_interval(measured.profile, reference.profile, spec.application.drift, own=own)


def _parts(spec: Spec, measured: Replayed) -> dict[str, dict[str, float]]:
    from nightshift.monitoring.replay import AFTER, BEFORE

    metric = spec.application.gate.metric
    parts = {}
    for part in ("everything", "known", "new"):
        compared = getattr(measured, part)
        if compared.examples:
            gain = compared.differences[BEFORE][metric]
            parts[part] = {
                "rows": float(compared.examples),
                "before": compared.scores[BEFORE][metric].value,
                "after": compared.scores[AFTER][metric].value,
                "gain": gain.value,
                "low": gain.low,
                "high": gain.high,
            }
    return parts


def _log(spec: Spec, version: Registered, partition: UPath, manifest: Manifest, folder: Path) -> str:
    from nightshift.registry.models import set_tags
    from nightshift.registry.tracking import TrackingRun

    facts = manifest.facts
    run = TrackingRun(
        spec.application.name,
        key=f"replay-{partition.name}",
        name=f"replay {partition.parent.name} by version {version.version}",
        tags={
            "nightshift.job": "replay",
            "nightshift.replay": str(partition),
            "nightshift.verdict": facts["verdict"],
            "nightshift.model_version": version.version,
            "mlflow.note.content": "\n".join(f"- {reason}" for reason in facts["reasons"]),
        },
    )
    run.metrics(
        {f"{part}/{name}": value for part, numbers in facts["parts"].items() for name, value in numbers.items()}
    )
    for name in (REPORT, NUMBERS):
        run.artifact(fetch(partition, manifest, name, folder / "report"))
    run.finish()
    set_tags(version, {"nightshift.replay": facts["verdict"], "nightshift.replay_report": str(partition)})
    return run.url
