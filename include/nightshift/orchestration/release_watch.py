"""The task `watch`: takes a release back, or alerts people, if its first intervals score below what was promised."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from nightshift.alerts.alert import Alert
from nightshift.evaluation.watch_file import WatchFile, newest_look
from nightshift.ledger.records import Release
from nightshift.ledger.store import Ledger
from nightshift.orchestration.attempt import storage_uri
from nightshift.orchestration.contest import ReleaseDecision
from nightshift.orchestration.ledger_task import LEDGER_TASK_ARGUMENTS, ledger_task, mlflow
from nightshift.orchestration.links import application_page, rollback_page
from nightshift.orchestration.rollback import earlier_champion, write_rollback
from nightshift.orchestration.telling import notify
from nightshift.registry.versions import CHAMPION
from nightshift.settings.application import Application
from nightshift.settings.people import Kind, Severity
from nightshift.storage.manifest import digest_of
from nightshift.verdict import Verdict

log = logging.getLogger(__name__)


@task(**LEDGER_TASK_ARGUMENTS)
def watch(application: str, **context: Any) -> dict[str, Any]:
    """Read the newest look at the newest release from storage, and decide whether to take the release back.

    :return: a :class:`ReleaseDecision` that takes the release back; `promote` carries it out.
    :raises AirflowSkipException: the release stays; the text says why.
    :raises AirflowFailException: the look is damaged, or somebody moved the champion's alias by hand.
    """

    with ledger_task(application, context) as (app, ledger):
        releases = ledger.releases()
        found = newest_look(storage_uri(), app.name, releases[-1].number) if releases and app.watch else None
        if found is None:
            raise AirflowSkipException("no interval of the newest release was compared with its promised scores yet")
        said = f"version {found.version}, {len(found.intervals)} of {found.of} intervals: {'; '.join(found.reasons)}"
        if found.verdict is not Verdict.FAIL:
            raise AirflowSkipException(f"{found.verdict}: {said}")
        log.warning("%s", said)
        decision = _take_back(app, ledger, releases, found)
        notify(app, [_alert(app, found, releases, decision, context)])
        if decision is None:
            raise AirflowSkipException(f"{said}; an alert was sent, and people decide")
        return decision.model_dump(mode="json")


def _take_back(
    app: Application, ledger: Ledger, releases: Sequence[Release], found: WatchFile
) -> ReleaseDecision | None:
    """Record that the former champion comes back; None if people decide, or there is no former champion."""
    from nightshift.ledger.releases import moved_by_hand

    assert app.watch is not None  # noqa: S101  (`watch` looked)
    if app.watch.rollback == "ask" or not _has_earlier(releases):
        return None
    with mlflow() as server:
        champion = server.with_alias(app.name, CHAMPION)
        if champion is None or (moved := moved_by_hand(ledger, app.name, champion.version, champion.digest)):
            raise AirflowFailException(
                moved if champion else f"{app.name} has no champion; there is nothing to take back"
            )
        return write_rollback(
            app.name,
            ledger,
            server,
            champion,
            earlier_champion(app.name, ledger, server, champion),
            policy=digest_of(["watch", app.watch.model_dump(mode="json")]),
            said=found.reasons,
            numbers=found.numbers,
            by="watch",
        )


def _has_earlier(releases: Sequence[Release]) -> bool:
    return any(one.model_digest != releases[-1].model_digest for one in releases)


def _alert(
    app: Application,
    found: WatchFile,
    releases: Sequence[Release],
    decision: ReleaseDecision | None,
    context: Mapping[str, Any],
) -> Alert:
    if decision:
        todo = f"nothing: version {decision.version} answers from the next interval on. The form of {app.name}_release brings "
        todo += f"version {found.version} back, by its number and a reason"
    elif _has_earlier(releases):
        todo = f"read the numbers; start {app.name}_rollback to take the release back within a minute"
    else:
        todo = "read the numbers; there is no earlier champion to go back to: train another model, or change the prompt"
    run = context["dag_run"]
    return Alert(
        application=app.name,
        kind=Kind.BELOW_PROMISE,
        severity=Severity.CRITICAL,
        title=f"version {found.version} scores below what was promised"
        + (f", and version {decision.version} comes back" if decision else ""),
        subject=f"release {found.release}",
        where=f"{app.name}, DAG {run.dag_id}, run {run.run_id}, task {context['ti'].task_id}",
        facts=[*found.reasons, f"intervals: {', '.join(found.intervals)}; promised by its {found.promised_by}"],
        todo=todo,
        links={
            "Roll back": rollback_page(app.name) if decision is None and _has_earlier(releases) else "",
            "Task log": context["ti"].log_url,
            "Nightshift": application_page(app.name),
        },
        condition="below promise",
        cause=f"release {found.release}",
    )
