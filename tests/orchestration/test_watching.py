"""What a look keeps of one application: from Airflow's answers, the ledger, and the accounts of pods."""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from told import drift
from upath import UPath

from nightshift.alerts.of_runs import Run
from nightshift.alerts.outbox import Outbox
from nightshift.alerts.watch import Task
from nightshift.config import Application
from nightshift.data.storage import replace
from nightshift.jobs.usage import PodUsage, usage_address
from nightshift.monitoring.policy import Answer, Outcome, Request
from nightshift.monitoring.records import Records
from nightshift.orchestration.airflow_rest import AirflowRest
from nightshift.orchestration.heartbeat import beat
from nightshift.orchestration.watching import Seen, look_after, see

NOW = datetime.now(UTC)
APP = Application(
    name="bank",
    sources=[{"uri": "/data/x.csv", "columns": {"prompt": "text", "answer": "intent"}}],
    budget={"gpu_hours_a_week": 10},
    approval={"required": "warn"},
)


class Answers(ThreadingHTTPServer):
    """Answers GETs with JSON by their path, and remembers what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Get)
        self.json, self.status, self.asked = {}, 200, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Get(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        body = json.dumps(self.server.json.get(self.path.partition("?")[0], {})).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def answers():
    server = Answers()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def rest(answers):
    with httpx.Client(base_url=answers.url, trust_env=False) as client:
        yield AirflowRest(client)


@pytest.fixture
def box(tmp_path):
    return Outbox(tmp_path.as_uri(), "bank")


@pytest.fixture
def look(tmp_path, rest):
    """Look after the application, with what Airflow says."""

    def looked(**seen):
        found = Seen(began=datetime.now(UTC))
        found.unkept = seen.pop("unkept", [])
        for name, values in seen.items():
            getattr(found, name)["bank"].extend(values)
        return look_after(APP, tmp_path.as_uri(), rest, found)

    return looked


def failed_run():
    return Run(dag_id="bank_ingest", run_id="a/b", state="failed", start_date=NOW, end_date=NOW)


def test_a_failed_run_that_nobody_told_is_told_with_its_tasks_and_only_once(look, box, answers):
    answers.json["/api/v2/dags/bank_ingest/dagRuns/a%2Fb/taskInstances"] = {"task_instances": [{"task_id": "ingest"}]}
    assert look(failed=[failed_run()]) == 1
    assert [alert.title for alert in box.open()] == ["bank_ingest: ingest failed"]
    answers.asked.clear()
    assert look(failed=[failed_run()]) == 0
    assert answers.asked == []
    assert box.last_look() > NOW


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


def asked(hours_ago):
    at = NOW - timedelta(hours=hours_ago)
    return Request(
        id="20261121T050000-abc", version="8", model_digest="d", evaluation_digest="e", champion_digest=None,
        verdict="WARN", subject="May version 8 replace version 7?", dag_id="bank_release", run_id="r",
        task_id="approve", asked=at, until=at + timedelta(hours=24),
    )  # fmt: skip


WAITING = Task(dag_id="bank_release", run_id="r", task_id="approve", state="awaiting_input")


def test_a_request_that_waits_is_reminded_of_until_it_has_an_answer(look, box, tmp_path):
    records = Records(tmp_path.as_uri(), "bank")
    records.create(asked(hours_ago=5))
    assert look(tasks=[WAITING]) == 1
    assert look(tasks=[WAITING]) == 0
    (reminder,) = box.open()
    assert (reminder.kind, reminder.title[:5]) == ("approval_waits", "still")
    records.create(Answer(id=asked(5).id, answer="rejected", by="ada", answered=NOW))
    assert look() == 1
    assert box.messages(1)[0].subject.startswith("[bank] answered: rejected by ada: ")


def test_a_request_whose_task_waits_no_more_is_not_reminded_of(look, box, tmp_path):
    Records(tmp_path.as_uri(), "bank").create(asked(hours_ago=5))
    assert look() == 0
    assert box.open() == []


def test_a_question_that_was_just_asked_is_not_over_because_the_look_is_older(look, box, tmp_path):
    request = asked(hours_ago=0)
    Records(tmp_path.as_uri(), "bank").create(request)
    box.accept(drift(kind="approval_waits", condition=f"approval {request.id}", cause=request.id))
    assert look() == 0
    assert len(box.open()) == 1


def test_a_retraining_that_the_ledger_gave_up_is_told_once(look, box, tmp_path):
    outcome = Outcome(number=7, result="lost", explanation="no run claimed it", ended=NOW)
    Records(tmp_path.as_uri(), "bank").create(outcome)
    assert (look(), look()) == (1, 0)
    assert [alert.title for alert in box.open()] == ["retraining 7 is given up for lost"]


def test_only_dags_of_known_applications_are_looked_at(rest, answers):
    def dag(name, *tags):
        return {"dag_id": name, "is_paused": False, "tags": [{"name": tag} for tag in tags]}

    answers.json = {
        "/api/v2/dags": {
            "dags": [dag("bank_ingest", "nightshift", "bank"), dag("nightshift_usage", "nightshift"), dag("x", "gone")]
        },
        "/api/v2/dags/~/dagRuns": {"dag_runs": [{"dag_id": "x", "dag_run_id": "r", "state": "failed"}]},
        "/api/v2/dags/~/dagRuns/~/taskInstances": {"task_instances": []},
        "/api/v2/importErrors": {"import_errors": []},
    }
    seen = see(rest, ["bank"])
    assert [dag.dag_id for dag in seen.dags["bank"]] == ["bank_ingest"]
    assert not seen.failed
    assert "tags=nightshift" in answers.asked[0]


def test_a_housekeeping_dag_that_fails_is_told_to_everybody_until_it_works(look, box, rest, answers):
    def audit(run, hour, state):
        ended = f"2026-11-21T{hour:02d}:00:00Z"
        return {"dag_id": "nightshift_audit", "dag_run_id": run, "state": state, "end_date": ended}

    path = "/api/v2/dags/nightshift_audit/dagRuns"
    answers.json = {
        "/api/v2/dags": {"dags": [{"dag_id": "nightshift_audit", "tags": [{"name": "nightshift"}]}]},
        "/api/v2/dags/~/dagRuns": {"dag_runs": [audit("b", 2, "failed"), audit("c", 3, "failed")]},
        "/api/v2/dags/~/dagRuns/~/taskInstances": {"task_instances": []},
        "/api/v2/importErrors": {"import_errors": []},
        path: {"dag_runs": [audit("a", 1, "success")]},
    }
    (unkept,) = see(rest, ["bank"]).unkept
    assert (unkept.run, unkept.well) == ("c", "a")
    assert look(unkept=[unkept]) == 1
    assert look(unkept=[unkept]) == 0
    (told,) = box.open()
    assert told.title == "nightshift_audit fails, which looks after every application"
    answers.json[path] = {"dag_runs": [audit("d", 4, "success")]}
    assert see(rest, ["bank"]).unkept == []
    assert look() == 1
    assert box.open() == []


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
