"""Shows the ledger's decisions and answers in MLflow, one run each. The ledger is the truth; what MLflow missed is sent again."""

from __future__ import annotations

from nightshift.monitoring.approval import sentence
from nightshift.monitoring.policy import Answer, Decision, Outcome, Request
from nightshift.monitoring.shown import in_markdown
from nightshift.registry.tracking import TrackingRun


def mirror(application: str, decision: Decision, outcome: Outcome | None = None) -> str:
    """Log a decision, with the outcome of its order where there is one, and return the address of its page.

    :raises BadEnvironment: MLflow cannot be reached; the ledger has the decision all the same.
    """
    notes = [decision.reason, *(f"Report: {report}" for report in decision.reports)]
    if outcome:
        notes.append(f"Retraining {outcome.number}: {outcome.result}, {outcome.explanation}")
    run = TrackingRun(
        application,
        key=f"decision-{decision.id}",
        name=f"decision {decision.id}",
        tags={
            "nightshift.job": "decision",
            "nightshift.decision": decision.id,
            "nightshift.action": decision.action,
            "nightshift.code": decision.code,
            "nightshift.model_digest": decision.model_digest,
            "mlflow.note.content": "\n".join(f"- {in_markdown(note)}" for note in notes),
            **({"nightshift.order": str(decision.order)} if decision.order else {}),
            **({"nightshift.outcome": outcome.result} if outcome else {}),
        },
    )
    run.metrics({**decision.numbers, **({"hours": outcome.hours} if outcome else {})})
    run.finish()
    return run.url


def mirror_answer(application: str, request: Request, answer: Answer) -> str:
    """Log what people answered to a request, and return the address of its page.

    :raises BadEnvironment: MLflow cannot be reached; the ledger has the answer all the same.
    """
    asked = f"{request.subject} Asked on {request.asked:%Y-%m-%d %H:%M} UTC"
    whom = ", ".join(request.approvers) or "everybody who may answer"
    run = TrackingRun(
        application,
        key=f"approval-{request.id}",
        name=f"approval of version {request.version}",
        tags={
            "nightshift.job": "approval",
            "nightshift.request": request.id,
            "nightshift.answer": answer.answer,
            "nightshift.by": answer.by,
            "nightshift.model_digest": request.model_digest,
            "nightshift.model_version": request.version,
            "mlflow.note.content": "\n".join(
                f"- {in_markdown(note)}" for note in (f"{asked} of {whom}", sentence(answer))
            ),
        },
    )
    run.finish()
    return run.url
