"""
### Audit

Every ten minutes: records who ran, approved, forced, snoozed and changed what, in a tamper-evident log.

1. **collect** reads the ledger of every application and Airflow's own audit log, and appends new entries to the log in storage.
   Entries are only added; each holds the hash of the one before.
2. **anchor** checks that the last anchored entries are still there, and keeps the number and the hash of the newest entry in the
   Airflow variable `nightshift_audit_newest`, which jobs cannot reach, in MLflow, and once an hour in the place that the Airflow
   variable `nightshift_audit_anchor` names (the URI of a bucket, with object lock at best); signed with `NIGHTSHIFT_AUDIT_KEY`.

If *anchor* finds that the log was tampered with, it fails, and so does every later run until the log is restored.
`nightshift audit verify` prints `verified`, `unwitnessed` or `tampered`, `nightshift audit export` prints the log.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime

from airflow.sdk import TriggerRule, Variable, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from nightshift.errors import BadEnvironment, BadInput, JobError
from nightshift.orchestration.airflow_rest import airflow_rest
from nightshift.orchestration.application_dag import housekeeping_dag
from nightshift.orchestration.attempt import storage_uri, tracking_environment
from nightshift.orchestration.job_task import as_airflow
from nightshift.settings.applications import application_names
from nightshift.stack.credentials import AUDIT_KEY

ANCHOR_VARIABLE = "nightshift_audit_anchor"

log = logging.getLogger(__name__)


@task(multiple_outputs=False)
def collect() -> dict[str, int]:
    """Append new entries and return their number by source. An unreadable source does not block the others."""
    from nightshift.audit.airflow_events import airflow_audit_events
    from nightshift.audit.chain import Chain
    from nightshift.audit.ledger_events import all_ledger_events

    chain, names, began = Chain(storage_uri()), application_names(), datetime.now(UTC)
    appended: dict[str, int] = {}
    wrong = []
    try:
        try:
            records = all_ledger_events(chain.storage, names, chain.since("ledger"))
            appended["ledger"] = chain.append("ledger", records, began)
        except BadEnvironment as error:
            wrong.append(str(error))
        try:
            with airflow_rest() as rest:
                events = airflow_audit_events(rest.all, names, chain.since("airflow"))
                appended["airflow"] = chain.append("airflow", events, began)
        except (BadEnvironment, AirflowException) as error:
            wrong.append(f"Airflow's own audit log could not be read completely: {error}")
    except BadInput as error:  # the log is damaged, nothing can be appended to it
        raise as_airflow(error) from error
    for source, number in appended.items():
        log.info("%d new entries from %s", number, source)
    if wrong:
        problems = "\n".join(wrong)
        raise AirflowException(f"readable entries are in the audit log, the next run adds the rest:\n{problems}")
    return appended


@task(trigger_rule=TriggerRule.ALL_DONE, multiple_outputs=False)
def anchor() -> dict[str, int]:
    """Anchor the newest entry, and return its number by place. A place that is down does not block the others."""
    from nightshift.audit.anchor import AnchorFiles, Witness
    from nightshift.audit.anchor_runs import AnchorRuns
    from nightshift.audit.anchoring import Tampered, anchor_everywhere
    from nightshift.audit.chain import Chain
    from nightshift.audit.memory import AirflowMemory
    from nightshift.audit.signature import signing_key

    memory = AirflowMemory(_remembered, _remember)
    places: list[Witness] = []
    wrong: list[JobError] = []
    try:
        os.environ.update(tracking_environment())
        places.append(AnchorRuns())
    except BadInput as error:
        wrong.append(error)
    if elsewhere := Variable.get(ANCHOR_VARIABLE, default=None):
        places.append(AnchorFiles(elsewhere))
    anchored: dict[str, int] = {}
    try:
        if not (secret := os.environ.get(AUDIT_KEY)):
            log.warning("%s is not set: anchors are not signed", AUDIT_KEY)
        key = signing_key(secret) if secret else None
        anchored = anchor_everywhere(Chain(storage_uri()), memory, places, datetime.now(UTC), key)
    except JobError as error:
        wrong.append(error)
    if not wrong:
        return anchored
    problems = "\n".join(map(str, wrong))
    raise (AirflowFailException if any(isinstance(error, Tampered) for error in wrong) else AirflowException)(problems)


def _remembered() -> str | None:
    from nightshift.audit.memory import MEMORY_VARIABLE

    # `Variable.get` cannot distinguish a missing variable from an Airflow that is down; this call raises if it is down.
    if MEMORY_VARIABLE not in Variable.keys(prefix=MEMORY_VARIABLE):
        return None
    return str(Variable.get(MEMORY_VARIABLE))


def _remember(value: str) -> None:
    from nightshift.audit.memory import MEMORY_VARIABLE

    Variable.set(MEMORY_VARIABLE, value, description="The newest entry of the audit log: docs/audit.md")


with housekeeping_dag("audit", "Record who did what in a tamper-evident log.", "*/10 * * * *", doc_md=__doc__):
    collect() >> anchor()
