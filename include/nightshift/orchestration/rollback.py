"""The task `rollback`: by a person's reason an earlier champion replaces today's. No gate and nobody else is asked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import task

from nightshift.errors import BadInput
from nightshift.orchestration.contest import ReleaseDecision
from nightshift.orchestration.deciding import OUTLASTING, deciding, mlflow
from nightshift.registry.versions import CHAMPION, EVALUATION_DIGEST_TAG, EVALUATION_TAG, RELEASE_TAG, STATE_TAG
from nightshift.shown import storable
from nightshift.storage.partition import digest_of
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.ledger.records import GateRecord
    from nightshift.ledger.store import Ledger
    from nightshift.registry.rest import Mlflow
    from nightshift.registry.versions import Registered

POLICY = digest_of("rollback")  # in place of a gate's, in the record of what was decided

log = logging.getLogger(__name__)


@task(**OUTLASTING)
def rollback(application: str, **context: Any) -> dict[str, Any]:
    """Write down that an earlier champion replaces today's, by whom and why.

    :return: a :class:`ReleaseDecision`, which `promote` carries out.
    :raises AirflowFailException: there is no champion, no earlier one, or the version of the form never was it; or a release is
        written down and not carried out yet.
    """
    with deciding(application, context) as (app, ledger), mlflow() as server:
        decision = _decide(app.name, ledger, server, context)
        log.info("%s", decision.reasons[0])
        return decision.model_dump(mode="json")


def _decide(name: str, ledger: Ledger, server: Mlflow, context: Mapping[str, Any]) -> ReleaseDecision:
    params, run = context["params"], context["dag_run"]
    for kept in ledger.gate_records():
        if kept.policy == POLICY and kept.run_id == run.run_id:
            return _as_decided(kept)  # tried again, or cleared: once is enough
    champion = server.with_alias(name, CHAMPION)
    if champion is None:
        raise BadInput(f"{name} has no champion; there is nothing to take back")
    version = earlier_champion(name, ledger, server, champion, params["version"])
    return write_rollback(
        name,
        ledger,
        server,
        champion,
        version,
        policy=POLICY,
        by=storable(params["reason"]).strip(),
        person=storable(run.triggering_user_name or "") or "somebody",
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
    """Write down that an earlier champion replaces today's, once, and return the decision, which `promote` carries out.

    :param said: reasons beside that.
    :param about: fields of the record: who takes it back, and why.
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
    """Return the version that comes back: the `wanted` one, or of the newest release of another model than the champion's.

    :raises BadInput: there is none, it never was the champion, or a release is written down and not carried out yet.
    """
    from nightshift.ledger.releases import unfinished

    releases = ledger.releases()
    newest = releases[-1] if releases else None
    if newest and newest.model_digest != champion.digest:
        ahead = server.version_of(name, newest.version)
        if ahead and unfinished(newest, ahead.digest, ahead.tags.get(RELEASE_TAG, "")):
            raise BadInput(
                f"version {newest.version} was released as number {newest.number}, and the alias has not moved to it yet; start "
                f"{name}_release, which carries that out, and take it back then"
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
            f"version {wanted} is no earlier champion of {name} (these are: {known}); a version that never was is released by "
            f"{name}_release"
        )
    return version
