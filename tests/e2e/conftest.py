"""A real stack (scheduler, API server, DAG processor, triggerer, MLflow) with its applications, for all e2e tests."""

import csv
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest
from chat_server import ChatServer
from tiny_model import tiny_model
from upath import UPath

from nightshift.settings.applications import applications_folder
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.place import this_place

TINY = """\
description: Small enough to be killed often.
start: 2026-11-02
schedule: null
base_model: {model}
sources:
  - uri: {samples}/banking77/{{start:%Y-%m-%d}}.csv
    columns: {{prompt: text, answer: intent, id: message_id, timestamp: written_at}}
training: {{precision: fp32, epochs: 1, rows_per_step: 4, rows_per_batch: 4, checkpoint_steps: 10, evaluate_steps: 100}}
evaluation: {{max_examples: 50, max_new_tokens: 4}}
"""

TOLD = """\
clock: {arrival_hours: 0}
alerts:
  late_after_hours: 0.005
  routes: [{to: hook, severity: info}]
"""
ASKED = """\
description: Small enough to be judged at once.
schedule: null
base_model: {model}
sources:
  - uri: /nowhere/{{start:%Y-%m-%d}}.jsonl
    columns: {{prompt: text, answer: answer}}
evaluation: {{max_examples: 20, max_new_tokens: 4}}
gate: {{min_examples: 10, min_score: 0, min_gain_over_base: 0, max_loss_to_champion: 1}}
approval: {{required: always, approvers: [approver], timeout_hours: {hours}, remind_hours: {reminded}}}
"""
RAMPED = """\
description: Its challengers take over share by share.
start: 2026-11-02
schedule: null
base_model: {model}
sources:
  - uri: {home}/asked/{{start:%Y-%m-%d}}.csv
    columns: {{prompt: text, answer: intent, id: message_id, subject: user}}
prompt: {{file: prompts/plain.yaml}}
ingest: {{splits: {{train: 0.05, held_out: 0.15, development: 0.3, traffic: 0.5}}}}
evaluation: {{max_examples: 40}}
inference:
  max_new_tokens: 20
  endpoint: {{url: "{url}", model: hosted-1, price: {{input: 1, output: 4}}}}
gate: {{min_examples: 10, min_score: 0}}
shadow: {{prompts: 60, min_prompts: 20}}
search: {{choices: {{prompt: [prompts/plain.yaml, prompts/exact.yaml]}}, rows: 5, eta: 2, final_rows: 60}}
split: {{shares: [0.3, 0.6], margin: 0.3, min_units: 20, intervals: 2, level: 0.2, cost_limit: 0.0005}}
"""
PROMPTS = {"plain": "Name the intent.", "exact": "Name the intent exactly."}
WAITING_HOURS = {"asked": 1, "hasty": 0.01}


