"""The job `order`: a person forces a retraining, snoozes them, or wakes what waits; with a reason, in the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.ledger.store import Ledger

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class Spec(JobSpec):
    """Who wants what and why. `run_id` identifies the wish: the same one is granted once."""

    run_id: str
    action: Literal["force", "snooze", "wake"]
    reason: Reason
    days: int = Field(7, ge=1, le=90, description="days of a snooze")
    by: str = Field("somebody", min_length=1, description="the person")


class Result(JobResult):
    """What came of it; `order` is set where finetune has to be woken for one."""

    verdict: Verdict
    reason: str
    order: int | None = None
    decision: str | None = None
    reports: list[str] = Field([], description="URIs of the reports that led to the order")


def run(spec: Spec, progress: Progress) -> Result:
    """Do what the person asks.

    Force orders a retraining past every bound but one: only one is open at a time. Snooze keeps the policy from ordering
    for some days; forcing still works. Wake ends a snooze, and wakes finetune for an order that no run has claimed.

    :raises BadInput: a record of the ledger cannot be read.
    :raises BadEnvironment: MLflow cannot be reached; what was ordered is kept, and the next try only shows it.
    """
    from datetime import UTC, datetime, timedelta

    from nightshift.ledger import orders
    from nightshift.ledger.mirror import mirror
    from nightshift.ledger.records import Snooze
    from nightshift.ledger.store import Ledger
    from nightshift.storage.partition import digest_of

    ledger, now = Ledger(spec.storage, spec.application.name), datetime.now(UTC)
    wish = digest_of([spec.run_id, spec.action])[:12]
    orders.close_lost(ledger, now, spec.application.retraining.lost_after_hours)
    if spec.action == "force":
        decision = orders.force(ledger, f"forced-{wish}", reason=spec.reason, by=spec.by, now=now)
        if decision:
            mirror(spec.application.name, decision)
            return Result(verdict=Verdict.PASS, reason=decision.reason, order=decision.order, decision=decision.id)
        return _waiting(ledger)
    until = now + timedelta(days=spec.days) if spec.action == "snooze" else now
    snooze = ledger.snooze()
    ends = spec.action == "wake" and snooze is not None and snooze.until > now
    if spec.action == "snooze" or ends:
        ledger.create(Snooze(id=wish, until=until, reason=spec.reason, by=spec.by, created=now))
    if spec.action == "snooze":
        kept = f"{spec.by} snoozed retraining until {until:%Y-%m-%d %H:%M} UTC: {spec.reason}"
        return Result(verdict=Verdict.PASS, reason=kept)
    result = _waiting(ledger)
    return result.model_copy(update={"reason": f"the snooze is over; {result.reason}"}) if ends else result


def _waiting(ledger: Ledger) -> Result:
    """The open order, to wake finetune for where no run has claimed it."""
    from nightshift.ledger.orders import open_order

    order = open_order(ledger)
    if order is None:
        return Result(verdict=Verdict.PASS, reason="no retraining is ordered")
    if claim := ledger.claim(order.number):
        return Result(verdict=Verdict.PASS, reason=f"retraining {order.number} is the work of {claim.run_id}")
    return Result(
        verdict=Verdict.PASS,
        reason=f"retraining {order.number} waits for finetune: {order.decision.reason}",
        order=order.number,
        decision=order.decision.id,
        reports=order.decision.reports,
    )
