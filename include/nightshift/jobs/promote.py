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
    from nightshift.monitoring.policy import Answer
    from nightshift.monitoring.records import Records
    from nightshift.registry.models import Registered

LONGEST_TAG = 4_000  # characters of a person's reason in MLflow, which keeps 5,000

log = logging.getLogger(__name__)

RequestId = Annotated[str, Field(pattern=r"^[\w-]{1,80}$")]


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

    Results of tasks say what to do; whether it was decided, the ledger says, which nobody can write by Airflow's API.

    :raises BadInput: the version is another model, another one became champion since the decision, or the ledger has no
        such decision.
    :raises BadEnvironment: MLflow cannot be reached; the answer is kept, and the next try goes on.
    """
    from nightshift.errors import BadInput
    from nightshift.monitoring.approval import sentence
    from nightshift.monitoring.gate_records import is_released
    from nightshift.monitoring.records import Records, Release
    from nightshift.registry import models

    name = spec.application.name
    if spec.version is None or not (spec.released or spec.request):
        return _held("nothing was released: the task before says why")
    released = models.version_of(name, spec.version)
    if released is None or released.digest != spec.model_digest:
        raise BadInput(f"version {spec.version} of {name} is not the model that was released")
    ledger = Records(spec.storage, name)
    if spec.request:
        answer = _answered(spec, spec.request, ledger, released)
        if answer.answer != "approved":
            return _held(f"version {spec.version}: {sentence(answer)}; the champion stays")
    if not is_released(spec.storage, name, released.digest, spec.champion_digest):
        raise BadInput(f"the ledger of {name} has no release of version {spec.version} in place of that champion")
    champion = models.with_alias(name, models.CHAMPION)
    now = champion.digest if champion else None
    if now not in {spec.champion_digest, spec.model_digest}:
        raise BadInput(
            f"version {spec.version} was released to replace another champion than version "
            f"{champion.version if champion else 'none'}; the next candidate is judged against that one"
        )
    if now != spec.model_digest:
        models.set_alias(released, models.CHAMPION)
        log.info("version %s of %s is the champion now", spec.version, name)
    # The nights before a release say nothing about the model that replaced the one they were judged against.
    if spec.model_digest not in {release.model_digest for release in ledger.releases()[-1:]}:
        ledger.replace(
            Release(
                model_digest=released.digest,
                model=released.model,
                version=released.version,
                evaluation=released.tags.get("nightshift.evaluation"),
                released=datetime.now(UTC),
            )
        )
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


def _answered(spec: Spec, request_id: str, ledger: Records, version: Registered) -> Answer:
    """What people answered, from the ledger, in the gate's records and in MLflow by now."""
    from nightshift.errors import BadInput
    from nightshift.monitoring.approval import answered_with
    from nightshift.monitoring.gate_records import record_approval
    from nightshift.monitoring.mirror import mirror_answer
    from nightshift.monitoring.policy import Answer
    from nightshift.monitoring.shown import shown
    from nightshift.registry import models

    request = ledger.request(request_id)
    if request is None or request.model_digest != spec.model_digest:
        raise BadInput(f"request {request_id} of {spec.application.name} is not about version {spec.version}")
    # Who only marks the task that asks as done has given no answer.
    ended = "the task that asked ended without an answer"
    none = Answer(id=request_id, answer="withdrawn", reason=ended, answered=datetime.now(UTC))
    answer = answered_with(ledger, none)
    if answer.answer == "approved":
        record_approval(spec.storage, spec.application.name, request, answer)
    tags = {
        "nightshift.release": "released" if answer.answer == "approved" else "held",
        "nightshift.approval": answer.answer,
        "nightshift.approval_by": shown(answer.by, 150) or "nobody",
        "nightshift.approval_reason": shown(answer.reason, LONGEST_TAG) or "none given",
        "nightshift.approval_at": answer.answered.isoformat(timespec="seconds"),
        "nightshift.approval_request": request_id,
    }
    models.set_tags(version, tags)
    mirror_answer(spec.application.name, request, answer)
    return answer
