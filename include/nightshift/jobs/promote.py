"""The job `promote`: move the alias `champion` to a released version. Users reach a model only through this alias."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.ledger.records import Answer
    from nightshift.ledger.store import Ledger

log = logging.getLogger(__name__)

RequestId = Annotated[str, Field(pattern=r"^[\w-]+$", max_length=80)]


class Spec(JobSpec):
    """What the job `release` answered: the version, whether it was released, and which champion it replaces.

    Where people were asked, `request` names what they were asked; the ledger has their answer.
    """

    released: bool
    version: str | None = None
    model_digest: str | None = None
    champion_digest: str | None = None
    request: RequestId | None = None


class Result(JobResult):
    """Which version is the champion now; INSUFFICIENT_DATA: the candidate was held back and nothing moved."""

    verdict: Verdict
    reasons: list[str]
    version: str | None = None
    model_digest: str | None = None
    replaced: str | None = None
    model_url: str = ""


def run(spec: Spec, progress: Progress) -> Result:
    """Show what people answered, then move the alias, unless it is there.

    Results of tasks say what to do; whether it was decided, the ledger says, which nobody can write by Airflow's API. A
    decision moves the alias once: a release, or a "no", that came after it has spent it.

    :raises BadInput: the version is another model, another one became champion since the decision, or the ledger has no
        such decision that counts.
    :raises BadEnvironment: MLflow cannot be reached; the answer is kept, and the next try goes on.
    """
    from nightshift.errors import BadInput
    from nightshift.ledger.approval import sentence, spent_until
    from nightshift.ledger.gate_records import release_of
    from nightshift.ledger.store import Ledger, Release
    from nightshift.registry import models

    name = spec.application.name
    if spec.version is None or not (spec.released or spec.request):
        return _held("nothing was released: the task before says why")
    released = models.version_of(name, spec.version)
    if released is None or released.digest != spec.model_digest:
        raise BadInput(f"version {spec.version} of {name} is not the model that was released")
    ledger = Ledger(spec.storage, name)
    if spec.request:
        answer = _answered(spec, spec.request, ledger)
        if answer.answer != "approved":
            models.set_tags(released, {"nightshift.release": "held"})
            return _held(f"version {spec.version}: {sentence(answer)}; the champion stays")
    champion = models.with_alias(name, models.CHAMPION)
    now = champion.digest if champion else None
    if now not in {spec.champion_digest, spec.model_digest}:
        raise BadInput(
            f"version {spec.version} was released to replace another champion than version "
            f"{champion.version if champion else 'none'}; the next candidate is judged against that one"
        )
    # Where the alias is there already, a try before this one may have been killed behind it.
    since = None if now == spec.model_digest else spent_until(ledger, released.digest)
    decision = release_of(spec.storage, name, released.digest, spec.champion_digest, since)
    if decision is None:
        later = f" later than {since:%Y-%m-%d %H:%M:%S} UTC, when what was decided before was spent" if since else ""
        raise BadInput(
            f"the ledger of {name} has no release of version {spec.version} in place of that champion{later}; to decide "
            "anew, start this DAG with the number of the version"
        )
    if now != spec.model_digest:
        models.set_alias(released, models.CHAMPION)
        log.info("version %s of %s is the champion now", spec.version, name)
    # The nights before a release say nothing about the model that replaced the one they were judged against.
    newest = ledger.releases()[-1:]
    if not any(entry.model_digest == released.digest and entry.released > decision.decided for entry in newest):
        ledger.replace(
            Release(
                model_digest=released.digest,
                model=released.model,
                version=released.version,
                evaluation=released.tags.get("nightshift.evaluation"),
                released=datetime.now(UTC),
            )
        )
    models.set_tags(released, {"nightshift.release": "released"})
    return Result(
        verdict=Verdict.PASS,
        reasons=[f"version {spec.version} is the champion"],
        version=spec.version,
        model_digest=released.digest,
        replaced=champion.version if champion and now != spec.model_digest else None,
        model_url=released.url,
    )


def _held(reason: str) -> Result:
    return Result(verdict=Verdict.INSUFFICIENT_DATA, reasons=[reason])


def _answered(spec: Spec, request_id: str, ledger: Ledger) -> Answer:
    """What people answered, from the ledger, in the gate's records and in MLflow by now."""
    from nightshift.errors import BadInput
    from nightshift.ledger.approval import answered_with
    from nightshift.ledger.gate_records import record_approval
    from nightshift.ledger.records import Answer
    from nightshift.ledger.shown_answers import mirror_answers

    request = ledger.request(request_id)
    if request is None or request.model_digest != spec.model_digest:
        raise BadInput(f"request {request_id} of {spec.application.name} is not about version {spec.version}")
    # Who only marks the task that asks as done has given no answer.
    ended = "the task that asked ended without an answer"
    none = Answer(id=request_id, answer="withdrawn", reason=ended, answered=datetime.now(UTC))
    answer = answered_with(ledger, none)
    if answer.answer == "approved":
        record_approval(spec.storage, spec.application.name, request, answer)
    mirror_answers(spec.application.name, ledger)
    return answer
