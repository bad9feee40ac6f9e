"""Airflow's API server with two applications in its database, once with FAB and once with the simple auth manager."""

import json
import os
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
from two_airflows import MANAGERS, airflow_environment, make_airflow, two_applications


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


@pytest.fixture(scope="module")
def tables():
    """FAB's tables and its own roles, in the database of the tests."""
    from airflow.utils.db import initdb
    from make_airflow import prepare_fab

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AIRFLOW__CORE__AUTH_MANAGER", MANAGERS["fab"])
        initdb()
        prepare_fab()
        yield


@pytest.fixture
def apps(tables, tmp_path, monkeypatch):
    """The folder with two applications, that no sync has seen yet."""
    from airflow.models import Variable
    from airflow.providers.fab.auth_manager.models import Role, User
    from airflow.utils.session import create_session
    from sqlalchemy import delete, select

    two_applications(tmp_path / "apps")
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    yield tmp_path / "apps"
    with create_session() as now:
        for role in now.scalars(select(Role)).unique():
            if role.name not in {"Admin", "Viewer", "User", "Op", "Public"}:
                now.delete(role)
        now.execute(delete(User))
        now.execute(delete(Variable))


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
