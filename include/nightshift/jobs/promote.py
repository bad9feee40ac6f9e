"""The job `promote`: move the alias `champion` to a released version. Users reach a model only through this alias."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.verdict import Verdict

log = logging.getLogger(__name__)


class Spec(JobSpec):
    """What the job `release` answered: the version, whether it was released, and which champion it replaces."""

    released: bool
    version: str | None = None
    model_digest: str | None = None
    champion_digest: str | None = None


class Result(JobResult):
    """Which version is the champion now; INSUFFICIENT_DATA: the candidate was held back and nothing moved."""

    verdict: Verdict
    reasons: list[str]
    version: str | None = None
    model_digest: str | None = None
    replaced: str | None = None
    model_url: str = ""


def run(spec: Spec, progress: Progress) -> Result:
    """Move the alias, unless it is there.

    :raises BadInput: the version is another model, or another one became champion since the decision.
    :raises BadEnvironment: MLflow cannot be reached.
    """
    from nightshift.errors import BadInput
    from nightshift.monitoring.records import Records, Release
    from nightshift.registry import models

    name = spec.application.name
    if not spec.released or spec.version is None:
        reason = "nothing was released: the task before says why"
        return Result(verdict=Verdict.INSUFFICIENT_DATA, reasons=[reason])
    released = models.version_of(name, spec.version)
    if released is None or released.digest != spec.model_digest:
        raise BadInput(f"version {spec.version} of {name} is not the model that was released")
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
    ledger = Records(spec.storage, name)
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
