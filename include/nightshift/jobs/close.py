"""The job `close`: write down how a retraining ended, so that a failed one blocks nobody."""

from __future__ import annotations

from pydantic import Field

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.verdict import Verdict


class Spec(JobSpec):
    """What the DAG run came to; what a task did not get to say is left out."""

    run_id: str
    order: int | None = Field(None, description="empty: the run trained for no order, and there is nothing to close")
    failed: str = Field("", description="names of the tasks that failed")
    stopped: str = Field("", description="why a task had nothing to go on with")
    model: str | None = Field(None, description="URI of the trained model")
    version: str | None = Field(None, description="its version in the registry, once it has one")
    evaluation: str | None = Field(None, description="URI of the evaluation")
    gate: Verdict | None = Field(None, description="what the gate said")
    seconds: float | None = Field(None, description="seconds of training; empty: not known")
    processes: int = Field(1, ge=1, description="processes that trained")


class Result(JobResult):
    """What is written down now. PASS: a model was registered, or there was no order. WARN: it failed."""

    verdict: Verdict
    reason: str
    order: int | None = None
    outcome: str | None = None
    hours: float = 0.0


def run(spec: Spec, progress: Progress) -> Result:
    """Keep the outcome of an order: registered when there is a version, else failed; then show it in MLflow.

    The hours are those of all processes. Of a training that left no result they are counted from the claim on, which
    is the most that they can be.

    :raises BadInput: there is no such order, or a record cannot be read.
    :raises BadEnvironment: MLflow cannot be reached; the outcome is kept, and the next try only shows it.
    """
    from datetime import UTC, datetime

    from nightshift.ledger.mirror import mirror
    from nightshift.ledger.orders import close
    from nightshift.ledger.records import Outcome
    from nightshift.ledger.store import Ledger

    if spec.order is None:
        return Result(verdict=Verdict.PASS, reason="this run trained for no order; there is nothing to close")
    ledger, now = Ledger(spec.storage, spec.application.name), datetime.now(UTC)
    claim = ledger.claim(spec.order)
    seconds = (now - claim.claimed).total_seconds() if spec.seconds is None and claim else spec.seconds or 0.0
    outcome = close(
        ledger,
        Outcome(
            number=spec.order,
            result="registered" if spec.version else "failed",
            explanation=_explanation(spec),
            run_id=spec.run_id,
            model=spec.model,
            model_version=spec.version,
            evaluation=spec.evaluation,
            verdict=spec.gate,
            hours=seconds * spec.processes / 3600,
            ended=now,
        ),
    )
    if order := ledger.orders().get(spec.order):
        mirror(spec.application.name, order.decision, outcome)
    return Result(
        verdict=Verdict.PASS if outcome.result == "registered" else Verdict.WARN,
        reason=f"retraining {spec.order}: {outcome.result}, {outcome.explanation}",
        order=spec.order,
        outcome=outcome.result,
        hours=outcome.hours,
    )


def _explanation(spec: Spec) -> str:
    if spec.version:
        return f"version {spec.version}, its gate says {spec.gate or 'nothing'}"
    if spec.failed:
        return f"{spec.failed} failed in {spec.run_id}; the log of that task says why"
    return spec.stopped or f"{spec.run_id} ended without a version"
