"""Runs the task `anchor` in a real Airflow, replaces log and anchors in between, and says what came of it.

`python run_audit.py STORAGE`, with the environment of that Airflow.
"""

import json
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from airflow.api_fastapi.app import create_app
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.utils.db import initdb
from fastapi.testclient import TestClient
from mlflow import MlflowClient

from nightshift.audit.anchor_runs import EXPERIMENT
from nightshift.audit.chain import Chain
from nightshift.audit.entry import AuditEvent
from nightshift.audit.memory import MEMORY_VARIABLE
from nightshift.orchestration.airflow_rest import AirflowRest

DAGS = Path(__file__).parents[2] / "dags"


def main(storage: Path) -> None:
    initdb()
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(DAGS / "audit.py")
    dag = bag.dags["nightshift_audit"]
    for task in dag.tasks:
        task.retries = 0  # there is no Airflow that `collect` could ask
    sync_bag_to_db(bag, "dags-folder", None)
    append(storage, "alice")
    states = [dag.test().get_task_instance("anchor").state]
    replace(storage)
    append(storage, "mallory")
    states.append(dag.test().get_task_instance("anchor").state)
    print(json.dumps({"states": states, "remembered": variable()}))


def replace(storage: Path) -> None:
    """Take away the log and its anchors, as code in a job can."""
    shutil.rmtree(storage / "audit")
    mlflow = MlflowClient(os.environ["AIRFLOW_CONN_NIGHTSHIFT_MLFLOW"])
    mlflow.rename_experiment(mlflow.get_experiment_by_name(EXPERIMENT).experiment_id, f"of {storage}")


def append(storage: Path, who: str) -> None:
    now = datetime.now(UTC)
    Chain(storage.as_uri()).append(
        "airflow", [AuditEvent(at=now, who=who, did="ran", source="airflow", source_id=who)], now
    )


def variable() -> str | None:
    """The variable, as a person reads it who may."""
    with TestClient(create_app()) as client:
        words = json.loads(Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]).read_text())
        body = {"username": "olga", "password": words["olga"]}
        client.headers["Authorization"] = f"Bearer {client.post('/auth/token', json=body).json()['access_token']}"
        return AirflowRest(client).variable(MEMORY_VARIABLE)


main(Path(sys.argv[1]))
