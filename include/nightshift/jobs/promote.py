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
    from nightshift.registry.versions import Registered

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
    """Show what people answered, write the release down, then move the alias, unless it is there.

    Results of tasks say what to do; whether it was decided, the ledger says, which nobody can write by Airflow's API. A
    decision moves the alias once: a release, or a "no", that came after it has spent it.

    :raises BadInput: the version is another model, another one became champion since the decision, or the ledger has no
        such decision that counts.
    :raises BadEnvironment: MLflow cannot be reached; the answer is kept, and the next try goes on.
    """
    from nightshift.errors import BadInput
    from nightshift.ledger.approval import sentence
    from nightshift.ledger.store import Ledger
    from nightshift.registry import models, versions

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
    champion = models.with_alias(name, versions.CHAMPION)
    now = champion.digest if champion else None
    if now not in {spec.champion_digest, spec.model_digest}:
        raise BadInput(
            f"version {spec.version} was released to replace another champion than version "
            f"{champion.version if champion else 'none'}; the next candidate is judged against that one"
        )
    number = _release(spec, released, now, ledger)
    if now != spec.model_digest:
        models.set_alias(released, versions.CHAMPION)
        log.info("version %s of %s is the champion now", spec.version, name)
    models.set_tags(released, {"nightshift.release": "released", versions.RELEASE_TAG: str(number)})
    return Result(
        verdict=Verdict.PASS,
        reasons=[f"version {spec.version} is the champion"],
        version=spec.version,
        model_digest=released.digest,
        replaced=champion.version if champion and now != spec.model_digest else None,
        model_url=released.url,
    )


def _release(spec: Spec, version: Registered, champion: str | None, ledger: Ledger) -> int:
    """Write the release down, before the alias moves, or find what a try before this one wrote; return its number.

    The nights before it say nothing about the model that replaced the one they were judged against.

    :param champion: digest of the model that has the alias.
    """
    from nightshift.errors import BadEnvironment, BadInput
    from nightshift.ledger.records import Release
    from nightshift.ledger.releases import decided_next, unfinished
    from nightshift.registry import versions

    name, releases = spec.application.name, ledger.releases()
    newest = releases[-1] if releases else None
    if newest and newest.model_digest == version.digest:
        carried_out = version.tags.get(versions.RELEASE_TAG, "")
        if champion == version.digest or unfinished(newest, version.digest, carried_out):
            return newest.number
    if decided_next(ledger, version.digest, spec.champion_digest) is None:
        raise BadInput(
            f"the ledger of {name} has no release of version {spec.version} in place of that champion that still counts: a "
            'later release, or a "no", spends what was decided; to decide anew, start this DAG with the number of the version'
        )
    release = Release(
        number=len(releases) + 1,
        ahead=True,
        model_digest=version.digest,
        model=version.model,
        version=version.version,
        evaluation=version.tags.get("nightshift.evaluation"),
        released=datetime.now(UTC),
    )
    if not ledger.create(release):
        raise BadEnvironment(f"release {release.number} of {name} was taken in this moment; the next try looks again")
    return release.number


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
        record_approval(ledger, request, answer)
    mirror_answers(spec.application.name, ledger)
    return answer