class Receiver(ThreadingHTTPServer):
    """What came to the webhook, and how often the heartbeat did."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Requests)
        self.taken, self.beats = [], 0
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()

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


@pytest.fixture(scope="session")
def receiver():
    server = Receiver()
    yield server
    server.shutdown()


@pytest.fixture(scope="session")
def hosted():
    """A model at an endpoint, which names the intent of a message; of every third one only where it is asked exactly."""
    intents = {}
    for file in (applications_folder().parent / "samples" / "banking77").glob("*.csv"):
        with file.open(encoding="utf-8") as rows:
            intents |= {row["text"]: row["intent"] for row in csv.DictReader(rows)}

    def reply(body):
        system, asked = body["messages"][0]["content"], body["messages"][-1]["content"]
        return 200, intents.get(asked, "unknown") if "exactly" in system or len(asked) % 3 else "unknown"

    server = ChatServer(reply)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(scope="session")
def stack(tmp_path_factory, receiver, hosted):
    """The environment of a stack of its own, which is ended afterwards; nothing is started yet.

    Beside the sample there are `tiny`, `told` (the same, and it tells a webhook everything), two that ask people about a
    release: `asked` waits an hour for them, `hasty` not a minute, and `ramped`, whose model is at an endpoint.
    """
    home = tmp_path_factory.mktemp("stack")
    apps = home / "apps"
    apps.mkdir()
    samples = applications_folder().parent / "samples"
    sample = (applications_folder() / "banking_assistant.yaml").read_text().replace("../samples", str(samples))
    (apps / "banking_assistant.yaml").write_text(sample)
    model = tiny_model(home / "tiny-model")
    tiny = TINY.format(model=model, samples=samples)
    (apps / "tiny.yaml").write_text(tiny)
    (apps / "told.yaml").write_text(tiny + TOLD)
    for name, hours in WAITING_HOURS.items():
        (apps / f"{name}.yaml").write_text(ASKED.format(model=model, hours=hours, reminded=hours / 2))
    (home / "prompts").mkdir()
    for name, said in PROMPTS.items():
        template = f"<message role='system'>{said}</message>{{{{$prompt}}}}"
        (home / "prompts" / f"{name}.yaml").write_text(json.dumps({"template": template}))
    (apps / "ramped.yaml").write_text(RAMPED.format(model=model, home=home, url=hosted.url))
    environment = {
        **os.environ,
        "NIGHTSHIFT_HOME": str(home / "nightshift"),
        "NIGHTSHIFT_PROJECT": str(home),
        "NIGHTSHIFT_AIRFLOW_PORT": str(free_port()),
        "NIGHTSHIFT_MLFLOW_PORT": str(free_port()),
        "AIRFLOW_CONN_NIGHTSHIFT_HEARTBEAT": f"http://127.0.0.1:{receiver.server_address[1]}/alive",
    }
    yield environment
    run_nightshift("down", environment)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def running_stack(stack):
    """The same, started."""
    started = run_nightshift("up", stack)
    assert started.returncode == 0, started.stdout + started.stderr
    return stack


@pytest.fixture(scope="session")
def time_passes(running_stack):
    """A function that makes the end of a run, the tries that failed and the last signs of life of its tasks minutes older.

    A retry, and all that looks for what ended or fell silent some time ago, need not be waited for then.
    """
    database = this_place(running_stack).airflow_home / "airflow.db"
    moments = (
        ("dag_run", "end_date", "TRUE"),
        ("task_instance", "end_date", "state = 'up_for_retry'"),
        ("task_instance", "last_heartbeat_at", "state = 'running'"),
    )

    def of_run(run):
        with closing(sqlite3.connect(database, timeout=60)) as airflow, airflow:
            for table, moment, where in moments:
                earlier = f"strftime('%Y-%m-%d %H:%M:%f000', {moment}, '-3 minutes')"
                airflow.execute(f"UPDATE {table} SET {moment} = {earlier} WHERE run_id = ? AND {where}", (run,))  # noqa: S608

    return of_run


@pytest.fixture
def api(running_stack):
    """Airflow's REST API, as the user `operator`."""
    with AirflowApi(this_place(running_stack)) as api:
        yield api


@pytest.fixture(scope="session")
def job_process(stack):
    """A function that finds the process of a job of this stack that an operator started, by a part of its spec's path."""
    storage = UPath(this_place(stack).storage).path

    def of_job(job, part):
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if words[1:4] == ["-m", "nightshift", job] and storage in " ".join(words) and part in " ".join(words):
                return process
        return None

    return of_job


@pytest.fixture(scope="session")
def task_process():
    """A function that finds the process of a task that runs, by Airflow's id of it."""

    def of_task(api, dag, run, task):
        (instance,) = [row["id"] for row in api.tasks(dag, run) if row["task_id"] == task]
        title, processes = f"airflow worker -- {instance}", psutil.process_iter(["cmdline"])
        (process,) = [process for process in processes if title in " ".join(process.info["cmdline"] or [])]
        return process

    return of_task


@pytest.fixture(scope="session")
def tiny_application():
    """Make the file of the tiny application: its text, with its model in a folder."""
    samples = applications_folder().parent / "samples"
    return lambda folder: TINY.format(model=tiny_model(folder), samples=samples)


@pytest.fixture(scope="session")
def unused_port():
    """Find a port that nobody listens on."""
    return free_port


@pytest.fixture(scope="session")
def nightshift():
    """Run `nightshift <command>` as a person does."""
    return run_nightshift


def run_nightshift(command: str, environment: dict[str, str], timeout: float = 900) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "nightshift", *command.split()],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
