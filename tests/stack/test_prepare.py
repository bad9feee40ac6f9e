"""A deployment without the local stack's environment (docker/compose.yaml) gets the same users and connection."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from nightshift.stack.credentials import USERS
from nightshift.stack.place import CHECKOUT


def test_compose_has_the_users_of_the_local_stack():
    compose = yaml.safe_load((CHECKOUT / "docker/compose.yaml").read_text())["x-airflow"]["environment"]

    users = ",".join(f"{user}:{role}" for user, role in USERS.items())
    assert compose["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == users


# Starts once more with what people changed, and again after an edit of the file.
LATER = """
import os, sys
from pathlib import Path
from airflow.models import Connection, Pool, Variable
from airflow.utils.session import create_session
from nightshift.stack import prepare
from nightshift.stack.place import this_place

settings = Path(sys.argv[1], "airflow_settings.yaml")
prepare.this_place = lambda: this_place(checkout=settings.parent)

def see():
    with create_session() as session:
        named = {one.conn_id: one for one in session.query(Connection)}
        storage = Variable.get("nightshift_storage")
        print("SEEN", Pool.get_pool("nightshift_jobs").slots, storage, named["nightshift_mlflow"].host)
        airflow = named["nightshift_airflow"]
        print("SEEN", airflow.login, airflow.password, airflow.host, airflow.port)

assert prepare.main() == 0
see()
Variable.set("nightshift_storage", "s3://bucket/ours")
with create_session() as session:
    session.query(Pool).filter(Pool.pool == "nightshift_jobs").one().slots = 9
    named = {one.conn_id: one for one in session.query(Connection)}
    named["nightshift_mlflow"].host = "mlflow.ours"
    named["nightshift_airflow"].set_password("of-yesterday")
assert prepare.main() == 0
see()
settings.write_text(settings.read_text().replace("pool_slot: 2", "pool_slot: 5"))
assert prepare.main() == 0
see()
"""


@pytest.mark.slow
def test_further_starts_keep_what_people_changed_and_housekeeping_gets_in(tmp_path):
    checkout = tmp_path / "checkout"
    (checkout / "dags").mkdir(parents=True)
    (checkout / "airflow_settings.yaml").write_text((CHECKOUT / "airflow_settings.yaml").read_text())
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW_CONN_")},
        "NIGHTSHIFT_HOME": str(tmp_path),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow/airflow.db",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://api-server:8080/execution/",
    }
    command = [sys.executable, "-c", LATER, str(checkout)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    password = json.loads((tmp_path / "passwords.json").read_text())["housekeeping"]
    # Tasks find the API server where they find it anyway; the user's password is that of the file, whatever stood there.
    rest = f"SEEN housekeeping {password} api-server 8080"
    assert [line for line in done.stdout.splitlines() if line.startswith("SEEN")] == [
        *("SEEN 2  127.0.0.1", rest),
        *("SEEN 9 s3://bucket/ours mlflow.ours", rest),
        *("SEEN 5 s3://bucket/ours mlflow.ours", rest),
    ]
