"""A real stack (scheduler, API server, DAG processor, triggerer, MLflow) with two applications, for all e2e tests."""

import os
import shutil
import socket
import subprocess
import sys

import pytest
from tiny_model import tiny_model

from nightshift.applications import applications_folder
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
training: {{precision: fp32, epochs: 3, rows_per_step: 4, rows_per_batch: 4, checkpoint_steps: 10, evaluate_steps: 100}}
evaluation: {{max_examples: 50, max_new_tokens: 4}}
"""


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """The environment of a stack of its own, which is ended afterwards; nothing is started yet."""
    home = tmp_path_factory.mktemp("stack")
    apps = home / "apps"
    apps.mkdir()
    samples = applications_folder().parent / "samples"
    sample = (applications_folder() / "banking_assistant.yaml").read_text().replace("../samples", str(samples))
    (apps / "banking_assistant.yaml").write_text(sample)
    (apps / "tiny.yaml").write_text(TINY.format(model=tiny_model(home / "tiny-model"), samples=samples))
    environment = {
        **os.environ,
        "NIGHTSHIFT_HOME": str(home / "nightshift"),
        "NIGHTSHIFT_APPS": str(apps),
        "NIGHTSHIFT_AIRFLOW_PORT": str(free_port()),
        "NIGHTSHIFT_MLFLOW_PORT": str(free_port()),
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


@pytest.fixture
def api(running_stack):
    """Airflow's REST API, as the user `operator`."""
    with AirflowApi(this_place(running_stack)) as api:
        yield api


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
