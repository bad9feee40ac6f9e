"""The task `release`: decides whether a candidate may replace the champion, or whether people are asked, with its numbers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Self

from airflow.sdk import task
from pydantic import BaseModel, Field, ValidationError, model_validator
from upath import UPath

from nightshift.errors import BadInput
from nightshift.orchestration.deciding import OUTLASTING, deciding, mlflow, tell
from nightshift.registry import versions
from nightshift.settings.application import Application
from nightshift.shown import storable
from nightshift.storage.partition import digest_of, require_manifest
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.ledger.records import Release
    from nightshift.ledger.store import Ledger
    from nightshift.registry.rest import Mlflow
    from nightshift.registry.versions import Registered

RequestId = Annotated[str, Field(pattern=r"^[\w-]+$", max_length=80)]  # part of a file's name

log = logging.getLogger(__name__)


class Form(BaseModel):
    """What the person who started the run wants; of a run that nobody started, nothing.

    Where nobody else is to be asked, a reason turns a WARN, or an earlier champion, into a release that its giver answers
    for. Where people are asked, it is part of the question.

    :param version: number in the registry; None: the newest candidate.
    :param ask: have a person decide, whatever the application says.
    :param run_id: a reason that is given in another DAG run is another decision.
    """

    version: int | None = None
    reason: str = ""
    ask: bool = False
    by: str = ""
    run_id: str

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> Form:
        """Return what the form of a DAG run says."""
        params, run = context["params"], context["dag_run"]
        return cls(
            version=params["version"],
            reason=storable(params["reason"] or "").strip(),
            ask=params["ask"],
            by=storable(run.triggering_user_name or ""),
            run_id=run.run_id,
        )


class ReleaseDecision(BaseModel):
    """The decision. Nothing has moved yet: the alias moves in the task `promote`.

    `ask` says whether people are to be asked: about `subject` and `body` (Markdown), as the request `request`. A request
    without `ask` was approved before. `after` is the number of the newest release then: the next one spends the decision.
    """

    verdict: Verdict
    reasons: list[str]
    released: bool = False
    version: str | None = None
    model_digest: str | None = None
    champion_digest: str | None = None
    evaluation_digest: str | None = None
    after: int | None = None
    ask: bool = False
    request: RequestId | None = None
    subject: str = ""
    body: str = ""

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        needed = ("version", "model_digest", "evaluation_digest", "request", "subject", "body")
        if self.ask and (missing := [name for name in needed if not getattr(self, name)]):
            raise ValueError(f"people are to be asked, and it lacks {', '.join(missing)}")
        return self

    @classmethod
    def of(cls, returned: Any) -> Self:
        """Return what the task `release` returned.

        :raises BadInput: it is no decision; somebody may have changed or deleted it in Airflow.
        """
        try:
            return cls.model_validate(returned)
        except ValidationError as error:
            wrong = "; ".join(
                ": ".join(filter(None, [".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")]))
                for one in error.errors(include_url=False, include_input=False)
            )
            raise BadInput(
                f"what the task release returned is no decision about a release ({wrong}); clear that task to decide anew"
            ) from error


@task(**OUTLASTING)
def release(application: str, **context: Any) -> dict[str, Any]:
    """Decide about the candidate by the gate, from the evaluation that it was registered with, and keep the decision.

    :return: a :class:`ReleaseDecision`.
    :raises AirflowFailException: there is no such version, or its evaluation is gone or damaged.
    """
    with deciding(application, context) as (app, ledger), mlflow() as server:
        decision = _decide(app, ledger, server, Form.of(context))
        log.info("%s: %s", decision.verdict, "; ".join(decision.reasons))
        result = decision.model_dump(mode="json")
        tell(app, "release", result, context)
        return result


def _decide(app: Application, ledger: Ledger, server: Mlflow, form: Form) -> ReleaseDecision:
    """Find the candidate, and decide about it unless something before its evaluation says what follows.

    A release that was written down and not carried out comes first, whoever is the candidate by now.
    """
    from nightshift.ledger.approval import sentence, withdraw_open
    from nightshift.ledger.mirror import mirror_answers

    for answer in withdraw_open(ledger, datetime.now(UTC)):
        log.info("request %s: %s", answer.id, sentence(answer))
    mirror_answers(server, app.name, ledger)
    champion = server.with_alias(app.name, versions.CHAMPION)
    releases = ledger.releases()
    if left := _left(server, app.name, releases):
        said = f"version {left.version} was released as number {releases[-1].number}; that is carried out now"
        return ReleaseDecision(verdict=Verdict.PASS, reasons=[said], released=True, **_about(left, champion))
    candidate = _candidate(server, app.name, form.version)
    if candidate is None:
        return _nothing("there is no candidate yet; finetune registers one")
    if champion and champion.digest == candidate.digest:
        return _nothing(f"version {candidate.version} is the champion already")
    # A model that was replaced does not come back by itself: whoever took it back had a reason.
    returns = candidate.digest in {known.model_digest for known in releases}
    if returns and not (form.version and form.reason):
        return _nothing(
            f"version {candidate.version} was the champion before; to bring it back, give its number and a reason in the form"
        )
    return _judge(
        app, ledger, server, form, candidate=candidate, champion=champion, returns=returns, after=len(releases)
    )


def _judge(
    app: Application,
    ledger: Ledger,
    server: Mlflow,
    form: Form,
    *,
    candidate: Registered,
    champion: Registered | None,
    returns: bool,
    after: int,
) -> ReleaseDecision:
    """Decide by the gate and the application's approval, keep the decision, and write the question where people are asked.

    :param returns: the candidate was the champion before.
    :param after: number of the newest release.
    """
    from nightshift.evaluation.gates import gate
    from nightshift.evaluation.score_file import read_scores
    from nightshift.ledger.approval import FormChoices, earlier_answer, next_step
    from nightshift.ledger.gate_records import record
    from nightshift.ledger.records import GateRecord

    now, about = datetime.now(UTC), _about(candidate, champion)
    evaluation = UPath(candidate.tags.get(versions.EVALUATION_TAG, ""))
    digest = candidate.tags.get(versions.EVALUATION_DIGEST_TAG, "")
    scores = read_scores(evaluation, require_manifest(evaluation, digest))
    if not returns and scores.models.get("champion") != about["champion_digest"]:
        return _nothing(
            f"version {candidate.version} was not judged against version {champion.version if champion else 'none'}, "
            "which is the champion by now; finetune again judges it anew"
        )
    decision = gate(scores.comparison, app.gate, scores.parts)
    step = next_step(
        decision.verdict,
        app.approval,
        FormChoices(again=bool(form.version or form.ask), ask=form.ask, reason=bool(form.reason)),
        earlier=earlier_answer(ledger, candidate.digest, digest, about["champion_digest"]),
        returns=returns,
    )
    request = f"{now:%Y%m%dT%H%M%S%f}-{candidate.digest[:8]}" if step.action == "ask" else step.request
    kept = record(
        ledger,
        GateRecord(
            application=app.name,
            **about,
            evaluation=str(evaluation),
            evaluation_digest=digest,
            policy=digest_of(app.gate.model_dump(mode="json")),
            verdict=decision.verdict,
            reasons=decision.reasons,
            numbers=decision.numbers,
            released=step.action == "release" and request is None,
            by=form.reason if step.by_person else "gate",
            person=(form.by or "somebody") if step.by_person else None,
            request=request,
            run_id=form.run_id,
            after=after,
            decided=now,
        ),
    )
    state = {"release": "released", "ask": "asked", "hold": "held"}[step.action]
    server.set_tags(candidate, {versions.STATE_TAG: state})
    subject = body = ""
    if step.action == "ask":
        from nightshift.orchestration.release_request import request_text

        said = {"verdict": kept.verdict, "reasons": kept.reasons, "returns": returns}
        form_reason = (form.by, form.reason) if form.reason else None
        subject, body = request_text(
            app, ledger, server, scores, candidate=candidate, champion=champion, form_reason=form_reason, **said
        )
    return ReleaseDecision(
        verdict=kept.verdict,
        reasons=[*kept.reasons, *filter(None, [step.why])],
        released=step.action == "release",
        **about,
        evaluation_digest=digest,
        after=kept.after,
        ask=step.action == "ask",
        request=request,
        subject=subject,
        body=body,
    )


def _left(server: Mlflow, name: str, releases: Sequence[Release]) -> Registered | None:
    """The version of the newest release, where nobody carried that out."""
    from nightshift.ledger.releases import unfinished

    newest = releases[-1] if releases else None
    version = server.version_of(name, newest.version) if newest and newest.ahead and newest.version else None
    if newest and version and unfinished(newest, version.digest, version.tags.get(versions.RELEASE_TAG, "")):
        return version
    return None


def _candidate(server: Mlflow, name: str, version: int | None) -> Registered | None:
    """The version that the form names, or the newest candidate; None where there is none yet.

    :raises BadInput: there is no such version.
    """
    if version is None:
        return server.with_alias(name, versions.CANDIDATE)
    found = server.version_of(name, str(version))
    if found is None:
        raise BadInput(f"{name} has no version {version} in the registry")
    return found


def _about(candidate: Registered, champion: Registered | None) -> dict[str, Any]:
    return {
        "version": candidate.version,
        "model_digest": candidate.digest,
        "champion_digest": champion.digest if champion else None,
    }


def _nothing(reason: str) -> ReleaseDecision:
    return ReleaseDecision(verdict=Verdict.INSUFFICIENT_DATA, reasons=[reason])
