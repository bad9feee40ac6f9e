"""The task `rollback`: a person stops a split or brings back an earlier champion, without an approval."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import task

from nightshift.errors import BadInput
from nightshift.orchestration.contest import ReleaseDecision
from nightshift.orchestration.ledger_task import LEDGER_TASK_ARGUMENTS, ledger_task, mlflow, notify_of_decision
from nightshift.orchestration.old_indexes import require_index
from nightshift.registry.versions import CHAMPION, EVALUATION_DIGEST_TAG, EVALUATION_TAG, RELEASE_TAG, STATE_TAG
from nightshift.shown import storable
from nightshift.storage.manifest import digest_of
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.ledger.records import GateRecord, SplitEnd
    from nightshift.ledger.store import Ledger
    from nightshift.registry.rest import Mlflow
    from nightshift.registry.versions import Registered

POLICY = digest_of("rollback")  # in place of a gate's, in the record of what was decided

log = logging.getLogger(__name__)


@task(**LEDGER_TASK_ARGUMENTS)
def rollback(application: str, **context: Any) -> dict[str, Any]:
    """Record that an earlier champion replaces the current one, by whom and why; stop a split that runs.

    :return: a :class:`ReleaseDecision`, which `promote` carries out. If a split was stopped and the form names no version,
        nothing is left to carry out: the champion answers alone.
    :raises AirflowFailException: there is no champion or no earlier one, the form's version never was champion, or a release
        is recorded and not carried out yet.
    """
    with ledger_task(application, context) as (app, ledger), mlflow() as server:
        decision = _decide(app.name, ledger, server, context)
        log.info("%s", decision.reasons[0])
        split = next(reversed(ledger.splits()), None)
        end = ledger.split_end(split.number) if split else None
        if split and end and end.run_id == context["dag_run"].run_id:
            stopped = {"action": "stop", "reasons": [end.explanation], "version": split.version, "split": split.number}
            notify_of_decision(app, "ramp", stopped, context)
        return decision.model_dump(mode="json")


def _decide(name: str, ledger: Ledger, server: Mlflow, context: Mapping[str, Any]) -> ReleaseDecision:
    from nightshift.ledger.records import SplitEnd

    params, run = context["params"], context["dag_run"]
    for kept in ledger.gate_records():
        if kept.policy == POLICY and kept.run_id == run.run_id:
            return _as_decided(kept)  # a retry, or a cleared task
    champion = server.with_alias(name, CHAMPION)
    if champion is None:
        raise BadInput(f"{name} has no champion; there is nothing to take back")
    person, reason = storable(run.triggering_user_name or "") or "somebody", storable(params["reason"]).strip()
    end = SplitEnd(
        number=0, result="stopped", explanation=f"{person} stopped it: {reason}", by=person, run_id=run.run_id,
        ended=datetime.now(UTC),
    )  # fmt: skip
    stopped = _stop_split(name, ledger, server, end)
    if stopped and params["version"] is None:
        said = f"version {stopped} was stopped; version {champion.version} answers all of the traffic"
        return ReleaseDecision(verdict=Verdict.PASS, reasons=[said])
    version = earlier_champion(name, ledger, server, champion, params["version"])
    return write_rollback(
        name,
        ledger,
        server,
        champion,
        version,
        policy=POLICY,
        by=reason,
        person=person,
        run_id=run.run_id,
    )


def write_rollback(
    name: str,
    ledger: Ledger,
    server: Mlflow,
    champion: Registered,
    version: Registered,
    *,
    said: Sequence[str] = (),
    **about: Any,
) -> ReleaseDecision:
    """Record once that an earlier champion replaces the current one, and return the decision, which `promote` carries out.

    :param said: further reasons.
    :param about: fields of the record: who takes the release back, and why.
    """
    from nightshift.ledger.gate_records import record
    from nightshift.ledger.records import GateRecord

    taken = f"version {champion.version} was taken back; version {version.version} was the champion before"
    kept = record(
        ledger,
        GateRecord(
            application=name,
            version=version.version,
            model_digest=version.digest,
            champion_digest=champion.digest,
            evaluation=version.tags.get(EVALUATION_TAG, ""),
            evaluation_digest=version.tags.get(EVALUATION_DIGEST_TAG, ""),
            verdict=Verdict.PASS,
            reasons=[taken, *said],
            released=True,
            after=len(ledger.releases()),
            decided=datetime.now(UTC),
            **{"numbers": {}, **about},
        ),
    )
    server.set_tags(champion, {STATE_TAG: "rolled back"})
    return _as_decided(kept)


def _stop_split(name: str, ledger: Ledger, server: Mlflow, wanted: SplitEnd) -> str | None:
    """End the running split and return its challenger's version, also if this run ended it before."""
    from nightshift.ledger.splits import end_split
    from nightshift.orchestration.promote import show_split

    split = next(reversed(ledger.splits()), None)
    if split is None or split.after != len(ledger.releases()):
        return None
    end = end_split(ledger, wanted.model_copy(update={"number": split.number}))
    if end.result == "passed":
        raise BadInput(
            f"version {split.version} passed split {split.number}, and is not the champion yet; start {name}_release, which "
            "promotes it, then roll back"
        )
    if end.run_id != wanted.run_id:
        return None
    if challenger := server.version_of(name, split.version):
        show_split(server, challenger, split, 0)
    return split.version


def _as_decided(kept: GateRecord) -> ReleaseDecision:
    return ReleaseDecision(
        verdict=kept.verdict,
        reasons=[*kept.reasons, *([f"{kept.person}: {kept.by}"] if kept.person else [])],
        released=True,
        version=kept.version,
        model_digest=kept.model_digest,
        champion_digest=kept.champion_digest,
        evaluation_digest=kept.evaluation_digest,
        after=kept.after,
    )


def earlier_champion(
    name: str, ledger: Ledger, server: Mlflow, champion: Registered, wanted: int | None = None
) -> Registered:
    """Return the version that comes back: the `wanted` one, or that of the newest release of another model.

    :raises BadInput: there is none, it never was champion, or a release is recorded and not carried out yet.
    """
    from nightshift.ledger.releases import unfinished

    releases = ledger.releases()
    newest = releases[-1] if releases else None
    if newest and newest.model_digest != champion.digest:
        ahead = server.version_of(name, newest.version)
        if ahead and unfinished(newest, ahead.digest, ahead.tags.get(RELEASE_TAG, "")):
            raise BadInput(
                f"version {newest.version} was released as number {newest.number}, and the alias has not moved to it yet; start "
                f"{name}_release, which moves it, then roll back"
            )
    others = [release for release in reversed(releases) if release.model_digest != champion.digest and release.version]
    if wanted is None:
        if not others:
            raise BadInput(f"version {champion.version} is the first champion of {name}; there is none to go back to")
        wanted = int(others[0].version)
    version = server.version_of(name, str(wanted))
    if version is None or version.digest not in {release.model_digest for release in others}:
        known = ", ".join(dict.fromkeys(release.version for release in others)) or "none"
        raise BadInput(
            f"version {wanted} is not an earlier champion of {name} (known: {known}); release other versions with "
            f"{name}_release"
        )
    require_index(version)
    return version
