"""Shows the ledger's decisions in MLflow, one run each. The ledger is the truth; what MLflow missed is sent again."""

from __future__ import annotations

from nightshift.ledger.records import Decision, Outcome
from nightshift.registry.rest import Mlflow
from nightshift.shown import in_markdown


def mirror(mlflow: Mlflow, application: str, decision: Decision, outcome: Outcome | None = None) -> str:
    """Log a decision, with the outcome of its order where there is one, and return the address of its page.

    :raises BadEnvironment: MLflow cannot be reached; the ledger has the decision all the same.
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
        "mlflow.note.content": "\n".join(f"- {in_markdown(note)}" for note in notes),
        **({"nightshift.order": str(decision.order)} if decision.order else {}),
        **({"nightshift.outcome": outcome.result} if outcome else {}),
    }
    numbers = {**decision.numbers, **({"hours": outcome.hours} if outcome else {})}
    return mlflow.show(application, f"decision-{decision.id}", f"decision {decision.id}", tags, numbers)
