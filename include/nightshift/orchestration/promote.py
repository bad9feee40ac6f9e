"""The task `promote`: moves the alias `champion` to a released version, or begins the split that comes before it."""

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
from nightshift.orchestration.deciding import OUTLASTING, deciding, mlflow, tell
from nightshift.registry.versions import CHAMPION, EVALUATION_TAG, RELEASE_TAG, SPLIT_TAG, STATE_TAG
from nightshift.settings.application import Application
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.ledger.records import Answer, Split
    from nightshift.ledger.store import Ledger
    from nightshift.registry.rest import Mlflow
    from nightshift.registry.versions import Registered

log = logging.getLogger(__name__)


@task(**OUTLASTING)
def promote(application: str, decided: Mapping[str, Any], **context: Any) -> dict[str, Any]:
    """Show what people answered, write the release down, then move the alias, unless it is there.

    Where the application has a `split`, the candidate answers a share of the traffic first, and nothing is released yet.

    Results of tasks say what to do; whether it was decided, the ledger says, which nobody can write by Airflow's API. A
    decision moves the alias once: a release, or a "no", that came after it has spent it.

    :param decided: what the task `release` returned.
    :return: `verdict`, `reasons`, `version` and `model_digest` of the champion (None: nothing moved), the version that it
        `replaced`, and `model_url`.
    :raises AirflowSkipException: the candidate was held back, or answers a share of the traffic now, and nothing moved.
    :raises AirflowFailException: the version is another model, another one became champion since the decision, or the
        ledger has no such decision that counts.
    """
    with deciding(application, context) as (app, ledger), mlflow() as server:
        result = _promote(app, ledger, server, ReleaseDecision.of(decided))
        log.info("%s", result["reasons"][0])
        tell(app, "promote", result, context)
        if result["version"] is None:
            context["ti"].xcom_push("return_value", result)
            raise AirflowSkipException(result["reasons"][0])
        return result


def _promote(app: Application, ledger: Ledger, server: Mlflow, decision: ReleaseDecision) -> dict[str, Any]:
    from nightshift.ledger.approval import sentence

    name = app.name
    if decision.version is None or not (decision.released or decision.request):
        return _held("nothing was released: the task before says why")
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
    """Say why the alias does not move yet, or not at all: the candidate answers a share of the traffic first, or was stopped.

    None: the split has passed, or there is none: not of what was a champion before, and not where nothing was decided.
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
        raise BadEnvironment(f"another split of {app.name} began in this moment; the next try looks again")
    split, end = found
    if end is None:
        show_split(server, version, split, share := share_of(ledger, split))
        return sentence(split, share)
    return None if end.result == "passed" else f"version {version.version} was stopped: {end.explanation}"


def show_split(server: Mlflow, version: Registered, split: Split, share: float) -> None:
    """Show in MLflow which units a challenger answers, for serving code that assigns them too."""
    told = {"key": split.key, "unit": split.settings.unit, "share": share}
    server.set_tags(version, {STATE_TAG: "split" if share else "stopped", SPLIT_TAG: json.dumps(told)})


def withdraw_split(name: str, ledger: Ledger, server: Mlflow, split: Split, why: str) -> None:
    """End a split because of what is no evidence. MLflow comes first: where the ledger has the end, nobody looks again."""
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
            'a later release, or a "no", spends what was decided; to decide anew, start this DAG with the number of the version'
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
        raise BadEnvironment(f"release {release.number} of {name} was taken in this moment; the next try looks again")
    return release.number


def _held(reason: str) -> dict[str, Any]:
    held = dict.fromkeys(("version", "model_digest", "replaced"))
    return {"verdict": Verdict.INSUFFICIENT_DATA.value, "reasons": [reason], **held, "model_url": ""}


def _answered(name: str, ledger: Ledger, server: Mlflow, decision: ReleaseDecision, request_id: str) -> Answer:
    """What people answered, from the ledger, in the gate's records and in MLflow by now."""
    from nightshift.ledger.approval import answered_with
    from nightshift.ledger.gate_records import record_approval
    from nightshift.ledger.mirror import mirror_answers
    from nightshift.ledger.records import Answer

    request = ledger.request(request_id)
    if request is None or request.model_digest != decision.model_digest:
        raise BadInput(f"request {request_id} of {name} is not about version {decision.version}")
    # Who only marks the task that asks as done has given no answer.
    ended = "the task that asked ended without an answer"
    none = Answer(id=request_id, answer="withdrawn", reason=ended, answered=datetime.now(UTC))
    answer = answered_with(ledger, none)
    if answer.answer == "approved":
        record_approval(ledger, request, answer)
    mirror_answers(server, name, ledger)
    return answer
