"""The job `release`: decide whether a candidate may replace the champion, or whether people are asked, with its numbers."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from pydantic import Field
from upath import UPath

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.verdict import Verdict

log = logging.getLogger(__name__)


class Spec(JobSpec):
    """Which candidate, and what the person who started the run wants.

    Where nobody else is to be asked, a reason turns a WARN, or an earlier champion, into a release that its giver answers
    for. Where people are asked, it is part of the question.
    """

    version: int | None = Field(None, ge=1, description="version in the registry; empty: the newest candidate")
    reason: str | None = Field(
        None, max_length=2_000, description="why a WARN is released all the same, or an earlier champion comes back"
    )
    ask: bool = Field(False, description="have a person decide, whatever the application says")
    by: str = Field("", description="who started the run by hand")
    run_id: str = Field("", description="the DAG run; a reason that is given in another one is another decision")


class Result(JobResult):
    """The decision. Nothing has moved yet: the alias moves in the job `promote`.

    `ask` says whether people are to be asked: about `subject` and `body` (Markdown), as the request `request`. A request
    without `ask` was approved before. `after` is the number of the newest release then: the next one spends the decision.
    """

    verdict: Verdict
    reasons: list[str]
    released: bool = False
    version: str | None = None
    model_digest: str | None = None
    champion_digest: str | None = None
    evaluation_digest: str | None = None
    after: int | None = None
    ask: bool = False
    request: str | None = None
    subject: str = ""
    body: str = ""


def run(spec: Spec, progress: Progress) -> Result:
    """Decide about the candidate by the gate, from the evaluation that it was registered with.

    :raises BadInput: there is no such version, or its evaluation is gone or damaged.
    :raises BadEnvironment: MLflow or storage cannot be reached.
    """
    from nightshift.errors import BadInput
    from nightshift.evaluation.gates import gate
    from nightshift.evaluation.score_file import read_scores
    from nightshift.jobs.request import request_text
    from nightshift.ledger.approval import Wish, course, earlier_answer, sentence, withdraw_open
    from nightshift.ledger.gate_records import record
    from nightshift.ledger.records import GateRecord
    from nightshift.ledger.releases import unfinished
    from nightshift.ledger.shown_answers import mirror_answers
    from nightshift.ledger.store import Ledger
    from nightshift.registry import models, versions
    from nightshift.storage.partition import digest_of, require_manifest

    name, now = spec.application.name, datetime.now(UTC)
    ledger = Ledger(spec.storage, name)
    for answer in withdraw_open(ledger, now):
        log.info("request %s: %s", answer.id, sentence(answer))
    mirror_answers(name, ledger)
    if spec.version:
        candidate = models.version_of(name, str(spec.version))
        if candidate is None:
            raise BadInput(f"{name} has no version {spec.version} in the registry")
    elif (candidate := models.with_alias(name, versions.CANDIDATE)) is None:
        return _nothing("there is no candidate yet; finetune registers one")
    champion = models.with_alias(name, versions.CHAMPION)
    if champion and champion.digest == candidate.digest:
        return _nothing(f"version {candidate.version} is the champion already")

    releases = ledger.releases()
    if releases and unfinished(releases[-1], candidate.digest, candidate.tags.get(versions.RELEASE_TAG, "")):
        return Result(
            verdict=Verdict.PASS,
            reasons=[
                f"version {candidate.version} was released as number {releases[-1].number}; that is carried out now"
            ],
            released=True,
            version=candidate.version,
            model_digest=candidate.digest,
            champion_digest=champion.digest if champion else None,
        )
    # A model that was replaced does not come back by itself: whoever took it back had a reason.
    back = candidate.digest in {known.model_digest for known in releases}
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
    way = course(
        decision.verdict,
        spec.application.approval,
        Wish(again=bool(spec.version or spec.ask), ask=spec.ask, reason=bool(spec.reason)),
        earlier=earlier_answer(ledger, candidate.digest, digest, champion_digest),
        returns=back,
    )
    request = f"{now:%Y%m%dT%H%M%S%f}-{candidate.digest[:8]}" if way.way == "ask" else way.request
    kept = record(
        ledger,
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
            released=way.way == "release" and request is None,
            by=str(spec.reason) if way.by_person else "gate",
            person=(spec.by or "somebody") if way.by_person else None,
            request=request,
            run_id=spec.run_id,
            after=len(releases),
            decided=now,
        ),
    )
    tag = {"release": "released", "ask": "asked", "hold": "held"}[way.way]
    models.set_tags(candidate, {"nightshift.release": tag})
    subject, body = "", ""
    if way.way == "ask":
        subject, body = request_text(
            spec.application,
            spec.storage,
            candidate,
            champion,
            scores,
            verdict=kept.verdict,
            reasons=kept.reasons,
            returns=back,
            wish=(spec.by, spec.reason) if spec.reason else None,
        )
    return Result(
        verdict=kept.verdict,
        reasons=[*kept.reasons, *filter(None, [way.why])],
        released=way.way == "release",
        version=kept.version,
        model_digest=kept.model_digest,
        champion_digest=kept.champion_digest,
        evaluation_digest=kept.evaluation_digest,
        after=kept.after,
        ask=way.way == "ask",
        request=request,
        subject=subject,
        body=body,
    )


def _nothing(reason: str) -> Result:
    return Result(verdict=Verdict.INSUFFICIENT_DATA, reasons=[reason])
