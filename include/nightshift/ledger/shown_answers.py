"""Shows the answers of people in MLflow, a run each, and with the version that they are about. The ledger is the truth; what
MLflow missed is sent again.
"""

from __future__ import annotations

from mlflow import MlflowClient

from nightshift.ledger.approval import sentence
from nightshift.ledger.records import Answer, Request
from nightshift.ledger.store import Ledger
from nightshift.registry import models
from nightshift.registry.tracking import TrackingRun, experiment_of, reachable
from nightshift.shown import in_markdown, shown

LONGEST_TAG = 4_000  # characters of a person's reason in MLflow, which keeps 5,000


def mirror_answers(application: str, ledger: Ledger) -> None:
    """Log every answer that MLflow does not have yet: as a run of its own, and in the tags of the version.

    :raises BadEnvironment: MLflow cannot be reached; the ledger has the answers all the same.
    """
    requests = ledger.requests()
    answers = ledger.answers(requests)
    known = _mirrored(application) if answers else set()
    for name, answer in answers.items():
        if name not in known:
            _mirror_answer(application, requests[name], answer)


def _mirrored(application: str) -> set[str]:
    client = MlflowClient()
    wanted = "tags.`nightshift.job` = 'approval' and attributes.status = 'FINISHED'"
    with reachable():
        runs = client.search_runs([experiment_of(client, application)], wanted, max_results=1_000)
    return {run.data.tags["nightshift.request"] for run in runs}


def _mirror_answer(application: str, request: Request, answer: Answer) -> None:
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
    if version := models.version_of(application, request.version):
        tags = {
            "nightshift.approval": answer.answer,
            "nightshift.approval_by": shown(answer.by, 150) or "nobody",
            "nightshift.approval_reason": shown(answer.reason, LONGEST_TAG) or "none given",
            "nightshift.approval_at": answer.answered.isoformat(timespec="seconds"),
            "nightshift.approval_request": request.id,
        }
        models.set_tags(version, tags)
    # Last: a run that has not finished is sent again.
    run.finish()
