"""The job `shadow`: a candidate answers logged prompts before users meet it, and is compared with the champion's answers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from upath import UPath

from nightshift.errors import BadInput
from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.environment import FOR_MODELS
from nightshift.jobs.progress import Progress
from nightshift.registry.versions import Registered
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, digest_of, read_manifest, require_manifest
from nightshift.storage.partition import fetch, find, publish
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from nightshift.evaluation.shadow_file import ShadowFile
    from nightshift.monitoring.logged_prompts import LoggedPrompts, Row
    from nightshift.monitoring.shadow import Compared

# Generating is bound by the same processors and allocator as training.
ENVIRONMENT = FOR_MODELS

log = logging.getLogger(__name__)


class Spec(JobSpec):
    """The candidate and the champion, by the digests of their models."""

    model_digest: str
    champion_digest: str


class Result(JobResult):
    """What the shadow found; the release reads it where it lies, and not here."""

    verdict: Verdict
    reasons: list[str]
    prompts: int
    shadow: str
    report: str
    run_url: str


def run(spec: Spec, progress: Progress) -> Result:
    """Publish the comparison, or find it. One that had too few prompts is made anew where there are others by now.

    :raises BadInput: a model, an interval or its prompts are gone or damaged.
    :raises BadEnvironment: MLflow or storage cannot be reached.
    """
    from nightshift.evaluation.shadow_file import REPORT, read_shadow, shadow_partition
    from nightshift.registry.models import find_version

    name, digests = spec.application.name, (spec.model_digest, spec.champion_digest)
    candidate, champion = (find_version(name, digest) for digest in digests)
    if spec.application.shadow is None or candidate is None or champion is None:
        raise BadInput(f"{name} has no shadow (`shadow: null`), or no version in the registry that is one of {digests}")
    partition = shadow_partition(spec.storage, spec.application, *digests)
    with scratch_folder(UPath(spec.storage)) as folder:
        manifest = read_manifest(partition)
        if manifest is None or manifest.facts["verdict"] == Verdict.INSUFFICIENT_DATA:
            manifest = _compare(spec, partition, candidate, champion, folder=folder, progress=progress)
        found = read_shadow(partition, manifest)
        assert found is not None  # noqa: S101  (it has a manifest)
        url = _log(candidate, partition, manifest, found, folder)
    return Result(
        verdict=found.verdict,
        reasons=found.reasons,
        prompts=found.prompts,
        shadow=str(partition),
        report=str(partition / manifest.file(REPORT).path),
        run_url=url,
    )


def _compare(
    spec: Spec, partition: UPath, candidate: Registered, champion: Registered, *, folder: Path, progress: Progress
) -> Manifest:
    """Have the candidate answer part by part until a look says enough, and publish what was found."""
    from nightshift.evaluation.paired import levels_of_looks
    from nightshift.evaluation.shadow_file import ShadowFile
    from nightshift.jobs.reviewing import publish_pairs
    from nightshift.ledger.store import Ledger
    from nightshift.monitoring.logged_prompts import logged_prompts
    from nightshift.monitoring.published_intervals import answered_by
    from nightshift.monitoring.shadow import compared, verdict_of

    application, settings = spec.application, spec.application.shadow
    assert settings is not None  # noqa: S101  (`run` looked)
    release = Ledger(spec.storage, application.name).newest_release()
    answered = answered_by(spec.storage, application, champion.digest, release, settings.intervals)
    logged = logged_prompts(answered, application, spec.storage, salt=candidate.digest)
    inputs = {
        "candidate": candidate.digest,
        "champion": champion.digest,
        "prompts": digest_of([row["digest"] for row in logged.rows]),
        "nights": [one.digest for one in logged.intervals],
    }
    if found := find(partition, inputs):
        return found
    parts = logged.parts(settings.looks, settings.min_prompts)
    levels = levels_of_looks(settings.level, [part.stop / len(logged.rows) for part in parts])
    answers: list[Row] = []
    look, level, metric = 0, settings.level, application.gate.metric
    comparison = compared([], [], None, metric)
    verdict, reasons = verdict_of(comparison, settings, level, last=True)
    for look, (part, level) in enumerate(zip(parts, levels, strict=True), 1):
        answers += _answers(spec, logged, part, candidate, folder=folder / str(look), progress=progress)
        comparison = compared(logged.rows[: len(answers)], answers, logged.judged_by, metric)
        verdict, reasons = verdict_of(comparison, settings, level, last=look == len(parts))
        log.info(
            "after %d of %d prompts: %s", len(answers), len(logged.rows), "; ".join(reasons) or "not enough to say"
        )
        if verdict is not None:
            break
    file = ShadowFile(
        application=application.name,
        version=candidate.version,
        champion=champion.version,
        verdict=verdict or Verdict.ERROR,
        reasons=reasons,
        answered=len(answers),
        prompts=len(comparison.differences),
        metric=comparison.metric,
        difference=comparison.difference(level),
        margin=settings.margin,
        level=settings.level,
        look=look,
        looks=len(parts),
        means=comparison.means,
    )
    publish_pairs(spec, partition.name, inputs, logged=logged, found=comparison, models=(champion, candidate))
    return _publish(spec, partition, inputs, comparison, file)


def _answers(
    spec: Spec, logged: LoggedPrompts, part: slice, candidate: Registered, *, folder: Path, progress: Progress
) -> list[Row]:
    """The candidate's interactions with a part of the prompts; what was answered before a kill is found."""
    import pyarrow.parquet as pq

    from nightshift.data.interactions import INTERACTIONS
    from nightshift.jobs import generate, score
    from nightshift.monitoring.logged_prompts import columns_of

    at, manifest = logged.publish(part, spec.storage, spec.application.name)
    asked = {"application": spec.application, "storage": spec.storage, "prompts": str(at), "digest": manifest.digest}
    generated = generate.run(generate.Spec(**asked, model=candidate.version, in_batches=False), progress)
    by = {"model": candidate.version, "model_digest": candidate.digest, "responses": generated.responses}
    scored = score.run(score.Spec(**asked, **by, shadow=True), progress)
    target = UPath(scored.interactions)
    file = fetch(target, require_manifest(target, scored.digest), INTERACTIONS, folder)
    columns = columns_of(spec.application, pq.read_schema(file))
    rows: list[Row] = pq.read_table(file, columns=columns).to_pylist()
    if [row["digest"] for row in rows] != [row["digest"] for row in logged.rows[part]]:
        raise BadInput(f"{target} does not answer the prompts of {at}")
    paid = generated.cost / len(rows) if generated.cost else None
    endpoint = spec.application.inference.hosted
    # The champion's intervals were asked in batches, and the candidate's will be.
    share = 1 - endpoint.batch.discount if endpoint and endpoint.batch else 1.0
    costs = [row.get("cost", paid) for row in rows]
    return [
        {**row, "cost": None if cost is None else cost * share, "paid": paid or 0.0}
        for row, cost in zip(rows, costs, strict=True)
    ]


