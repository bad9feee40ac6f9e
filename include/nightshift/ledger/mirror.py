"""Logs the ledger's decisions and people's answers in MLflow, one run each; missing ones are logged again."""

from __future__ import annotations

from nightshift.ledger.approval import sentence
from nightshift.ledger.records import Answer, Decision, Outcome, Request
from nightshift.ledger.store import Ledger
from nightshift.registry.rest import Mlflow
from nightshift.shown import in_markdown, shown

LONGEST_TAG = 4_000  # characters of a person's reason in MLflow, which keeps 5,000


def mirror_decision(mlflow: Mlflow, application: str, decision: Decision, outcome: Outcome | None = None) -> str:
    """Log a decision, with the outcome of its order if there is one, and return the address of its page.

    :raises BadEnvironment: MLflow cannot be reached; the decision is in the ledger already.
    """
    notes = [decision.reason, *(f"Report: {report}" for report in decision.reports)]
    if outcome:
        notes.append(f"Retraining {outcome.number}: {outcome.result}, {outcome.explanation}")
    tags = {
        "nightshift.job": "decision",
        "nightshift.decision": decision.id,
        "nightshift.action": decision.action,
        "nightshift.code": decision.code,
        "nightshift.model_digest": decision.model_digest,
        "mlflow.note.content": _listed(notes),
        **({"nightshift.order": str(decision.order)} if decision.order else {}),
        **({"nightshift.outcome": outcome.result} if outcome else {}),
    }
    numbers = {**decision.numbers, **({"hours": outcome.hours} if outcome else {})}
    return mlflow.show(application, f"decision-{decision.id}", f"decision {decision.id}", tags, numbers)


def mirror_answers(mlflow: Mlflow, application: str, ledger: Ledger) -> None:
    """Log every answer that MLflow does not have yet: in the tags of its version, and as a run of its own.

    :raises BadEnvironment: MLflow cannot be reached; the answers are in the ledger already.
    """
    requests = ledger.requests()
    answers = ledger.answers(requests)
    known = mlflow.shown(application, "approval") if answers else set()
    for name, answer in answers.items():
        if f"approval-{name}" not in known:
            _mirror_answer(mlflow, application, requests[name], answer)


def _mirror_answer(mlflow: Mlflow, application: str, request: Request, answer: Answer) -> None:
    if version := mlflow.version_of(application, request.version):
        tags = {
            "nightshift.approval": answer.answer,
            "nightshift.approval_by": shown(answer.by, 150) or "nobody",
            "nightshift.approval_reason": shown(answer.reason, LONGEST_TAG) or "none given",
            "nightshift.approval_at": answer.answered.isoformat(timespec="seconds"),
            "nightshift.approval_request": request.id,
        }
        mlflow.set_tags(version, tags)
    asked = f"{request.subject} Asked on {request.asked:%Y-%m-%d %H:%M} UTC"
    whom = ", ".join(request.approvers) or "all approvers"
    # Last, since an answer without a finished run is logged again.
    mlflow.show(
        application,
        f"approval-{request.id}",
        f"approval of version {request.version}",
        {
            "nightshift.job": "approval",
            "nightshift.request": request.id,
            "nightshift.answer": answer.answer,
            "nightshift.by": answer.by,
            "nightshift.model_digest": request.model_digest,
            "nightshift.model_version": request.version,
            "mlflow.note.content": _listed([f"{asked} of {whom}", sentence(answer)]),
        },
        {},
    )


def _listed(notes: list[str]) -> str:
    return "\n".join(f"- {in_markdown(note)}" for note in notes)
