"""The job `due`: is there a retraining to train for? What the ledger says counts, whatever woke the DAG."""

from __future__ import annotations

import logging

from pydantic import Field

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.verdict import Verdict

log = logging.getLogger(__name__)


class Spec(JobSpec):
    """The DAG run that asks."""

    dag_id: str
    run_id: str
    wanted: bool = Field(False, description="a person or the application's own schedule asks for a training")
    by: str = Field("", description="the person; empty: the schedule")


class Result(JobResult):
    """PASS with why to train, and the order where there is one; INSUFFICIENT_DATA when nothing is due."""

    verdict: Verdict
    reason: str
    order: int | None = None
    decision: str | None = None
    reports: list[str] = Field([], description="URIs of the reports that led to it")


def run(spec: Spec, progress: Progress) -> Result:
    """Claim the open order for this DAG run, or find that it has it already.

    :raises BadInput: a record of the ledger cannot be read.
    """
    from datetime import UTC, datetime

    from nightshift.ledger.orders import claim
    from nightshift.ledger.store import Ledger

    order, told = claim(Ledger(spec.storage, spec.application.name), spec.dag_id, spec.run_id, datetime.now(UTC))
    if order is None:
        log.info("%s", told)
        if spec.wanted:
            return Result(verdict=Verdict.PASS, reason=f"{spec.by or 'the schedule'} asked for a training")
        return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=f"nothing due: {told}")
    log.info("retraining %d, ordered %s: %s", order.number, f"{order.created:%Y-%m-%d %H:%M} UTC", told)
    for report in order.decision.reports:
        log.info("report: %s", report)
    return Result(
        verdict=Verdict.PASS,
        reason=order.decision.reason,
        order=order.number,
        decision=order.decision.id,
        reports=order.decision.reports,
    )
