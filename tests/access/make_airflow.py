"""Fills an Airflow database for the tests of roles: `python make_airflow.py PLACE`, with the environment of that Airflow.

Two applications with all their DAGs; of each a finished run with its result and its log, and runs that ask a person. Under
FAB also the roles, and a user for each. What tests must know of it lies in `PLACE/made.json`.
"""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models import DagRun, Log
from airflow.models.asset import AssetModel
from airflow.models.errors import ParseImportError
from airflow.models.hitl import HITLDetail
from airflow.models.xcom import XComModel
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType
from matrix import told
from sqlalchemy import select

from nightshift.alerts.message import compose
from nightshift.alerts.outbox import MAILBOX, Outbox

APPLICATIONS = ("banking_assistant", "returns_helper")
SEEN = "seen"  # the id of the finished run
PEOPLE = 12  # so many runs of each application ask the named approver, ask anybody, and are there to be deleted


def main(place: Path) -> None:
    initdb()
    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    assert bag.import_errors == {}
    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(bag, "dags-folder", None)
    made = {"dags": sorted(bag.dags), "users": {}}
    if "FabAuthManager" in os.environ["AIRFLOW__CORE__AUTH_MANAGER"]:
        made["users"] = with_fab()
    approver = made["users"].get("approver", "approver")
    with create_session() as session:
        for app in APPLICATIONS:
            assignee = approver if app == APPLICATIONS[0] else made["users"].get("other_approver", "approver")
            with_runs(session, app, assignee)
        session.add(
            ParseImportError(
                filename="unreadable.py",
                bundle_name="dags-folder",
                timestamp=datetime.now(UTC),
                stacktrace="returns_helper.yaml",
            )
        )
        session.add(Log(event="post_connection", owner="admin", extra="secrets of returns_helper"))
        made["assets"] = {asset.name: asset.id for asset in session.scalars(select(AssetModel))}
    (place / "made.json").write_text(json.dumps(made))


def with_runs(session, app: str, assignee: str) -> None:
    named = [{"id": assignee, "name": assignee}]
    ask(session, finished(session, f"{app}_release", {"verdict": f"PASS of {app}"}), named)
    for number in range(PEOPLE):
        ask(session, new_run(session, f"{app}_release", f"named-{number}"), named)
        ask(session, new_run(session, f"{app}_release", f"anybody-{number}"), [])
        new_run(session, f"{app}_release", f"old-{number}")
    with_pages(app)
    session.add(Log(event="trigger_dag_run", dag_id=f"{app}_release", owner=f"somebody of {app}"))


def with_pages(app: str) -> None:
    """A message in the mailbox and a report, of which the dashboard makes pages."""
    storage = os.environ["AIRFLOW_VAR_NIGHTSHIFT_STORAGE"]
    alert = told(app)
    outbox = Outbox(storage, app)
    outbox.accept(alert)
    outbox.into_mailbox(compose([alert], MAILBOX), alert.at)
    report = Path(storage.removeprefix("file://"), app, "data_docs", "night", "address", "index.html")
    report.parent.mkdir(parents=True)
    report.write_text(f"<p>data of {app}</p>")


def ask(session, run: DagRun, assignees: list[dict[str, str]]) -> None:
    """Let the task `approve` wait for a person."""
    task = run.get_task_instance("approve", session=session)
    task.state = TaskInstanceState.AWAITING_INPUT
    session.add(HITLDetail(ti_id=task.id, options=["Approve", "Reject"], subject=run.dag_id, assignees=assignees))


def finished(session, dag: str, result: dict) -> DagRun:
    """A run with a result and a log of its task `release`."""
    run_id, task_id = SEEN, "release"
    run = new_run(session, dag, run_id)
    run.state = DagRunState.SUCCESS
    for task in run.get_task_instances(session=session):
        task.state, task.try_number = TaskInstanceState.SUCCESS, 1
    XComModel.set(key="return_value", value=result, dag_id=dag, task_id=task_id, run_id=run_id, session=session)
    log = Path(
        os.environ["AIRFLOW_HOME"], "logs", f"dag_id={dag}", f"run_id={run_id}", f"task_id={task_id}", "attempt=1.log"
    )
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps({"timestamp": "2026-11-05T00:00:00Z", "level": "info", "event": f"log of {dag}"}) + "\n")
    return run


def new_run(session, dag: str, run_id: str) -> DagRun:
    from airflow.api.common.trigger_dag import trigger_dag

    trigger_dag(dag, triggered_by=DagRunTriggeredByType.TEST, run_id=run_id, conf={}, session=session)
    return session.scalar(select(DagRun).where(DagRun.dag_id == dag, DagRun.run_id == run_id))


def with_fab() -> dict[str, str]:
    """Make a user for every role by `nightshift roles sync`; return their ids by name."""
    from airflow.providers.fab.auth_manager.models import Role, User
    from werkzeug.security import generate_password_hash

    from nightshift.access.sync import sync

    roles = {
        **{name: [f"{APPLICATIONS[0]}_{name}"] for name in ("viewer", "operator", "approver")},
        **{f"other_{name}": [f"{APPLICATIONS[1]}_{name}"] for name in ("viewer", "operator", "approver")},
        "unasked_approver": [f"{APPLICATIONS[0]}_approver"],
        "two_hats": [f"{APPLICATIONS[0]}_operator", f"{APPLICATIONS[1]}_approver"],
        "housekeeping": ["nightshift_housekeeping"],
        "admin": ["Admin"],
        "newcomer": ["Public"],
    }
    with create_session() as session:
        for name in roles:
            user = User(username=name, first_name=name, last_name="", email=f"{name}@example.com", active=True)
            user.password = generate_password_hash(name)
            session.add(user)
    prepare_fab()
    print(*sync(), sep="\n")
    with create_session() as session:
        by_name = {role.name: role for role in session.scalars(select(Role)).unique()}
        users = session.scalars(select(User)).unique().all()
        for user in users:
            user.roles = [by_name[role] for role in roles[user.username]]
        return {user.username: str(user.id) for user in users}


def prepare_fab() -> None:
    """Make FAB's own roles, as `airflow sync-perm` and the start of the API server do."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        builder.sm.sync_roles()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
