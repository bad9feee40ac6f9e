"""The task `promote`: moves the alias `champion` to a released version, or starts the split that precedes the release."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowSkipException

from nightshift.errors import BadEnvironment, BadInput
from nightshift.orchestration.contest import ReleaseDecision
from nightshift.orchestration.ledger_task import LEDGER_TASK_ARGUMENTS, ledger_task, mlflow, notify_of_decision
from nightshift.registry.versions import CHAMPION, EVALUATION_TAG, RELEASE_TAG, SPLIT_TAG, STATE_TAG
from nightshift.settings.application import Application
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.ledger.records import Answer, Split
    from nightshift.ledger.store import Ledger
    from nightshift.registry.rest import Mlflow
    from nightshift.registry.versions import Registered

log = logging.getLogger(__name__)


@task(**LEDGER_TASK_ARGUMENTS)
def promote(application: str, decided: Mapping[str, Any], **context: Any) -> dict[str, Any]:
    """Log people's answer, record the release in the ledger, then move the alias, unless it was moved before.

    If the application has a `split`, the candidate first answers a share of the traffic, and nothing is released yet.

    The decision is verified against the ledger, which Airflow's API cannot change, unlike results of tasks. A decision
    moves the alias once: a later release or rejection spends it.

    :param decided: the result of the task `release`.
    :return: `verdict`, `reasons`, `version` and `model_digest` of the champion (None: nothing moved), the version that it
        `replaced`, and `model_url`.
    :raises AirflowSkipException: the candidate was held back, or answers a share of the traffic now; nothing moved.
    :raises AirflowFailException: the version is another model, another one became champion since the decision, or the
        ledger has no such decision that counts.
    """
    with ledger_task(application, context) as (app, ledger), mlflow() as server:
        result = _promote(app, ledger, server, ReleaseDecision.of(decided))
        log.info("%s", result["reasons"][0])
        notify_of_decision(app, "promote", result, context)
        if result["version"] is None:
            context["ti"].xcom_push("return_value", result)
            raise AirflowSkipException(result["reasons"][0])
        return result


def _promote(app: Application, ledger: Ledger, server: Mlflow, decision: ReleaseDecision) -> dict[str, Any]:
    from nightshift.ledger.approval import sentence

    name = app.name
    if decision.version is None or not (decision.released or decision.request):
        return _held("nothing was released; the task before logs the reason")
    released = server.version_of(name, decision.version)
    if released is None or released.digest != decision.model_digest:
        raise BadInput(f"version {decision.version} of {name} is not the model that was released")
    if decision.request:
        answer = _answered(name, ledger, server, decision, decision.request)
        if answer.answer != "approved":
            server.set_tags(released, {STATE_TAG: "held"})
            return _held(f"version {decision.version}: {sentence(answer)}; the champion stays")
    champion = server.with_alias(name, CHAMPION)
    now = champion.digest if champion else None
    if now not in {decision.champion_digest, decision.model_digest}:
        raise BadInput(
            f"version {decision.version} was released to replace another champion than version "
            f"{champion.version if champion else 'none'}; the next candidate is judged against that one"
        )
    if champion and (told := _split(app, ledger, server, released, champion)):
        return _held(told)
    number = _release(name, ledger, decision, released, now)
    if now != decision.model_digest:
        server.set_alias(released, CHAMPION)
        log.info("version %s of %s is the champion now", decision.version, name)
    over = {SPLIT_TAG: json.dumps({"share": 1.0})} if SPLIT_TAG in released.tags else {}
    server.set_tags(released, {STATE_TAG: "released", RELEASE_TAG: str(number), **over})
    return {
        "verdict": Verdict.PASS.value,
        "reasons": [f"version {decision.version} is the champion"],
        "version": decision.version,
        "model_digest": released.digest,
        "replaced": champion.version if champion and now != decision.model_digest else None,
        "model_url": released.url,
    }


def _split(app: Application, ledger: Ledger, server: Mlflow, version: Registered, champion: Registered) -> str | None:
    """Start or read the candidate's split, and return why the alias does not move; None if it may move.

    It may move if the split has passed, or none is needed: for a former champion, or without a decision in the ledger.
    """
    from nightshift.ledger.releases import decided_next
    from nightshift.ledger.splits import begun, running, sentence, share_of

    before = {champion.digest, *(release.model_digest for release in ledger.releases())}
    decision = decided_next(ledger, version.digest, champion.digest)
    if app.split is None or decision is None or version.digest in before:
        return None
    if (other := running(ledger)) and other.decision != decision.id:
        return sentence(other, share_of(ledger, other))
    found = begun(ledger, app.split, decision, champion.version, datetime.now(UTC))
    if found is None:
        raise BadEnvironment(f"another split of {app.name} started at the same time; the next try looks again")
    split, end = found
    if end is None:
        show_split(server, version, split, share := share_of(ledger, split))
        return sentence(split, share)
    return None if end.result == "passed" else f"version {version.version} was stopped: {end.explanation}"


def show_split(server: Mlflow, version: Registered, split: Split, share: float) -> None:
    """Log in MLflow which units a challenger answers, for serving code that assigns units itself."""
    told = {"key": split.key, "unit": split.settings.unit, "share": share}
    server.set_tags(version, {STATE_TAG: "split" if share else "stopped", SPLIT_TAG: json.dumps(told)})


def withdraw_split(name: str, ledger: Ledger, server: Mlflow, split: Split, why: str) -> None:
    """End a split for a reason other than its evidence. MLflow first: once the ledger has the end, no task repeats this."""
    from nightshift.ledger.records import SplitEnd
    from nightshift.ledger.splits import end_split

    if version := server.version_of(name, split.version):
        show_split(server, version, split, 0)
    end_split(ledger, SplitEnd(number=split.number, result="withdrawn", explanation=why, ended=datetime.now(UTC)))


def _release(name: str, ledger: Ledger, decision: ReleaseDecision, version: Registered, champion: str | None) -> int:
    """Write the release down, before the alias moves, or find what a try before this one wrote; return its number.

    The intervals before it say nothing about the model that replaced the one they were judged against.

    :param champion: digest of the model that has the alias.
    """
    from nightshift.ledger.records import Release
    from nightshift.ledger.releases import decided_next, unfinished

    releases = ledger.releases()
    newest = releases[-1] if releases else None
    if newest and newest.model_digest == version.digest:
        carried_out = version.tags.get(RELEASE_TAG, "")
        if champion == version.digest or unfinished(newest, version.digest, carried_out):
            return newest.number
    if decided_next(ledger, version.digest, decision.champion_digest) is None:
        raise BadInput(
            f"the ledger of {name} has no release of version {version.version} in place of that champion that still counts: "
            "a later release or a rejection spends a decision; to decide again, start this DAG with the number of the version"
        )
    release = Release(
        number=len(releases) + 1,
        ahead=True,
        model_digest=version.digest,
        model=version.model,
        version=version.version,
        evaluation=version.tags.get(EVALUATION_TAG),
        released=datetime.now(UTC),
    )
    if not ledger.create(release):
        raise BadEnvironment(
            f"release number {release.number} of {name} was taken at the same time; the next try looks again"
        )
    return release.number


def _held(reason: str) -> dict[str, Any]:
    held = dict.fromkeys(("version", "model_digest", "replaced"))
    return {"verdict": Verdict.INSUFFICIENT_DATA.value, "reasons": [reason], **held, "model_url": ""}


def _answered(name: str, ledger: Ledger, server: Mlflow, decision: ReleaseDecision, request_id: str) -> Answer:
    """Read people's answer from the ledger, and write it to the gate's records and MLflow."""
    from nightshift.ledger.approval import keep_answer
    from nightshift.ledger.gate_records import record_approval
    from nightshift.ledger.mirror import mirror_answers
    from nightshift.ledger.records import Answer

    request = ledger.request(request_id)
    if request is None or request.model_digest != decision.model_digest:
        raise BadInput(f"request {request_id} of {name} is not about version {decision.version}")
    # Marking the task `approve` as success is not an answer.
    ended = "the task that asked ended without an answer"
    none = Answer(id=request_id, answer="withdrawn", reason=ended, answered=datetime.now(UTC))
    answer = keep_answer(ledger, none)
    if answer.answer == "approved":
        record_approval(ledger, request, answer)
    mirror_answers(server, name, ledger)
    return answer