def _publish(spec: Spec, partition: UPath, inputs: dict[str, Any], found: Compared, file: ShadowFile) -> Manifest:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from nightshift.evaluation.shadow_file import PAIRS, REPORT, SHADOW
    from nightshift.monitoring.logged_prompts import FURTHER
    from nightshift.monitoring.shadow_report import render

    cost = sum(row["paid"] for row in found.answers)
    with scratch_folder(UPath(spec.storage)) as folder:
        (folder / SHADOW).write_text(file.model_dump_json(indent=1), encoding="utf-8")
        (folder / REPORT).write_text(render(spec.application, file, found), encoding="utf-8")
        pairs = {name: [row[name] for row in found.rows] for name in ("digest", "unit", "prompt", "reference")}
        pairs |= {
            "champion": [row["response"] for row in found.rows],
            "candidate": [row["response"] for row in found.answers],
        }
        columns = {name: pa.array(texts, pa.string()) for name, texts in pairs.items()}
        none = [(None, None)] * file.answered
        for name, metric in (("candidate_score", found.metric), ("candidate_valid", "valid")):
            scores = found.scores.get(metric or "", none)
            columns[name] = pa.array([score for _, score in scores], pa.float64())
        own = spec.application.made_by_own_scorers.get("scorers", {})
        for name in ("latency_ms", *FURTHER, *(name for name, made in own.items() if made["kind"] == "share")):
            columns[f"candidate_{name}"] = pa.array([row.get(name) for row in found.answers], pa.float64())
        pq.write_table(pa.table(columns), folder / PAIRS)
        return publish(
            partition,
            folder,
            kind="shadow",
            application=spec.application.name,
            inputs=inputs,
            rows={PAIRS: file.answered},
            counts={"answered": file.answered, "prompts": file.prompts},
            facts={
                "verdict": file.verdict.value,
                "reasons": file.reasons,
                "model_version": file.version,
                **spec.application.made_by_own_scorers,
                **({"cost": round(cost, 6)} if cost else {}),
            },
        )


def _log(candidate: Registered, partition: UPath, manifest: Manifest, found: ShadowFile, folder: Path) -> str:
    from nightshift.evaluation.shadow_file import REPORT, SHADOW
    from nightshift.registry.models import set_tags
    from nightshift.registry.tracking import TrackingRun

    run = TrackingRun(
        found.application,
        key=f"shadow-{partition.name}",
        name=f"shadow of version {found.version} behind version {found.champion}",
        tags={
            "nightshift.job": "shadow",
            "nightshift.shadow": str(partition),
            "nightshift.verdict": found.verdict.value,
            "nightshift.model_version": found.version,
            "mlflow.note.content": "\n".join(f"- {reason}" for reason in found.reasons),
        },
    )
    run.metrics(
        {
            f"{side}/{name}": mean
            for place, side in enumerate(("champion", "candidate"))
            for name, means in found.means.items()
            if (mean := means[place]) is not None
        }
        | {"prompts": float(found.prompts)}
        | {
            f"difference/{name}": value
            for name, value in (found.difference.model_dump() if found.difference else {}).items()
        }
    )
    for name in (REPORT, SHADOW):
        run.artifact(fetch(partition, manifest, name, folder / "report"))
    run.finish()
    set_tags(candidate, {"nightshift.shadow": found.verdict.value, "nightshift.shadow_report": str(partition)})
    return run.url
