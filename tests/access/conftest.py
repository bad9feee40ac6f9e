"""Airflow's API server with two applications in its database, once with FAB and once with the simple auth manager."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from nightshift.applications import applications_folder

ROOT = Path(__file__).parents[2]
MANAGERS = {
    "fab": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
    "simple": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
}
SIMPLE_ROLES = {"viewer": "viewer", "approver": "user", "operator": "op", "admin": "admin"}
RETURNS = """\
description: Answers questions about returns.
schedule: null
sources:
  - uri: /data/returns/{start:%Y-%m-%d}.jsonl
    columns: {prompt: question, answer: reply}
approval: {required: always, approvers: [other_approver]}
"""


@dataclass
class RunningAirflow:
    """An API server, and what `make_airflow.py` put into its database."""

    manager: str
    url: str
    place: Path
    environment: dict[str, str]
    made: dict

    def client(self, user: str | None = None) -> httpx.Client:
        """A client of somebody who logged in; of nobody without a name."""
        client = httpx.Client(base_url=self.url, trust_env=False, timeout=60)
        if user:
            token = client.post("/auth/token", json={"username": user, "password": self.password(user)})
            client.headers["Authorization"] = f"Bearer {token.raise_for_status().json()['access_token']}"
        return client

    def password(self, user: str) -> str:
        """FAB's users have their names; the simple auth manager made its own."""
        return user if self.manager == "fab" else json.loads((self.place / "passwords.json").read_text())[user]


@pytest.fixture(scope="session")
def airflows(tmp_path_factory):
    """Both, by the name of their auth manager. They start together."""
    places = {manager: tmp_path_factory.mktemp(manager) for manager in MANAGERS}
    servers: list[subprocess.Popen] = []
    try:
        with ThreadPoolExecutor(len(places)) as pool:
            running = pool.map(lambda manager: _started(manager, places[manager], servers), places)
            yield {airflow.manager: airflow for airflow in running}
    finally:
        for server in servers:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@pytest.fixture(scope="session")
def fab_airflow(airflows):
    return airflows["fab"]


@pytest.fixture(scope="session")
def simple_airflow(airflows):
    return airflows["simple"]


def airflow_environment(manager: str, place: Path, port: int) -> dict[str, str]:
    """The environment of an Airflow that lies in `place` and has the two applications."""
    settings = {
        "CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__AUTH_MANAGER": MANAGERS[manager],
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in SIMPLE_ROLES.items()),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(place / "passwords.json"),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{place}/airflow.db",
        "API__EXPOSE_CONFIG": "False",
        "API__SECRET_KEY": secrets.token_urlsafe(64),
        "API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "API__BASE_URL": f"http://127.0.0.1:{port}",
    }
    return {
        **os.environ,
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        "AIRFLOW_HOME": str(place),
        "AIRFLOW_VAR_NIGHTSHIFT_STORAGE": (place / "storage").as_uri(),
        "NIGHTSHIFT_APPS": str(place / "apps"),
    }


def two_applications(folder: Path) -> None:
    folder.mkdir()
    shutil.copy(applications_folder() / "banking_assistant.yaml", folder)
    (folder / "returns_helper.yaml").write_text(RETURNS)


def make_airflow(environment: dict[str, str], place: Path) -> dict:
    """Fill the database and return what tests must know of it."""
    command = [sys.executable, str(Path(__file__).with_name("make_airflow.py")), str(place)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((place / "made.json").read_text())


def _started(manager: str, place: Path, servers: list[subprocess.Popen]) -> RunningAirflow:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    two_applications(place / "apps")
    environment = airflow_environment(manager, place, port)
    made = make_airflow(environment, place)
    # Without the API that tasks speak to, which takes long to load and knows no users.
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--apps", "core"]
    with (place / "api-server.log").open("wb") as log:
        command = [sys.executable, "-m", "airflow", "api-server", *options]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    servers.append(server)
    url = f"http://127.0.0.1:{port}"
    _wait_for(url, server, place / "api-server.log")
    return RunningAirflow(manager, url, place, environment, made)


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/api/v2/version", trust_env=False, timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(log.read_text())
