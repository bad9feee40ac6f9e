"""The tasks `challenge`, which chooses the models of the shadow, and `release`, which decides by gate and shadow."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowSkipException

from nightshift.orchestration.contest import Contest, Form, ReleaseDecision, about_of, contest_of, nothing, shadow_of
from nightshift.orchestration.ledger_task import LEDGER_TASK_ARGUMENTS, ledger_task, mlflow, notify_of_decision
from nightshift.orchestration.promote import withdraw_split
from nightshift.registry import versions
from nightshift.settings.application import Application
from nightshift.storage.manifest import digest_of
from nightshift.verdict import Verdict, worst

if TYPE_CHECKING:
    from nightshift.evaluation.shadow_file import ShadowFile
    from nightshift.ledger.store import Ledger
    from nightshift.registry.rest import Mlflow

log = logging.getLogger(__name__)


@task(**LEDGER_TASK_ARGUMENTS)
def challenge(application: str, **context: Any) -> dict[str, Any]:
    """Return the models that the shadow compares. It decides nothing, and writes only that an index is in use.

    :return: `version`, `model_digest` of the candidate, and `champion_digest`.
    :raises AirflowSkipException: there is nothing to compare, or the shadow has ended before.
    """
    with ledger_task(application, context) as (app, ledger), mlflow() as server:
        contest = contest_of(app, ledger, server, Form.of(context))
        if isinstance(contest, ReleaseDecision):
            raise AirflowSkipException("; ".join(contest.reasons))
        needed, found, why = shadow_of(app, ledger, contest)
        if not needed:
            raise AirflowSkipException(why or "no shadow: the gate holds the candidate back, or none is configured")
        if found and found.verdict is not Verdict.INSUFFICIENT_DATA:
            raise AirflowSkipException(f"the shadow of version {contest.candidate.version} ended: {found.verdict}")
        return about_of(contest.candidate, contest.champion)


@task(**LEDGER_TASK_ARGUMENTS)
def release(application: str, **context: Any) -> dict[str, Any]:
    """Decide about the candidate by its evaluation and its shadow in storage, and record the decision.

    :return: a :class:`ReleaseDecision`.
    :raises AirflowFailException: there is no such version, or its evaluation is gone or damaged.
    """
    with ledger_task(application, context) as (app, ledger), mlflow() as server:
        decision = _decide(app, ledger, server, Form.of(context))
        log.info("%s: %s", decision.verdict, "; ".join(decision.reasons))
        result = decision.model_dump(mode="json")
        notify_of_decision(app, "release", result, context)
        return result


def _decide(app: Application, ledger: Ledger, server: Mlflow, form: Form) -> ReleaseDecision:
    """Find the candidate, and decide about it unless an unfinished release or split comes first."""
    from nightshift.ledger.approval import sentence, withdraw_open
    from nightshift.ledger.mirror import mirror_answers
    from nightshift.ledger.splits import running

    for answer in withdraw_open(ledger, datetime.now(UTC)):
        log.info("request %s: %s", answer.id, sentence(answer))
    mirror_answers(server, app.name, ledger)
    if app.split is None and (split := running(ledger)):
        withdraw_split(app.name, ledger, server, split, "`split` was taken out of the application's file")
    contest = contest_of(app, ledger, server, form)
    if isinstance(contest, ReleaseDecision):
        return contest
    needed, shadow, why = shadow_of(app, ledger, contest)
    if needed and shadow is None:
        return nothing(f"the shadow of version {contest.candidate.version} has not ended: {why}; the next run decides")
    return _judge(app, ledger, server, form, contest=contest, shadow=shadow, without_shadow=why)


def _judge(
    app: Application,
    ledger: Ledger,
    server: Mlflow,
    form: Form,
    *,
    contest: Contest,
    shadow: ShadowFile | None,
    without_shadow: str,
) -> ReleaseDecision:
    """Decide by gate, shadow and the application's approval, record the decision, and write the request if approval is needed.

    :param without_shadow: why there is no shadow.
    """
    from nightshift.ledger.approval import FormChoices, earlier_answer, next_step
    from nightshift.ledger.gate_records import record
    from nightshift.ledger.records import GateRecord

    now, candidate, decision = datetime.now(UTC), contest.candidate, contest.gate
    asked_anyway = contest.returns or contest.stopped or (app.shadow and contest.champion and shadow is None)
    about = about_of(candidate, contest.champion)
    step = next_step(
        decision.verdict,
        app.approval,
        FormChoices(again=bool(form.version or form.ask), ask=form.ask, reason=bool(form.reason)),
        changes=None if asked_anyway else contest.scores.changes,
        earlier=earlier_answer(ledger, candidate.digest, contest.evaluation_digest, about["champion_digest"]),
        returns=contest.returns,
        shadow=shadow.verdict if shadow else Verdict.PASS,
    )
    by_person = step.by_person or (contest.stopped and step.action == "release" and step.request is None)
    request = f"{now:%Y%m%dT%H%M%S%f}-{candidate.digest[:8]}" if step.action == "ask" else step.request
    policy = app.gate.model_dump(mode="json")
    kept = record(
        ledger,
        GateRecord(
            application=app.name,
            **about,
            evaluation=str(contest.evaluation),
            evaluation_digest=contest.evaluation_digest,
            policy=digest_of([policy, shadow.model_dump(mode="json")] if shadow else policy),
            verdict=worst([decision.verdict, *([shadow.verdict] if shadow else [])]),
            reasons=[*decision.reasons, *(shadow.reasons if shadow else filter(None, [without_shadow]))],
            numbers=decision.numbers | (shadow.numbers if shadow else {}),
            released=step.action == "release" and request is None,
            by=form.reason if by_person else "gate",
            person=(form.by or "somebody") if by_person else None,
            request=request,
            run_id=form.run_id,
            after=contest.after,
            decided=now,
        ),
    )
    state = {"release": "released", "ask": "asked", "hold": "held"}[step.action]
    server.set_tags(candidate, {versions.STATE_TAG: state})
    subject = body = ""
    if step.action == "ask":
        from nightshift.orchestration.release_request import request_text

        said = {"verdict": kept.verdict, "reasons": kept.reasons, "returns": contest.returns, "shadow": shadow}
        subject, body = request_text(
            app,
            ledger,
            server,
            contest.scores,
            candidate=candidate,
            champion=contest.champion,
            form_reason=(form.by, form.reason) if form.reason else None,
            **said,
        )
    return ReleaseDecision(
        verdict=kept.verdict,
        reasons=[*kept.reasons, *filter(None, [step.why])],
        released=step.action == "release",
        **about,
        evaluation_digest=contest.evaluation_digest,
        after=kept.after,
        ask=step.action == "ask",
        request=request,
        subject=subject,
        body=body,
    )
