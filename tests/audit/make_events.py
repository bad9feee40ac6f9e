"""Does to a real Airflow what people do, and collects it: `python make_events.py STORAGE`, with the environment of that Airflow.

Everything goes through the REST API, as the pages and scripts of users do; the log is read by a user who may only look.
"""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from airflow.api_fastapi.app import create_app
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models import DagRun, Log
from airflow.models.hitl import HITLDetail
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from fastapi.testclient import TestClient
from sqlalchemy import select

from nightshift.audit.airflow_events import airflow_audit_events
from nightshift.audit.chain import Chain
from nightshift.orchestration.airflow_rest import AirflowRest

DAG = """\
from airflow.sdk import DAG, task
with DAG("shop_eu_release", schedule=None):
    @task
    def promote(): ...
    promote()
"""
RUN = "/api/v2/dags/shop_eu_release/dagRuns"


def main(storage: str) -> None:
    home = Path(os.environ["AIRFLOW_HOME"])
    (home / "dags").mkdir()
    (home / "dags" / "shop.py").write_text(DAG)
    initdb()
    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(DagBag(home / "dags"), "dags-folder", None)
    with TestClient(create_app()) as client:
        as_user(client, "alice")
        ask(client, "PATCH", "/api/v2/dags/shop_eu_release", {"is_paused": False})
        ask(client, "POST", RUN, {"dag_run_id": "by-hand", "logical_date": None, "conf": {"why": "x" * 6_000}})
        wait_for_a_person()
        path = f"{RUN}/by-hand/taskInstances/promote/-1/hitlDetails"
        ask(client, "PATCH", path, {"chosen_options": ["Approve"], "params_input": {"reason": "better on returns"}})
        clear = {"dry_run": False, "only_failed": False, "dag_run_id": "by-hand", "task_ids": ["promote"]}
        ask(client, "POST", "/api/v2/dags/shop_eu_release/clearTaskInstances", {**clear, "dry_run": True})
        ask(client, "POST", "/api/v2/dags/shop_eu_release/clearTaskInstances", clear)
        ask(client, "PATCH", f"{RUN}/by-hand/taskInstances/promote", {"new_state": "success"})
        ask(client, "PATCH", f"{RUN}/by-hand", {"state": "failed"})
        ask(client, "DELETE", f"{RUN}/by-hand")
        as_user(client, "root")
        ask(client, "POST", "/api/v2/variables", {"key": "nightshift_storage", "value": "s3cret-value"})
        ask(
            client,
            "PATCH",
            "/api/v2/variables/nightshift_storage",
            {"key": "nightshift_storage", "value": "s3cret-again"},
        )
        entities = [{"key": "other", "value": "s3cret-in-bulk"}]
        ask(client, "PATCH", "/api/v2/variables", {"actions": [{"action": "create", "entities": entities}]})
        connection = {
            "connection_id": "mail",
            "conn_type": "smtp",
            "login": "s3cret-login",
            "password": "s3cret-password",
        }
        ask(client, "POST", "/api/v2/connections", {**connection, "extra": '{"key": "s3cret-extra"}'})
        ask(client, "DELETE", "/api/v2/connections/mail")
        ask(client, "PATCH", "/api/v2/pools/default_pool", {"slots": 7, "include_deferred": True}, update_mask="slots")
        ask(client, "PATCH", "/api/v2/dags/shop_eu_release", {"is_paused": True})
        from_the_shell()
        as_user(client, "onlooker")
        chain, rest = Chain(storage), AirflowRest(client)
        for _ in range(2):
            events = airflow_audit_events(rest.all, ["shop", "shop_eu"], chain.since("airflow"))
            chain.append("airflow", events, datetime.now(UTC))


def as_user(client: TestClient, name: str) -> None:
    passwords = json.loads(Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]).read_text())
    token = client.post("/auth/token", json={"username": name, "password": passwords[name]}).json()["access_token"]
    client.headers["Authorization"] = f"Bearer {token}"


def ask(client: TestClient, method: str, path: str, body: dict | None = None, **parameters: str) -> None:
    answer = client.request(method, path, json=body, params=parameters)
    assert answer.is_success, (path, answer.text)


def wait_for_a_person() -> None:
    """Let the task wait, as an approval does."""
    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.run_id == "by-hand"))
        task = run.get_task_instance("promote", session=session)
        task.state = TaskInstanceState.AWAITING_INPUT
        session.add(HITLDetail(ti_id=task.id, options=["Approve", "Reject"], subject="Promote?", assignees=[]))


def from_the_shell() -> None:
    """What Airflow logs of commands and of its own work, as its code writes it."""
    command = ["/bin/airflow", "variables", "set", "other", "s3cret-from-the-shell"]
    with create_session() as session:
        session.add(Log(event="running", dag_id="shop_eu_release", owner="bank", extra='{"host_name": "w1"}'))
        session.add(
            Log(event="cli_check", owner="probe", extra=json.dumps({"full_command": "['airflow', 'jobs', 'check']"}))
        )
        told = {"host_name": "h1", "full_command": f"{command}"}
        session.add(Log(event="cli_variables_set", owner="bob", extra=json.dumps(told)))
        session.add(Log(event="paused", dag_id="shop_eu_release", owner="scheduler", extra="[('is_paused', True)]"))


main(sys.argv[1])
