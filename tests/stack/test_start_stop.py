"""The local stack, for real: it starts, heals, listens on this machine only, and leaves nothing behind."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest

from nightshift.stack import stuck
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.credentials import passwords
from nightshift.stack.down import main as down
from nightshift.stack.place import Place, this_place
from nightshift.stack.prepare import prepared_for
from nightshift.stack.up import components
from nightshift.stack.up import main as up

pytestmark = pytest.mark.e2e


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        "NIGHTSHIFT_HOME": str(tmp_path_factory.mktemp("stack")),
        "NIGHTSHIFT_AIRFLOW_PORT": str(free_port()),
        "NIGHTSHIFT_MLFLOW_PORT": str(free_port()),
    }


@pytest.fixture(scope="module")
def place(variables: dict[str, str]) -> Place:
    return this_place(variables)


@pytest.fixture(scope="module", autouse=True)
def stack(variables: dict[str, str]) -> Iterator[None]:
    text = nightshift("up", variables)
    assert "ready" in text
    yield
    nightshift("down", variables)


def nightshift(command: str, variables: dict[str, str]) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "nightshift", command],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def token(place: Place, user: str, password: str) -> httpx.Response:
    body = {"username": user, "password": password}
    return httpx.post(f"{place.airflow_url}/auth/token", json=body, timeout=30)


def hang_the_queue(place: Place) -> None:
    """Kill every idle worker of the executor; one of them holds the lock of the queue that all read."""
    leader = components(place)["scheduler"].leader()
    assert leader
    idle = [worker for worker in leader.children() if "<idle>" in " ".join(worker.cmdline())]
    assert idle
    for worker in idle:
        worker.kill()


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(1)


def state(api: AirflowApi, run: str) -> str | None:
    """How it stands with the first task of a run of `nightshift_audit`."""
    return next(task["state"] for task in api.tasks("nightshift_audit", run) if task["task_id"] == "collect")


def test_airflow_and_mlflow_answer_and_the_settings_are_loaded(place: Place) -> None:
    assert httpx.get(f"{place.mlflow_url}/health", timeout=30).text == "OK"
    with AirflowApi(place) as api:
        pools = {pool["name"]: pool for pool in api._call("GET", "/api/v2/pools")["pools"]}
        connections = api._call("GET", "/api/v2/connections")["connections"]
    assert pools["nightshift_jobs"]["slots"] == 2
    assert pools["nightshift_training"]["include_deferred"] is True
    assert [item["connection_id"] for item in connections] == ["nightshift_mlflow"]


def test_the_dags_are_read_without_an_import_error(place: Place) -> None:
    deadline = time.monotonic() + 120
    with AirflowApi(place) as api:
        while not (api.has_dag("banking_assistant_ingest") and api.has_dag("banking_assistant_finetune")):
            assert time.monotonic() < deadline, api.import_errors()
            time.sleep(1)
        assert api.import_errors() == []


def test_only_the_generated_passwords_open_it(place: Place) -> None:
    assert token(place, "operator", passwords(place)["operator"]).status_code == 201
    assert token(place, "admin", "admin").status_code == 401
    assert httpx.get(f"{place.airflow_url}/api/v2/dags", timeout=30).status_code == 401


def test_a_viewer_looks_and_changes_nothing(place: Place) -> None:
    bearer = token(place, "viewer", passwords(place)["viewer"]).json()["access_token"]
    with httpx.Client(base_url=place.airflow_url, headers={"Authorization": f"Bearer {bearer}"}, timeout=30) as client:
        assert client.get("/api/v2/dags").status_code == 200
        assert client.patch("/api/v2/dags/banking_assistant_ingest", json={"is_paused": False}).status_code == 403


def test_nothing_listens_beyond_this_machine(place: Place) -> None:
    mine = {process.pid for part in components(place).values() for process in part.members()}
    listening = [
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.pid in mine
    ]

    assert listening
    assert set(listening) == {"127.0.0.1"}


def test_a_second_start_finds_everything_running(variables: dict[str, str]) -> None:
    started = time.monotonic()

    assert "already running" in nightshift("up", variables)
    assert time.monotonic() - started < 20


def test_settings_that_were_edited_are_loaded_although_everything_runs(place: Place, variables: dict[str, str]) -> None:
    stamp = place.airflow_home / "prepared"
    stamp.write_text("other settings")

    assert "loading airflow_settings.yaml" in nightshift("up", variables)
    assert stamp.read_text() == prepared_for(place)
    assert "already running" in nightshift("up", variables)


def test_parts_that_were_started_from_other_code_are_restarted_and_the_rest_is_left_alone(
    place: Place, variables: dict[str, str]
) -> None:
    parts = components(place)
    before = {name: part.leader() for name, part in parts.items()}
    for name in ("api-server", "dag-processor"):
        record = json.loads(parts[name].record.read_text())
        parts[name].record.write_text(json.dumps(record | {"from": "the code before the upgrade"}))

    said = nightshift("up", variables)
    assert "the code or the packages have changed: restarting api-server, dag-processor" in said
    changed = {name for name, part in parts.items() if part.leader() != before[name]}
    assert changed == {"api-server", "dag-processor", "watch"}
    assert "already running" in nightshift("up", variables)


def test_tasks_that_hang_in_the_queue_of_a_killed_worker_finish_by_themselves(place: Place) -> None:
    hang_the_queue(place)
    with AirflowApi(place) as api:
        api.trigger("nightshift_audit", "hangs", {})
        wait_for(lambda: state(api, "hangs") == "success", 240)

    log = components(place)["watch"].log.read_text()
    assert "no worker takes it although one is free: restarting the scheduler" in log
    assert log.count("the scheduler was started again") == 1


def test_a_start_restarts_the_scheduler_whose_queue_hangs(
    place: Place, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stuck, "PATIENCE", timedelta(0))
    monkeypatch.setattr(stuck, "STARTING", timedelta(0))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = components(place)["scheduler"].leader()
    hang_the_queue(place)
    with AirflowApi(place) as api:
        api.trigger("nightshift_audit", "hangs-too", {})

        def hangs() -> bool:
            beat = api.scheduler_heartbeat()
            queued = [datetime.fromisoformat(task["queued_when"]) for task in api.tasks_in("queued")]
            return beat is not None and any(since < beat for since in queued)

        wait_for(hangs, 60)
        assert up() == 0
        assert "restarting the scheduler" in capsys.readouterr().out
        wait_for(lambda: state(api, "hangs-too") in {"running", "success"}, 120)
    assert components(place)["scheduler"].leader() not in (None, before)


def test_what_was_killed_is_started_again_and_the_rest_is_left_alone(place: Place, variables: dict[str, str]) -> None:
    parts = components(place)
    before = {name: part.leader() for name, part in parts.items()}
    for name in ("scheduler", "mlflow", "watch"):
        process = before[name]
        assert process
        process.kill()

    nightshift("up", variables)

    after = {name: part.leader() for name, part in parts.items()}
    changed = {name for name in parts if before[name] != after[name]}
    assert changed == {"scheduler", "mlflow", "watch"}
    assert all(after.values())


def test_the_logs_and_the_screen_hold_no_password(place: Place) -> None:
    words = [*passwords(place).values(), *json.loads((place.home / "keys.json").read_text()).values()]

    for log in place.logs.glob("*.log"):
        text = log.read_text(errors="replace")
        assert not any(word in text for word in words), log


def test_after_a_crash_of_the_api_server_down_leaves_nothing_behind(
    place: Place, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    members = [process for part in components(place).values() for process in part.members()]
    server = components(place)["api-server"].leader()
    assert server
    server.kill()

    nightshift("down", variables)

    def runs(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    assert [process for process in members if runs(process)] == []
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    down()
    assert "nothing was running" in capsys.readouterr().out
    assert Path(place.passwords).exists()
