"""What a look keeps of one application: from Airflow's answers, the ledger, and the accounts of pods."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from fsspec.implementations.local import LocalFileSystem
from told import drift
from upath import UPath

from nightshift.alerts.global_alerts import ALL_APPLICATIONS, FailedHousekeeping, all_applications
from nightshift.alerts.of_runs import Run
from nightshift.alerts.outbox import Outbox
from nightshift.alerts.watch import Dag, Task
from nightshift.ledger.pod_accounts import PodUsage, usage_address
from nightshift.ledger.records import Answer, Decision, Order, Outcome, Request
from nightshift.ledger.store import Ledger
from nightshift.orchestration.airflow_state import AirflowState
from nightshift.orchestration.detection import detect, detect_global
from nightshift.orchestration.heartbeat import beat
from nightshift.settings.application import Application
from nightshift.storage.files import replace

NOW = datetime.now(UTC)
APP = Application(
    name="bank",
    sources=[{"uri": "/data/x.csv", "columns": {"prompt": "text", "answer": "intent"}}],
    budget={"gpu_hours_a_week": 10},
    approval={"required": "warn"},
)


@pytest.fixture
def box(tmp_path):
    return Outbox(tmp_path.as_uri(), "bank")


@pytest.fixture
def look(tmp_path, rest):
    """Look after the application, with what Airflow says."""

    def looked(**seen):
        found = AirflowState(began=datetime.now(UTC))
        for name, values in seen.items():
            getattr(found, name)["bank"].extend(values)
        return detect(APP, tmp_path.as_uri(), rest, found)

    return looked


def failed_run():
    return Run(dag_id="bank_ingest", run_id="a/b", state="failed", start_date=NOW, end_date=NOW)


def test_a_failed_run_that_nobody_told_is_told_with_its_tasks_and_only_once(look, box, answers):
    answers.json["/api/v2/dags/bank_ingest/dagRuns/a%2Fb/taskInstances"] = {"task_instances": [{"task_id": "ingest"}]}
    assert look(failed=[failed_run()]) == 1
    assert [alert.title for alert in box.open()] == ["bank_ingest: ingest failed"]
    answers.asked.clear()
    answers.json["/api/v2/dags/bank_ingest/dagRuns/a%2Fb"] = ended("queued")
    assert look(failed=[failed_run()]) == 0
    assert answers.asked == ["/api/v2/dags/bank_ingest/dagRuns/a%2Fb"]
    assert box.last_look() > NOW


def ended(state, run_id="a/b", **fields):
    return {"dag_id": "bank_ingest", "dag_run_id": run_id, "state": state, "end_date": NOW.isoformat(), **fields}


def test_a_recovery_that_nobody_told_is_found(look, box, answers):
    runs = "/api/v2/dags/bank_ingest/dagRuns"
    answers.json = {f"{runs}/a%2Fb/taskInstances": {"task_instances": []}, f"{runs}/a%2Fb": ended("failed")}
    answers.json[runs] = {"dag_runs": []}
    assert [look(failed=[failed_run()]), look(), look()] == [1, 0, 0]
    later = (NOW + timedelta(minutes=1)).isoformat()
    answers.json[runs] = {"dag_runs": [ended("success", "next", end_date=later)]}
    assert look() == 1
    assert box.open() == []


def test_the_failure_of_a_run_that_was_deleted_is_over(look, box, answers):
    answers.json["/api/v2/dags/bank_ingest/dagRuns/a%2Fb/taskInstances"] = {"task_instances": []}
    assert [look(failed=[failed_run()]), look()] == [1, 1]
    assert box.open() == []


def test_what_is_late_or_hangs_is_told_and_over_when_it_is_gone(look, box):
    began = NOW - timedelta(hours=13)
    run = Run(dag_id="bank_finetune", run_id="r", state="running", queued_at=began)
    task = Task(
        dag_id="bank_finetune", run_id="r", task_id="train", state="running", start_date=began,
        longest=timedelta(hours=1),
    )  # fmt: skip
    assert look(unfinished=[run], tasks=[task]) == 2
    assert {alert.kind for alert in box.open()} == {"deadline_missed", "job_stuck"}
    assert look(unfinished=[run], tasks=[task]) == 0
    assert look() == 2
    assert box.open() == []


def test_conditions_of_others_are_not_ended_by_a_look(look, box):
    box.accept(drift())
    assert look() == 0
    assert [alert.kind for alert in box.open()] == ["drift"]


def account(storage, uid, days_ago, hours, gpus=1):
    ended = datetime.now(UTC) - timedelta(days=days_ago)
    used = PodUsage(
        pod="p", uid=uid, job="train", dag_id="d", run_id="r", task_id="train",
        started=ended - timedelta(hours=hours), ended=ended, gpus=gpus, price_per_hour=1,
    )  # fmt: skip
    replace(usage_address(UPath(storage), "bank", used), used.model_dump_json().encode())


def test_the_budget_is_what_pods_used_in_seven_days(look, box, tmp_path):
    account(tmp_path.as_uri(), "old00000", 8, hours=50)
    account(tmp_path.as_uri(), "new00000", 1, hours=2, gpus=3)
    assert look() == 0
    account(tmp_path.as_uri(), "new00001", 0, hours=2.5)
    replace(UPath(tmp_path.as_uri()) / "bank" / "usage" / f"{NOW:%Y-%m-%d}" / "damaged.json", b"{")
    assert look() == 1
    assert [alert.title for alert in box.open()] == ["85% of the week's GPU hours is used"]


@pytest.fixture
def reads(monkeypatch):
    """The files that are read from storage."""
    read, found = LocalFileSystem.cat_file, []

    def cat_file(self, path, *arguments, **named):
        found.append(path)
        return read(self, path, *arguments, **named)

    monkeypatch.setattr(LocalFileSystem, "cat_file", cat_file)
    return found


def test_a_look_reads_no_account_and_no_answered_request_again(look, tmp_path, reads):
    ledger = Ledger(tmp_path.as_uri(), "bank")
    for number in range(30):
        account(tmp_path.as_uri(), f"pod{number:05d}", number % 7, hours=0.1)
        ledger.create(asked(hours_ago=5).model_copy(update={"id": f"q{number}"}))
        ledger.create(Answer(id=f"q{number}", answer="approved", by="ada", answered=NOW))
    look()
    reads.clear()
    account(tmp_path.as_uri(), "new00000", 0, hours=0.1)
    look()
    assert sum("/usage/" in path for path in reads) == 2  # the sums and the new one
    assert {path.rpartition("/")[2] for path in reads if "/ledger/" in path} == {"index.json"}


def asked(hours_ago):
    at = datetime.now(UTC) - timedelta(hours=hours_ago)
    return Request(
        id="20261121T050000-abc", version="8", model_digest="d", evaluation_digest="e", champion_digest=None,
        verdict="WARN", subject="May version 8 replace version 7?", dag_id="bank_release", run_id="r",
        task_id="approve", asked=at, until=at + timedelta(hours=24),
    )  # fmt: skip


WAITING = Task(dag_id="bank_release", run_id="r", task_id="approve", state="awaiting_input")


def test_a_request_that_waits_is_reminded_of_until_it_has_an_answer(look, box, tmp_path):
    ledger = Ledger(tmp_path.as_uri(), "bank")
    ledger.create(asked(hours_ago=5))
    assert look(tasks=[WAITING]) == 1
    assert look(tasks=[WAITING]) == 0
    (reminder,) = box.open()
    assert (reminder.kind, reminder.title[:5]) == ("approval_waits", "still")
    ledger.create(Answer(id=asked(5).id, answer="rejected", by="ada", answered=NOW))
    assert look() == 1
    assert box.undelivered()[-1].title.startswith("rejected by ada: ")


def test_a_request_whose_task_waits_no_more_is_not_reminded_of(look, box, tmp_path):
    Ledger(tmp_path.as_uri(), "bank").create(asked(hours_ago=5))
    assert look() == 0
    assert box.open() == []


def test_a_question_that_was_just_asked_is_not_over_because_the_look_is_older(look, box, tmp_path):
    request = asked(hours_ago=0)
    Ledger(tmp_path.as_uri(), "bank").create(request)
    box.accept(drift(kind="approval_waits", condition=f"approval {request.id}", cause=request.id))
    assert look() == 0
    assert len(box.open()) == 1


def test_a_retraining_that_the_ledger_gave_up_is_told_once(look, box, tmp_path):
    ledger = Ledger(tmp_path.as_uri(), "bank")
    decision = Decision(action="retrain", code="tripped", reason="two nights failed", decided=NOW)
    ledger.create(Order(number=7, decision=decision, created=NOW))
    ledger.create(Outcome(number=7, result="lost", explanation="no run claimed it", ended=NOW))
    assert (look(), look()) == (1, 0)
    assert [alert.title for alert in box.open()] == ["retraining 7 was lost"]


@pytest.fixture
def look_at_all(tmp_path):
    """Look at what concerns every application."""

    def looked(*, works=None, failed_housekeeping=(), **dag):
        dags = [Dag(**{"dag_id": "nightshift_audit", "is_paused": False, **dag})]
        seen = AirflowState(began=datetime.now(UTC), failed_housekeeping=list(failed_housekeeping), works=works or {})
        seen.dags[ALL_APPLICATIONS].extend(dags)
        return detect_global(all_applications([APP]), tmp_path.as_uri(), seen)

    return looked


def test_housekeeping_that_fails_is_over_when_it_works_and_not_because_it_is_paused(look_at_all, tmp_path):
    box = Outbox(tmp_path.as_uri(), ALL_APPLICATIONS)
    fails = FailedHousekeeping(dag_id="nightshift_audit", run="c", ended=NOW, last_success="a")
    assert [look_at_all(failed_housekeeping=[fails]), look_at_all(failed_housekeeping=[fails])] == [1, 0]
    assert look_at_all(is_paused=True) == 1
    assert [alert.title for alert in box.open()] == [
        "nightshift_audit fails, which serves all applications",
        "nightshift_audit is paused, which serves all applications",
    ]
    assert look_at_all() == 1  # it is not paused any more
    assert look_at_all(works={"nightshift_audit": NOW - timedelta(hours=1)}) == 0
    assert look_at_all(works={"nightshift_audit": NOW + timedelta(hours=1)}) == 1
    assert box.open() == []


def test_housekeeping_that_does_not_come_is_told(look_at_all, tmp_path):
    overdue = {"next_dagrun_run_after": NOW - timedelta(hours=2)}
    assert [look_at_all(), look_at_all(**overdue)] == [0, 1]
    (alert,) = Outbox(tmp_path.as_uri(), ALL_APPLICATIONS).open()
    assert re.fullmatch(r"nightshift_audit was due 2\.\d hours ago, and Airflow made no run", alert.title)


@pytest.mark.parametrize("hours", [None, 10])
def test_after_a_pause_the_scheduler_first_makes_the_runs_that_it_missed(look, box, hours):
    if hours:
        box.looked(NOW - timedelta(hours=hours))
    overdue = Dag(dag_id="bank_release", is_paused=False, next_dagrun_run_after=NOW - timedelta(hours=10))
    assert [look(dags=[overdue]), look(dags=[overdue])] == [0, 1]
    box.looked(NOW - timedelta(hours=1))
    assert look(dags=[overdue]) == 0
    assert len(box.open()) == 1, "what was told before holds on over a pause"
    assert look() == 1


def test_the_heartbeat_calls_its_address_and_keeps_it_to_itself(answers, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    beat()
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_HEARTBEAT", f"{answers.url}/S3CRET-uuid")
    beat()
    assert answers.asked == ["/S3CRET-uuid"]
    answers.status = 500
    beat()
    hidden = {"conn_type": "http", "host": "x", "password": f"{answers.url}/S3CRET-other"}
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_HEARTBEAT", json.dumps(hidden))
    answers.status = 200
    beat()
    answers.shutdown()
    answers.server_close()
    beat()
    assert answers.asked[-1] == "/S3CRET-other"
    assert "answered 500" in caplog.text
    assert "cannot be reached" in caplog.text
    assert "S3CRET" not in caplog.text
