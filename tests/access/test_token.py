"""Housekeeping without a password: a token of `nightshift roles token`, in the connection, at a real API server with FAB."""

import json
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from airflow.sdk.exceptions import AirflowException

from nightshift.orchestration.airflow_rest import airflow_rest
from nightshift.stack.credentials import HOUSEKEEPING

pytestmark = pytest.mark.slow


def roles_token(airflow, *arguments):
    command = [sys.executable, "-m", "nightshift", "roles", "token", *arguments]
    return subprocess.run(command, env=airflow.environment, capture_output=True, text=True, check=False)


@pytest.fixture
def connected(fab_airflow, monkeypatch):
    """A function that puts a token into the connection `nightshift_airflow`, and nothing else."""

    def connect(token):
        url = urlsplit(fab_airflow.url)
        fields = {"conn_type": "http", "host": url.hostname, "port": url.port, "password": token}
        monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_AIRFLOW", json.dumps(fields))
        return airflow_rest()

    return connect


def test_with_a_token_housekeeping_reads_what_it_looks_at(fab_airflow, connected):
    made = roles_token(fab_airflow, HOUSEKEEPING, "--days", "30")
    assert made.returncode == 0, made.stderr

    with connected(made.stdout.strip().splitlines()[-1]) as rest:
        runs = [run["dag_id"] for run in rest.all("dags/~/dagRuns", "dag_runs")]
        assert {"banking_assistant_release", "returns_helper_release"} <= set(runs)
        assert any(error["filename"] == "unreadable.py" for error in rest.get("importErrors")["import_errors"])
        assert rest.get("eventLogs")["total_entries"] > 0
        with pytest.raises(AirflowException, match="403"):
            rest.get("connections")


def test_a_token_that_this_airflow_did_not_sign_opens_nothing(connected):
    import jwt

    with connected(jwt.encode({"sub": "1"}, "s" * 64)) as rest, pytest.raises(AirflowException, match=r"\(40[13]\)"):
        rest.get("importErrors")


def test_no_token_is_made_by_which_somebody_could_act(fab_airflow):
    for user, reason in {"admin": "must have the role nightshift_housekeeping", "nobody": "FAB has no user"}.items():
        refused = roles_token(fab_airflow, user)
        assert refused.returncode == 65, refused.stderr
        assert reason in refused.stderr
        assert "eyJ" not in refused.stdout


def test_the_simple_auth_manager_has_passwords_and_no_tokens(simple_airflow):
    refused = roles_token(simple_airflow, HOUSEKEEPING)

    assert refused.returncode != 0
    assert "give the connection the password" in refused.stderr
