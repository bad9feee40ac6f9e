"""A deployment without the local stack's environment (docker/compose.yaml) gets the same users and connection."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from nightshift.stack.credentials import USERS
from nightshift.stack.place import CHECKOUT


def test_every_deployment_has_the_users_of_the_local_stack():
    compose = yaml.safe_load((CHECKOUT / "docker/compose.yaml").read_text())["x-airflow"]["environment"]
    values = yaml.safe_load((CHECKOUT / "deploy/kubernetes/airflow-values.yaml").read_text())["config"]["core"]

    users = ",".join(f"{user}:{role}" for user, role in USERS.items())
    assert compose["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == users
    assert values["simple_auth_manager_users"] == users


@pytest.mark.slow
def test_housekeeping_finds_the_api_server_where_tasks_find_it(tmp_path):
    environment = {
        **os.environ,
        "NIGHTSHIFT_HOME": str(tmp_path),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow/airflow.db",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://api-server:8080/execution/",
    }
    look = """from airflow.models import Connection
print("URI", Connection.get_connection_from_secrets("nightshift_airflow").get_uri())"""
    commands = ["-m", "nightshift.stack.prepare"], ["-c", look]
    for command in commands:
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    password = json.loads((tmp_path / "passwords.json").read_text())["housekeeping"]
    assert f"URI http://housekeeping:{password}@api-server:8080/" in done.stdout
