"""The DAG of the audit log: what its tasks leave behind, and what they say when something is missing, down or changed."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    GetVariable,
    GetVariableKeys,
    PutVariable,
    VariableKeysResult,
    VariableResult,
)

from nightshift.audit.chain import Chain
from nightshift.ledger.records import Snooze
from nightshift.ledger.store import Ledger

DAGS = Path(__file__).parents[2] / "dags"
KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


class Variables(dict):
    """Variables as a supervisor answers a task for them; `is_down`: it has no answer."""

    is_down = False

    def send(self, message):
        if self.is_down:
            raise ConnectionError("Airflow is down")
        match message:
            case GetVariableKeys():
                keys = [key for key in self if key.startswith(message.prefix)]
                return VariableKeysResult(keys=keys, total_entries=len(keys))
            case GetVariable() if message.key in self:
                return VariableResult(key=message.key, value=self[message.key])
            case PutVariable():
                self[message.key] = message.value
        return None


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    """Airflow's variables, beside those in the environment."""
    variables = Variables()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", variables, raising=False)
    return variables


@pytest.fixture(scope="module")
def dag():
    return DagBag(DAGS / "audit.py").dags["nightshift_audit"]


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """Storage in which somebody snoozed the sample; MLflow is down, and nobody may ask Airflow."""
    uri, now = (tmp_path / "storage").as_uri(), datetime.now(UTC)
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # the task sets them; they end with this test
    snooze = Snooze(id="s", until=now + timedelta(days=7), reason="holidays", by="alice", created=now)
    Ledger(uri, "banking_assistant").create(snooze)
    return uri


def test_without_a_way_to_ask_airflow_the_ledger_is_kept_and_the_task_says_what_to_add(dag, storage):
    for _ in range(2):
        with pytest.raises(
            AirflowException, match=r"readable entries are in the audit log[^\0]*add one .type http, host and port"
        ):
            dag.get_task("collect").python_callable()
    told = [(entry["who"], entry["did"]) for entry in Chain(storage).entries() if entry["source"] == "ledger"]
    assert told == [("alice", "snoozed retraining")]


def test_a_second_place_is_anchored_also_when_mlflow_is_down(dag, storage, tmp_path, monkeypatch):
    place = tmp_path / "anchors"
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_AUDIT_ANCHOR", place.as_uri())
    with pytest.raises(AirflowException, match="readable entries"):
        dag.get_task("collect").python_callable()
    with pytest.raises(AirflowException, match=r"Is the server running\?") as caught:
        dag.get_task("anchor").python_callable()
    assert not isinstance(caught.value, AirflowFailException)  # it is tried again
    assert "pass-word" not in str(caught.value)
    assert [file.name for file in place.rglob("*.json")] == ["000000000003.json"]


