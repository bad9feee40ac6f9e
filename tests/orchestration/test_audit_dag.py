"""The DAG of the audit log: what its tasks leave behind, and what they say when something is missing, down or changed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from nightshift.audit.chain import Chain
from nightshift.ledger.records import Snooze
from nightshift.ledger.store import Ledger

DAGS = Path(__file__).parents[2] / "dags"


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
            AirflowException, match=r"what could be read is in the audit log[^\0]*add one .type http, host and port"
        ):
            dag.get_task("collect").python_callable()
    told = [(entry["who"], entry["did"]) for entry in Chain(storage).entries() if entry["source"] == "ledger"]
    assert told == [("alice", "snoozed retraining")]


def test_a_second_place_is_anchored_also_when_mlflow_is_down(dag, storage, tmp_path, monkeypatch):
    place = tmp_path / "anchors"
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_AUDIT_ANCHOR", place.as_uri())
    with pytest.raises(AirflowException, match="what could be read"):
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
    with pytest.raises(AirflowException, match="what could be read"):
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


def test_the_anchor_is_looked_at_also_when_airflow_could_not_be_asked(dag):
    assert dag.get_task("anchor").upstream_task_ids == {"collect"}
    assert dag.get_task("anchor").trigger_rule == "all_done"
