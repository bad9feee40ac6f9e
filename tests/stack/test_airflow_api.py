"""The calls of Airflow's REST API: an answer that comes with the second try is an answer."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from nightshift.errors import BadEnvironment
from nightshift.stack import airflow_api
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.place import this_place


class _Airflow(BaseHTTPRequestHandler):
    """Gives the answers of its server one after the other; a token whenever it is asked for one."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        token = self.path == "/auth/token"
        status = 201 if token else self.server.statuses.pop(0)  # type: ignore[attr-defined]
        body = json.dumps({"access_token": "token"} if token else {"detail": "database is locked"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., AirflowApi]]:
    """A function that returns the API of an Airflow which answers with these statuses."""
    monkeypatch.setattr(airflow_api, "RETRY_SECONDS", 0.01)
    server = HTTPServer(("127.0.0.1", 0), _Airflow)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    place = this_place({"NIGHTSHIFT_HOME": str(tmp_path), "NIGHTSHIFT_AIRFLOW_PORT": str(server.server_address[1])})

    def api(*statuses: int) -> AirflowApi:
        server.statuses = [*statuses]  # type: ignore[attr-defined]
        return AirflowApi(place)

    yield api
    server.shutdown()
    server.server_close()


def test_a_run_whose_database_was_in_use_is_started_with_another_try(answering: Callable[..., AirflowApi]) -> None:
    with answering(500, 500, 200) as api:
        api.trigger("dag", "run", {})


def test_a_run_that_was_started_although_the_answer_was_an_error_is_not_started_twice(
    answering: Callable[..., AirflowApi],
) -> None:
    with answering(500, 409) as api:
        api.trigger("dag", "run", {})


def test_an_error_that_stays_is_told_with_what_airflow_said(answering: Callable[..., AirflowApi]) -> None:
    with answering(*[500] * 10) as api, pytest.raises(BadEnvironment, match=r"500.*database is locked"):
        api.trigger("dag", "run", {})


def test_what_is_refused_is_not_tried_again(answering: Callable[..., AirflowApi]) -> None:
    with answering(403, 200) as api, pytest.raises(BadEnvironment, match="403"):
        api.trigger("dag", "run", {})
