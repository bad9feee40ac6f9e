"""One interval from its interactions and the champion's probes to a published verdict, logged and reported."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from upath import UPath

from nightshift.data.interactions import INTERACTIONS, OF_SOME_LANGUAGES, SCORES_VERSION
from nightshift.errors import BadInput
from nightshift.monitoring.bias.counterfactuals import counterfactual_findings, pair_tests
from nightshift.monitoring.bias.due import Due, is_full
from nightshift.monitoring.bias.groups import MEASURED, group_findings
from nightshift.monitoring.bias.probes import AskedModel, Probed, sets_of
from nightshift.monitoring.bias.questions import question_findings
from nightshift.monitoring.bias.report import Page, render
from nightshift.monitoring.bias.stereotypes import stereotype_findings
from nightshift.monitoring.bias.verdict import Finding, Judged, Section, judge
from nightshift.registry.tracking import TrackingRun
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.settings.scorers import Scorer
from nightshift.shown import in_markdown, shown
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of, require_manifest
from nightshift.storage.partition import fetch, find, partition_of, publish
from nightshift.verdict import Verdict

VERDICT, REPORT = "verdict.json", "report.html"
PHRASE_CHARACTERS = 300
MOST_REASONS = 20
MOST_METRICS = 500  # that go to MLflow, the largest gaps
OLDER = (
    f"{', '.join(OF_SOME_LANGUAGES)}: an older version scored this interval, in languages that it did not know, too; they are "
    "left out until batch_inference is run for it again"
)
NOT_SCORED = "this interval was scored without it, or without its bounds; run batch_inference for it again"
NO_LIKELIHOODS = "stereotypes and questions were not asked: they need the likelihood of texts, which no endpoint tells"
NOT_IN_A_METRIC = re.compile(r"[^A-Za-z0-9_\-. /]")

FINDINGS: dict[Section, Callable[[Sequence[dict[str, Any]], int], list[Finding]]] = {
    "counterfactuals": counterfactual_findings,
    "stereotypes": stereotype_findings,
    "questions": question_findings,
}


@dataclass(frozen=True)
class BiasContext:
    """What intervals are judged with.

    :param champion: the model in use; None: there is none, and nothing is asked.
    :param base: the model that the champion was trained from.
    :param held_out: rows that the champion was judged on, for applications without counterfactual messages of their own.
    """

    application: Application
    storage: str
    champion: AskedModel | None
    version: str
    base: AskedModel | None
    held_out: Callable[[], Sequence[dict[str, Any]]]
    report: Callable[[int, int, str], None]


def judge_bias(context: BiasContext, due: Due) -> tuple[UPath, Manifest]:
    """Return the published verdict about an interval, made if there is none.

    The report is logged before it is published: an interval whose report MLflow did not take has no verdict yet.

    :raises BadInput: its interactions or what is kept of the probes are damaged.
    :raises BadEnvironment: MLflow cannot be reached.
    """
    app = context.application
    partition = partition_of(context.storage, app.name, "bias", due.key, digest_of(due.inputs)[:16])
    if manifest := find(partition, due.inputs):
        return partition, manifest
    with scratch_folder(UPath(context.storage)) as folder:
        rows, findings, left_out = _outputs(context, due, folder)
        probed = _probe(context, due.interval)
        champion = probed.get("champion", [])
        for answers in champion:
            findings += FINDINGS[answers.probe](answers.rows, app.bias.min_group)
        judged = judge(findings, app.bias)
        base = [
            finding
            for answers in probed.get("base", [])
            for finding in FINDINGS[answers.probe](answers.rows, app.bias.min_group)
        ]
        verdict, reasons = _with_absence(judged, due, context)
        reasons += left_out
        if app.inference.hosted and context.champion:
            reasons.append(NO_LIKELIHOODS)
        page = Page(
            application=app,
            interval=due.key,
            full=is_full(app, due.interval),
            verdict=verdict,
            reasons=reasons,
            rows=rows,
            judged=judged,
            base=base,
            probed=probed,
            tests=[
                row
                for one in probed.get("champion", [])
                if one.probe == "counterfactuals"
                for row in pair_tests(one.rows)
            ],
            version=context.version,
            places=[("interactions", str(due.partition) if due.partition else "none"), ("verdict", str(partition))],
        )
        output = folder / "publish"
        output.mkdir()
        (output / VERDICT).write_text(json.dumps(page.content, indent=1, ensure_ascii=False), encoding="utf-8")
        (output / REPORT).write_text(render(page), encoding="utf-8")
        facts = _facts(context, due, page)
        facts["run_url"] = _log(context, partition, facts, page, output)
        manifest = publish(
            partition,
            output,
            kind="bias",
            application=app.name,
            inputs=due.inputs,
            interval=due.interval,
            counts={"rows": rows, **{one.probe: len(one.rows) for one in champion}},
            facts=facts,
            parents=[
                *([Parent(uri=str(due.partition), digest=due.digest)] if due.partition and due.digest else []),
                *(answers.parent for one in probed.values() for answers in one),
            ],
            logs={REPORT},  # it says how long the probes took
        )
    return partition, manifest


def _outputs(context: BiasContext, due: Due, folder: Path) -> tuple[int, list[Finding], list[str]]:
    """The rows of an interval, its findings, and what was left out: scores that an older version gave in any language."""
    if due.partition is None or due.digest is None:
        return 0, [], []
    manifest = require_manifest(due.partition, due.digest)
    file = fetch(due.partition, manifest, INTERACTIONS, folder)
    alike = manifest.inputs.get("version") == SCORES_VERSION
    metrics = [metric for metric in MEASURED if alike or metric not in OF_SOME_LANGUAGES]
    app, left_out = context.application, [] if alike else [OLDER]
    # As the interval was scored: another version of the file may give its values another range.
    made = {name: Scorer.model_validate(one) for name, one in manifest.inputs.get("scorers", {}).items()}
    own = {name: made[name] for name in app.bias.metrics if name in made and made[name].range}
    left_out += [f"{name}: {NOT_SCORED}" for name in app.bias.metrics if name not in own]
    try:
        findings = group_findings(file, app.traffic.segments, app.bias.min_group, metrics, own)
    except pa.ArrowInvalid as error:
        raise BadInput(f"{due.partition}: {INTERACTIONS} cannot be read: {error}") from error
    return int(manifest.file(INTERACTIONS).rows or 0), findings, left_out


def _probe(context: BiasContext, interval: Interval) -> dict[str, list[Probed]]:
    """The answers of champion and base model to every set that the policy asks for, by role."""
    asked = [one for one in (context.champion, context.base) if one]
    if context.champion is None:
        return {}
    app = context.application
    held_out = context.held_out() if app.bias.counterfactual_pairs else []
    sets = sets_of(app, held_out, full=is_full(app, interval))
    found: dict[str, list[Probed]] = {}
    for one in asked:
        role = one.model.role

        def report(done: int, of: int, role: str = role) -> None:
            context.report(done, of, f"answers of the {role}")

        items: dict[Section, Sequence[Any]] = {
            "counterfactuals": sets.counterfactuals,
            "stereotypes": sets.stereotypes,
            "questions": sets.questions,
        }
        found[role] = [one.probe(probe, chosen, report) for probe, chosen in items.items() if chosen]
        one.unload()
    return found


def _with_absence(judged: Judged, due: Due, context: BiasContext) -> tuple[Verdict, list[str]]:
    """An interval that did not arrive is no pass, whatever the probes say."""
    reasons = [shown(reason, PHRASE_CHARACTERS) for reason in judged.reasons]
    if context.champion is None:
        reasons.append("there is no champion yet: no model was asked")
    if due.digest is not None:
        return judged.verdict, reasons
    absent = f"no interactions of {due.key} arrived; look at the runs of batch_inference for that interval"
    return Verdict.INSUFFICIENT_DATA, [absent, *reasons]


def _facts(context: BiasContext, due: Due, page: Page) -> dict[str, Any]:
    """What the policy reads in the manifest of a verdict; texts are bounded and harmless in a log."""
    largest = page.judged.worst
    return {
        "monitor": "bias",
        "interval": due.key,
        "verdict": page.verdict.value,
        "model_digest": due.model_digest,
        "model_version": context.version,
        "rows": page.rows,
        "failing": [shown(name, PHRASE_CHARACTERS) for name in page.judged.failing][:MOST_REASONS],
        "worst": largest.metric if largest else None,
        "worst_segment": shown(f"{largest.dimension}={largest.group}", PHRASE_CHARACTERS) if largest else None,
        "reasons": page.reasons[:MOST_REASONS],
        "interactions": str(due.partition) if due.partition else "",
        "sections": {name: verdict.value for name, verdict in page.judged.sections.items()},
    }


def _log(context: BiasContext, partition: UPath, facts: dict[str, Any], page: Page, folder: Path) -> str:
    """Show a verdict in MLflow and return the address of its page."""
    run = TrackingRun(
        context.application.name,
        key=f"bias-{facts['interval']}-{partition.name}",
        name=f"bias {facts['interval']}",
        tags={
            "nightshift.job": "bias",
            "nightshift.night": facts["interval"],
            "nightshift.verdict": facts["verdict"],
            "nightshift.worst": facts["worst"] or "",
            "nightshift.model_version": context.version,
            "nightshift.model_digest": facts["model_digest"],
            "nightshift.bias": str(partition),
            "nightshift.interactions": facts["interactions"],
            "mlflow.note.content": "\n".join(f"- {in_markdown(reason)}" for reason in facts["reasons"]),
        },
    )
    told = [finding for finding in page.judged.findings if finding.value is not None]
    told = sorted(told, key=lambda finding: -abs(finding.value or 0))[:MOST_METRICS]
    gaps = {f"gap/{NOT_IN_A_METRIC.sub('_', finding.name)[:200]}": finding.value or 0.0 for finding in told}
    counts = {f"asked/{one.probe}": float(len(one.rows)) for one in page.probed.get("champion", [])}
    run.metrics({"rows": page.rows, "failing": len(facts["failing"]), **counts, **page.seconds, **gaps})
    for file in sorted(folder.iterdir()):
        run.artifact(file)
    run.finish()
    return run.url
