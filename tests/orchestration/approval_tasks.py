"""The task that asks people about a release, as Airflow executes and resumes it."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskAwaitingInput

from nightshift.ledger.approval import keep_request
from nightshift.ledger.gate_records import record
from nightshift.ledger.records import GateRecord, Request
from nightshift.ledger.store import Ledger
from nightshift.orchestration.approval import ApproveRelease
from nightshift.orchestration.attempt import storage_uri
from nightshift.settings.applications import load_application

NOW = datetime(2026, 11, 28, 10, 0, tzinfo=UTC)
APP = """\
description: Asked about.
sources:
  - uri: /data/{start:%Y-%m-%d}.jsonl
    columns: {prompt: question, answer: reply}
approval: {required: always, approvers: [alice, bob], timeout_hours: 2, remind_hours: 1}
"""
DECISION = {
    "ask": True, "request": "20261128T100000-aaaa", "version": "3", "model_digest": "m" * 64,
    "evaluation_digest": "e" * 64, "champion_digest": None, "after": 0, "verdict": "WARN", "reasons": ["it may be luck"],
    "subject": "asked: release version 3?", "body": "**WARN**",
}  # fmt: skip


@pytest.fixture
def asking(project, tmp_path, monkeypatch):
    """A function that executes the task for a decision, and the questions that reached Airflow."""
    (project / "apps" / "asked.yaml").write_text(APP)
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", (tmp_path / "storage").as_uri())
    simple = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", simple)
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "alice:user,bob:user,eve:viewer")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.test")
    questions = []
    # What reaches Airflow's database is asked of its supervisor, which only a running task has.
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **given: questions.append(given)
    )

    def execute(try_number=1):
        app = load_application("asked")
        with DAG("asked_release"):
            task = ApproveRelease(task_id="approve", app=app)
        with pytest.raises(TaskAwaitingInput) as waits:
            task.execute(context(task, try_number=try_number))
        return waits.value

    execute.questions = questions
    execute.records = Ledger((tmp_path / "storage").as_uri(), "asked")
    decided(execute.records)
    return execute


def decided(ledger, **changes):
    """Have the ledger say that what DECISION says was decided."""
    about = {
        name: DECISION[name] for name in ("version", "model_digest", "evaluation_digest", "champion_digest", "after")
    }
    said = {name: DECISION[name] for name in ("request", "verdict", "reasons")}
    gate = {
        "application": "asked",
        "evaluation": "memory://e",
        "policy": "p",
        "numbers": {},
        "released": False,
        "by": "gate",
    }
    record(ledger, GateRecord(**{**about, **said, **gate, **changes}, decided=NOW))


def context(task=None, try_number=1, **changes):
    """What Airflow gives a task whose upstream decided."""
    ti = SimpleNamespace(
        id="1", dag_id="asked_release", run_id="manual__1", task_id="approve", map_index=-1, try_number=try_number,
        xcom_pull=lambda task_ids: {**DECISION, **changes},
    )  # fmt: skip
    return {
        "ti": ti, "task_instance": ti, "task": task, "dag_run": SimpleNamespace(triggering_user_name="eve", conf={}),
        "dag": SimpleNamespace(params={}),
    }  # fmt: skip


def answered(task, **event):
    """What the task returns once Airflow resumes it with an answer."""
    given = {
        "chosen_options": ["Approve"],
        "params_input": {"why": "read twenty answers"},
        "responded_at": datetime(2026, 11, 28, 11, 0, tzinfo=UTC),
        "responded_by_user": {"id": "7", "name": "alice"},
        "timedout": False,
    }
    return task.execute_complete(context(task), {**given, **event})


@pytest.fixture
def task(monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", (tmp_path / "storage").as_uri())
    task = ApproveRelease(task_id="approve", app=load_application("banking_assistant"))
    fields = ("version", "model_digest", "evaluation_digest", "champion_digest", "after", "verdict", "subject")
    about = {name: DECISION[name] for name in fields}
    place = {"dag_id": "asked_release", "run_id": "manual__1", "task_id": "approve"}
    keep_request(
        records_of(task), Request(id=DECISION["request"], **about, **place, asked=NOW, until=NOW + timedelta(hours=2))
    )
    return task


def records_of(task):
    return Ledger(storage_uri(), task.application)
