"""Alerts by the real scheduler, DAG processor and triggerer: what a killed task, a late run and a silent failure tell."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest
from patience import wait_for
from upath import UPath

from nightshift.alerts.everybody import EVERYBODY
from nightshift.alerts.outbox import Outbox
from nightshift.applications import applications_folder
from nightshift.orchestration.seen import CALLBACK_TIME
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.environment import airflow_environment
from nightshift.stack.place import this_place

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
LATE_AFTER_HOURS = 0.005
ALERTS = """\
alerts:
  late_after_hours: {late}
  routes: [{{to: hook, severity: info}}]
"""


class Receiver(ThreadingHTTPServer):
    """What came to the webhook, and how often the heartbeat did."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Requests)
        self.taken, self.beats = [], 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def told(self, *texts):
        """The parts of messages, each about one alert, that hold all of these texts."""
        parts = [part for body in self.taken for part in re.split(r"(?m)^(?=[A-Z]+: )", body["message"])]
        return [part for part in parts if all(text in part for text in texts)]


class _Requests(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        self.server.beats += 1
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def receiver():
    server = Receiver()
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def told_stack(tmp_path_factory, tiny_application, unused_port, nightshift, receiver):
    """A stack with an application that tells a webhook everything."""
    home = tmp_path_factory.mktemp("told")
    (home / "apps").mkdir()
    text = tiny_application(home / "tiny-model") + ALERTS.format(late=LATE_AFTER_HOURS)
    (home / "apps" / "tiny.yaml").write_text(text)
    # The local stack takes its users from the sample's approvers.
    sample = (applications_folder() / "banking_assistant.yaml").read_text()
    samples = applications_folder().parent / "samples"
    (home / "apps" / "banking_assistant.yaml").write_text(sample.replace("../samples", str(samples)))
    port = receiver.server_address[1]
    hook = {"conn_type": "apprise", "extra": {"config": {"path": f"json://127.0.0.1:{port}/alerts"}}}
    environment = {
        **os.environ,
        "NIGHTSHIFT_HOME": str(home / "nightshift"),
        "NIGHTSHIFT_APPS": str(home / "apps"),
        "NIGHTSHIFT_AIRFLOW_PORT": str(unused_port()),
        "NIGHTSHIFT_MLFLOW_PORT": str(unused_port()),
        "AIRFLOW_CONN_NIGHTSHIFT_HEARTBEAT": f"http://127.0.0.1:{port}/alive",
    }
    started = nightshift("up", environment)
    assert started.returncode == 0, started.stdout + started.stderr
    # In Airflow's database, where a DAG processor, a worker and its threads have no way but to ask for it.
    subprocess.run(
        [sys.executable, "-m", "airflow", "connections", "add", "hook", "--conn-json", json.dumps(hook)],
        env=airflow_environment(this_place(environment)),
        check=True,
        capture_output=True,
    )
    yield environment
    nightshift("down", environment)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def told_api(told_stack):
    with AirflowApi(this_place(told_stack)) as api:
        wait_for(lambda: api.has_dag("nightshift_alerts") and api.has_dag("tiny_ingest"), 240, "the DAGs", every=1)
        api.unpause("tiny_ingest")
        yield api


def box(environment, name="tiny"):
    return Outbox(UPath(this_place(environment).storage).as_uri(), name)


def kept(environment):
    """All alerts that were told or wait to be."""
    outbox = box(environment)
    return [*outbox.undelivered(), *(alert for message in outbox.messages(50) for alert in message.alerts)]


def job_of(environment, run):
    """The process of an ingest job of a run."""
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if words[1:4] == ["-m", "nightshift", "ingest"] and f"/{run}/" in " ".join(words):
            return process
    return None


def state_of(api, dag, run):
    return next((row["state"] for row in api.runs(dag) if row["dag_run_id"] == run), None)


def ended(api, dag, run, seconds=300):
    return wait_for(
        lambda: (state := state_of(api, dag, run)) in {"success", "failed"} and state, seconds, f"{dag} {run}", every=1
    )


def look(api, run):
    """Let the DAG of the alerts look and deliver now."""
    api.trigger("nightshift_alerts", run, {})
    assert ended(api, "nightshift_alerts", run) == "success"


@pytest.fixture(scope="module")
def evening(told_api, told_stack):
    """All that goes wrong in one evening: a task that is killed in each of its tries, a run that a person marks as failed, and
    an application file that is wrong."""
    (Path(told_stack["NIGHTSHIFT_APPS"]) / "wrong.yaml").write_text("schedule: never\n")
    told_api.trigger("tiny_ingest", "silent", {"day": "2026-11-03"})
    wait_for(lambda: state_of(told_api, "tiny_ingest", "silent") == "running", 120, "the run", every=0.5)
    # Marked as failed in the UI, a run calls nothing.
    told_api._call("PATCH", "/api/v2/dags/tiny_ingest/dagRuns/silent", json={"state": "failed"})
    looked_at_from = time.monotonic() + CALLBACK_TIME.total_seconds() + 10
    told_api.trigger("tiny_ingest", "killed", {"day": "2026-11-02"})
    for number in range(3):
        job = wait_for(lambda: job_of(told_stack, "killed"), 180, f"try {number + 1} of the ingest task")
        job.parent().kill()
        wait_for(lambda: not job.is_running() or job.status() == psutil.STATUS_ZOMBIE, 30, "the job to end")  # noqa: B023
    assert ended(told_api, "tiny_ingest", "killed") == "failed"
    wait_for(lambda: any("wrong.yaml" in text for text in told_api.import_errors()), 180, "the import error", every=1)
    wait_for(lambda: any("Task log" in alert.links for alert in kept(told_stack)), 120, "the callback", every=0.5)
    time.sleep(max(0.0, looked_at_from - time.monotonic()))
    look(told_api, "look")
    # What that one found, the delivery beside it may have missed.
    look(told_api, "next-look")
    return "evening"


FAILED = "CRITICAL: tiny_ingest: ingest failed"


def test_a_task_that_the_kernel_killed_is_told_once_through_the_callback_of_its_dag(evening, receiver, told_stack):
    (part,) = receiver.told(FAILED, "run killed")
    assert f"{this_place(told_stack).airflow_url}/dags/tiny_ingest/runs/killed" in part
    assert "Task log: " in part  # which only the callback knows, and not the look


def test_a_late_run_is_noticed_by_the_triggerer_and_its_failure_is_the_last_word(evening, receiver, told_stack):
    assert receiver.told("WARNING: tiny_ingest is not done after", "run killed")
    assert {alert.kind for alert in box(told_stack).open()} == {"job_failed"}


def test_a_run_that_failed_without_a_word_is_found_by_the_look(evening, receiver):
    (part,) = receiver.told("CRITICAL: ", "run silent")
    assert "Task log: " not in part


def test_a_wrong_application_file_is_told_to_the_routes_of_the_others(evening, receiver, told_stack):
    (part,) = receiver.told("CRITICAL: Airflow cannot read")
    assert "wrong.yaml" in part
    (body,) = [body for body in receiver.taken if part in body["message"]]
    assert body["title"].startswith("[all-applications] CRITICAL: ")
    assert body["type"] == "failure"
    assert [alert.condition[:6] for alert in box(told_stack, EVERYBODY).open()] == ["import"]


def test_a_look_leaves_nothing_undelivered_and_sends_a_sign_of_life(evening, receiver, told_stack):
    assert box(told_stack).undelivered() == []
    assert receiver.beats >= 1
    assert box(told_stack).last_look()


def test_the_page_of_the_run_is_where_the_message_says(evening, receiver):
    (part,) = receiver.told(FAILED, "run killed")
    (address,) = re.findall(r"Run: (\S+)", part)
    assert httpx.get(address, trust_env=False, follow_redirects=True).status_code == 200


def test_a_run_that_works_again_is_told_and_nothing_else_anew(evening, told_api, receiver):
    told_api.trigger("tiny_ingest", "well", {"day": "2026-11-02"})
    assert ended(told_api, "tiny_ingest", "well") == "success"
    # Its callback may come after this look began; the next one of the clock brings it then.
    look(told_api, "look-again")
    wait_for(lambda: receiver.told("RECOVERED: tiny_ingest works again"), 400, "the recovery", every=1)
    assert len(receiver.told(FAILED, "run killed")) == 1
    assert len(receiver.told("CRITICAL: Airflow cannot read")) == 1
