"""The job `score`: a night's prompts and responses become the night's interactions, with every score."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from upath import UPath

from nightshift.errors import BadEnvironment, BadInput
from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.data.partition import Manifest

VERSION = 1  # raised when the same responses would be scored in another way, so that they are scored again

log = logging.getLogger(__name__)


class Spec(JobSpec):
    """The prompts of a night and who answered them.

    :param responses: folder with the parts that `generate` made; without it the night was served elsewhere, and the
        prompts' partition has the responses.
    :param model: version in the registry and digest of the model that answered; empty where it was served elsewhere.
    :param replay: keep the result apart from the nights, below the model's digest.
    """

    prompts: str
    digest: str
    responses: str | None = None
    model: str = ""
    model_digest: str = ""
    replay: bool = False


class Result(JobResult):
    """The interactions, how the responses ended, and the means of their scores (over the rows that have one)."""

    verdict: Verdict
    reason: str
    interactions: str | None = None
    digest: str | None = None
    rows: int = 0
    means: dict[str, float] = Field(default_factory=dict)
    run_url: str = ""


def run(spec: Spec, progress: Progress) -> Result:
    """Publish the interactions of a night, unless they are there, and log what they cost and score.

    :raises BadInput: prompts and responses do not belong together, or the prompts have no responses.
    :raises BadEnvironment: not all parts are there yet, or MLflow cannot be reached.
    """
    from nightshift.data.partition import find, require_manifest
    from nightshift.data.storage import scratch
    from nightshift.inference.prompts import Prompts

    partition = UPath(spec.prompts)
    manifest = require_manifest(partition, spec.digest)
    folder = scratch(UPath(spec.storage))
    try:
        prompts = Prompts(partition, manifest, folder)
        if prompts.rows == 0:
            return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=f"{partition} holds no prompt")
        parts = _parts(spec, prompts.rows)
        inputs = _inputs(spec, parts)
        target = _address(spec, manifest)
        interactions = find(target, inputs)
        if interactions is None:
            interactions = _score(
                spec, prompts, manifest, parts, inputs=inputs, target=target, folder=folder, progress=progress
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    facts = interactions.facts
    return Result(
        verdict=Verdict.PASS,
        reason=f"{interactions.counts['rows']:,} interactions, scored in {sum(facts['seconds'].values()):.1f} CPU-seconds",
        interactions=str(target),
        digest=interactions.digest,
        rows=interactions.counts["rows"],
        means=facts["means"],
        run_url=_log(spec, target, interactions),
    )


def _parts(spec: Spec, rows: int) -> list[tuple[UPath, Manifest]]:
    """The parts that hold the responses, in order of their rows; none where the night was served elsewhere."""
    from nightshift.data.partition import read_manifest
    from nightshift.inference.answering import part_address
    from nightshift.inference.prompts import parts_of

    if spec.responses is None:
        return []
    if not spec.model_digest:
        raise BadInput("responses were given without model_digest: whose are they?")
    parts, missing = [], []
    ranges = parts_of(rows, spec.application.inference.rows_per_part)
    for first, last in ranges:
        address = part_address(UPath(spec.responses), first, last)
        manifest = read_manifest(address)
        if manifest is None:
            missing.append(f"{first}-{last}")
        elif (manifest.inputs["prompts"], manifest.inputs["model"]) != (spec.digest, spec.model_digest):
            raise BadInput(f"{address} holds answers of another model, or to other prompts")
        else:
            parts.append((address, manifest))
    if missing:
        raise BadEnvironment(
            f"{spec.responses}: not all parts are there yet: {len(missing)} of {len(ranges)} are missing (rows "
            f"{', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}); run generate again for the missing shards"
        )
    return parts


def _inputs(spec: Spec, parts: list[tuple[UPath, Manifest]]) -> dict[str, Any]:
    application = spec.application
    return {
        "prompts": spec.digest,
        "responses": [manifest.digest for _, manifest in parts],
        "model": spec.model,
        "model_digest": spec.model_digest,
        "prompt": application.prompt.model_dump(mode="json"),
        "response_format": application.inference.response_format,
        "judge": application.judge.model_dump(mode="json") if application.judge else None,
        "version": VERSION,
    }


def _address(spec: Spec, prompts: Manifest) -> UPath:
    from nightshift.data.partition import partition_of

    if prompts.interval is None:
        raise BadInput(f"{spec.prompts} is of no data interval")
    place = ["replays", spec.model_digest[:16]] if spec.replay else ["interactions"]
    return partition_of(spec.storage, spec.application.name, *place, prompts.interval.key)


def _score(
    spec: Spec,
    prompts: Any,
    manifest: Manifest,
    parts: list[tuple[UPath, Manifest]],
    *,
    inputs: dict[str, Any],
    target: UPath,
    folder: Path,
    progress: Progress,
) -> Manifest:
    from nightshift.data.interactions import INTERACTIONS
    from nightshift.data.partition import Parent, digest_of, publish
    from nightshift.evaluation.scorers import Scorers
    from nightshift.inference.night import InteractionWriter, answered, served
    from nightshift.training.base_model import resolve_base_model

    tokenizer = resolve_base_model(spec.application.base_model)
    scorers = Scorers(spec.application, tokenizer, night_rows=prompts.rows)
    output = folder / "interactions"
    output.mkdir()
    nights = answered(prompts, parts, folder) if parts else served(prompts)
    identity = {
        "model": spec.model,
        "model_digest": spec.model_digest,
        "prompt_version": digest_of(spec.application.prompt.model_dump(mode="json"))[:12],
    }
    judged: list[float | None] = []
    known: list[float | None] = []
    with InteractionWriter(output / INTERACTIONS, identity) as writer:
        for rows in nights:
            columns = scorers.score(
                rows["prompt"].to_pylist(),
                rows["response"].to_pylist(),
                rows["context"].to_pylist(),
                rows["reference"].to_pylist(),
                finish_reasons=rows["finish_reason"].to_pylist(),
            )
            writer.write(rows, columns)
            if scorers.judge:
                judged += columns["judge"]
                known += columns["exact_match"]
            progress.report(writer.rows, prompts.rows)
    judge = scorers.judge
    return publish(
        target,
        output,
        kind="interactions",
        application=spec.application.name,
        interval=manifest.interval,
        inputs=inputs,
        rows={INTERACTIONS: writer.rows},
        counts={"rows": writer.rows, **writer.finish_reasons},
        facts={
            **identity,
            "served_elsewhere": not parts,
            "replay": spec.replay,
            "seconds": {name: round(seconds, 3) for name, seconds in sorted(scorers.seconds.items())},
            "means": writer.means,
            "tokens": sum(part.counts["tokens"] for _, part in parts),
            "generation_seconds": round(sum(part.facts["seconds"] for _, part in parts), 3),
            "engines": sorted({f"{part.facts['engine']} on {part.facts['device']}" for _, part in parts}),
            "judge": {**dict(sorted(judge.counts.items())), **_agreement(judged, known)} if judge else None,
        },
        parents=[
            Parent(uri=spec.prompts, digest=spec.digest),
            *(Parent(uri=str(address), digest=part.digest) for address, part in parts),
        ],
    )


def _agreement(judged: list[float | None], known: list[float | None]) -> dict[str, float]:
    """How far the judge agrees with exact match, where references are known and tell."""
    from nightshift.evaluation.agreement import agreement

    measured = agreement(judged, known).model_dump(include={"rows", "kappa", "auc"})
    return {f"agreement_{name}": value for name, value in measured.items() if value is not None}


def _log(spec: Spec, target: UPath, interactions: Manifest) -> str:
    from nightshift.registry.tracking import TrackingRun

    assert interactions.interval is not None  # noqa: S101  (every night has one)
    facts, counts = interactions.facts, interactions.counts
    kind = "replay" if spec.replay else "interactions"
    run = TrackingRun(
        spec.application.name,
        key=f"score-{interactions.digest[:16]}",
        name=f"{kind} {interactions.interval.key}",
        tags={
            "nightshift.job": "score",
            "nightshift.interactions": str(target),
            "nightshift.interactions_digest": interactions.digest,
            "nightshift.interval": interactions.interval.key,
            "nightshift.model_version": spec.model,
            "nightshift.model_digest": spec.model_digest,
        },
    )
    run.params(
        {
            "interval": interactions.interval.key,
            "model": spec.model or "served elsewhere",
            "prompt_version": facts["prompt_version"],
            "inference": spec.application.inference.model_dump(mode="json"),
        }
    )
    seconds = facts["generation_seconds"]
    run.metrics(
        {
            **{f"count/{name}": number for name, number in counts.items()},
            **{f"mean/{name}": mean for name, mean in facts["means"].items()},
            **{f"cpu_seconds/{name}": spent for name, spent in facts["seconds"].items()},
            **{f"judge/{name}": number for name, number in (facts["judge"] or {}).items()},
            "generation_seconds": seconds,
            "tokens_per_second": facts["tokens"] / seconds if seconds else 0.0,
        }
    )
    run.finish()
    return run.url
