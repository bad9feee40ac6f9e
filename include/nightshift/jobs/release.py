"""The job `release`: decide whether a candidate may replace the champion, and record the decision with its numbers."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import Field
from upath import UPath

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.verdict import Verdict


class Spec(JobSpec):
    """Which candidate; a reason turns a WARN, or an earlier champion, into a release that its giver answers for."""

    version: int | None = Field(None, ge=1, description="version in the registry; empty: the newest candidate")
    reason: str | None = Field(
        None, max_length=2_000, description="why a WARN is released all the same, or an earlier champion comes back"
    )


class Result(JobResult):
    """The decision. Nothing has moved yet: the alias moves in the job `promote`."""

    verdict: Verdict
    reasons: list[str]
    released: bool = False
    version: str | None = None
    model_digest: str | None = None
    champion_digest: str | None = None


def run(spec: Spec, progress: Progress) -> Result:
    """Decide about the candidate by the gate, from the evaluation that it was registered with.

    :raises BadInput: there is no such version, or its evaluation is gone or damaged.
    :raises BadEnvironment: MLflow or storage cannot be reached.
    """
    from nightshift.data.partition import digest_of, require_manifest
    from nightshift.errors import BadInput
    from nightshift.evaluation.comparison import read_scores
    from nightshift.evaluation.gates import gate
    from nightshift.monitoring.gate_records import GateRecord, record
    from nightshift.monitoring.records import Records
    from nightshift.registry import models

    name = spec.application.name
    if spec.version:
        candidate = models.version_of(name, str(spec.version))
        if candidate is None:
            raise BadInput(f"{name} has no version {spec.version} in the registry")
    elif (candidate := models.with_alias(name, models.CANDIDATE)) is None:
        return _nothing("there is no candidate yet; finetune registers one")
    champion = models.with_alias(name, models.CHAMPION)
    if champion and champion.digest == candidate.digest:
        return _nothing(f"version {candidate.version} is the champion already")

    # A model that was replaced does not come back by itself: whoever took it back had a reason.
    back = candidate.digest in {known.model_digest for known in Records(spec.storage, name).releases()}
    if back and not (spec.version and spec.reason):
        return _nothing(
            f"version {candidate.version} was the champion before; to bring it back, give its number and a reason in the form"
        )
    evaluation = UPath(candidate.tags.get("nightshift.evaluation", ""))
    digest = candidate.tags.get("nightshift.evaluation_digest", "")
    scores = read_scores(evaluation, require_manifest(evaluation, digest))
    champion_digest = champion.digest if champion else None
    if not back and scores.models.get("champion") != champion_digest:
        return _nothing(
            f"version {candidate.version} was not judged against version {champion.version if champion else 'none'}, "
            "which is the champion by now; finetune again judges it anew"
        )
    decision = gate(scores.comparison, spec.application.gate, scores.slices)
    by_person = back or (bool(spec.reason) and decision.verdict is Verdict.WARN)
    kept = record(
        spec.storage,
        GateRecord(
            application=name,
            version=candidate.version,
            model_digest=candidate.digest,
            champion_digest=champion_digest,
            evaluation=str(evaluation),
            evaluation_digest=digest,
            policy=digest_of(spec.application.gate.model_dump(mode="json")),
            verdict=decision.verdict,
            reasons=decision.reasons,
            numbers=decision.numbers,
            released=decision.verdict is Verdict.PASS or by_person,
            by=str(spec.reason) if by_person else "gate",
            decided=datetime.now(UTC),
        ),
    )
    models.set_tags(candidate, {"nightshift.release": "released" if kept.released else "held"})
    return Result(
        verdict=kept.verdict,
        reasons=kept.reasons,
        released=kept.released,
        version=kept.version,
        model_digest=kept.model_digest,
        champion_digest=kept.champion_digest,
    )


def _nothing(reason: str) -> Result:
    return Result(verdict=Verdict.INSUFFICIENT_DATA, reasons=[reason])