def test_a_second_place_is_anchored_also_without_a_connection_to_mlflow(dag, storage, tmp_path, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", raising=False)
    place = tmp_path / "anchors"
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_AUDIT_ANCHOR", place.as_uri())
    with pytest.raises(AirflowException, match="readable entries"):
        dag.get_task("collect").python_callable()
    with pytest.raises(AirflowException, match="there is no Airflow connection 'nightshift_mlflow'; add one"):
        dag.get_task("anchor").python_callable()
    assert [file.name for file in place.rglob("*.json")] == ["000000000003.json"]


def test_a_ledger_that_cannot_be_read_keeps_neither_the_others_nor_airflow_from_being_asked(dag, storage, tmp_path):
    broken = tmp_path / "storage" / "banking_assistant" / "ledger" / "snoozes" / "a.json"
    broken.symlink_to(broken)
    with pytest.raises(AirflowException, match=r"the ledger of banking_assistant could not[^\0]*'nightshift_airflow'"):
        dag.get_task("collect").python_callable()
    assert "snoozed retraining" in [entry["did"] for entry in Chain(storage).entries()]


def test_a_log_that_was_tampered_with_fails_the_task_for_good(dag, storage, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_AUDIT_ANCHOR", (tmp_path / "anchors").as_uri())
    for task in ("collect", "anchor"):
        with pytest.raises(AirflowException):
            dag.get_task(task).python_callable()
    (file,) = (tmp_path / "storage" / "audit").rglob("*.jsonl")
    file.write_text(file.read_text().replace("holidays", "no reason"))
    with pytest.raises(AirflowFailException, match=r"was tampered with:\nentry 2 was edited: .*line 2"):
        dag.get_task("anchor").python_callable()


def test_a_log_that_was_replaced_with_all_its_anchors_fails_the_task_for_good(
    dag, storage, tmp_path, monkeypatch, variables
):
    place = tmp_path / "anchors"
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_AUDIT_ANCHOR", place.as_uri())
    monkeypatch.setenv("NIGHTSHIFT_AUDIT_KEY", KEY)
    for task in ("collect", "anchor"):
        with pytest.raises(AirflowException):
            dag.get_task(task).python_callable()
    (remembered,) = json.loads(variables["nightshift_audit_newest"])
    assert (remembered["count"], bool(remembered["signature"])) == (3, True)
    shutil.rmtree(tmp_path / "storage" / "audit")
    shutil.rmtree(place)
    with pytest.raises(AirflowException):
        dag.get_task("collect").python_callable()
    with pytest.raises(AirflowFailException, match=r"another log lay in .*entry 3 was anchored in Airflow"):
        dag.get_task("anchor").python_callable()
    assert not place.exists()


def test_while_airflow_cannot_say_what_it_remembers_nothing_is_anchored(dag, storage, tmp_path, monkeypatch, variables):
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_AUDIT_ANCHOR", (tmp_path / "anchors").as_uri())
    with pytest.raises(AirflowException):
        dag.get_task("collect").python_callable()
    variables.is_down = True
    with pytest.raises(AirflowException, match="not anchored in Airflow: Airflow is down"):
        dag.get_task("anchor").python_callable()
    assert not (tmp_path / "anchors").exists()


def test_a_missing_key_is_told_and_a_wrong_one_keeps_everything_from_being_anchored(
    dag, storage, monkeypatch, variables, caplog
):
    monkeypatch.setenv("NIGHTSHIFT_AUDIT_KEY", "wrong")
    for task in ("collect", "anchor"):
        with pytest.raises(AirflowException) as caught:
            dag.get_task(task).python_callable()
    assert "the key of the audit log is no key" in str(caught.value)
    assert not variables
    monkeypatch.setenv("NIGHTSHIFT_AUDIT_KEY", "")
    with pytest.raises(AirflowException, match="Is the server running"):
        dag.get_task("anchor").python_callable()
    assert "NIGHTSHIFT_AUDIT_KEY is not set" in caplog.text
    assert variables


@pytest.mark.slow
def test_a_real_airflow_remembers_and_finds_out_who_replaced_the_log_and_mlflows_anchors(tmp_path, mlflow_server):
    settings = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "olga:op",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(tmp_path / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the tests, long enough for SHA-512, which wants 64 bytes",
        "AIRFLOW_CONN_NIGHTSHIFT_MLFLOW": mlflow_server,
        "AIRFLOW_VAR_NIGHTSHIFT_STORAGE": (tmp_path / "storage").as_uri(),
        "NIGHTSHIFT_AUDIT_KEY": KEY,
    }
    others = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
    command = [sys.executable, Path(__file__).with_name("run_audit.py"), tmp_path / "storage"]
    run = subprocess.run(command, env={**others, **settings}, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    told = json.loads(run.stdout.splitlines()[-1])
    assert told["states"] == ["success", "failed"]
    assert [anchor["count"] for anchor in json.loads(told["remembered"])] == [3]
    assert "another log lay in" in run.stdout + run.stderr


def test_the_anchor_is_looked_at_also_when_airflow_could_not_be_asked(dag):
    assert dag.get_task("anchor").upstream_task_ids == {"collect"}
    assert dag.get_task("anchor").trigger_rule == "all_done"
