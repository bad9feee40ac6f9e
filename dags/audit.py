"""
### Audit

Every ten minutes: writes down who ran, approved, forced, snoozed and changed what, in a log that shows when it was changed.

1. **collect** reads the ledger of every application and Airflow's own audit log, and appends what is new to the log in storage.
   Entries are only added; each holds the hash of the one before.
2. **anchor** checks that what was anchored last is still there, and keeps the number and the hash of the newest entry in MLflow,
   and in the place that the Airflow variable `nightshift_audit_anchor` names (the URI of a bucket, with object lock at best).

When *anchor* says that the log was tampered with it fails, and so does every run after it, until the log is put right.
`nightshift audit verify` checks all of it, `nightshift audit export` prints it.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime

from airflow.sdk import TriggerRule, Variable, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from nightshift.applications import application_names
from nightshift.errors import JobError
from nightshift.orchestration.airflow_rest import airflow_rest
from nightshift.orchestration.application_dag import housekeeping_dag
from nightshift.orchestration.attempt import storage_uri, tracking_environment
from nightshift.orchestration.job_task import as_airflow

ANCHOR_VARIABLE = "nightshift_audit_anchor"

log = logging.getLogger(__name__)


@task
def collect() -> dict[str, int]:
    """Append what is new and return how many entries came from where."""
    from nightshift.audit.airflow_events import airflow_deeds
    from nightshift.audit.chain import Chain
    from nightshift.audit.ledger_events import ledger_deeds

    chain, names, began = Chain(storage_uri()), application_names(), datetime.now(UTC)
    try:
        since = chain.since("ledger")
        records = (deed for name in names for deed in ledger_deeds(chain.storage, name, since))
        appended = {"ledger": chain.append("ledger", records, began)}
        log.info("%d new entries from the ledger", appended["ledger"])
        with airflow_rest() as rest:
            events = airflow_deeds(rest.all, names, chain.since("airflow"))
            appended["airflow"] = chain.append("airflow", events, began)
        log.info("%d new entries from Airflow's audit log", appended["airflow"])
    except JobError as error:
        raise as_airflow(error) from error
    except AirflowException as error:
        raise AirflowException(f"the ledger is in the audit log, Airflow's own log is not: {error}") from error
    return appended


@task(trigger_rule=TriggerRule.ALL_DONE)
def anchor() -> dict[str, int]:
    """Anchor the newest entry, and return its number by the place."""
    os.environ.update(tracking_environment())
    from nightshift.audit.anchor import AnchorFiles
    from nightshift.audit.anchor_runs import AnchorRuns
    from nightshift.audit.anchoring import Tampered, anchor_everywhere
    from nightshift.audit.chain import Chain

    places: list[AnchorRuns | AnchorFiles] = [AnchorRuns()]
    if elsewhere := Variable.get(ANCHOR_VARIABLE, default=None):
        places.append(AnchorFiles(elsewhere))
    try:
        return anchor_everywhere(Chain(storage_uri()), places)
    except Tampered as error:
        raise AirflowFailException(str(error)) from error
    except JobError as error:
        raise as_airflow(error) from error


with housekeeping_dag(
    "audit", "Who did what, in a log that shows when it was changed.", "*/10 * * * *", doc_md=__doc__
):
    collect() >> anchor()
