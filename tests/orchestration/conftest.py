"""Airflow's REST API as far as the look asks it (answers that a test chooses, over HTTP), and an application with a ledger."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import candidates
import httpx
import pytest

from nightshift.ledger.store import Ledger
from nightshift.orchestration.airflow_rest import AirflowRest

judged, progress, tiny_models = candidates.judged, candidates.progress, candidates.tiny_models
publish_day, publish_model = candidates.publish_day, candidates.publish_model


class Answers(ThreadingHTTPServer):
    """Answers GETs with JSON by their path, 404 where it has none, and remembers what it was asked.

    What answers may be a function of the query.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Get)
        self.json, self.status, self.asked, self.tokens = {}, 200, [], []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Get(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.tokens.append(self.headers.get("Authorization"))
        path, _, query = self.path.partition("?")
        answer = self.server.json.get(path)
        body = json.dumps(answer(parse_qs(query)) if callable(answer) else answer).encode()
        self.send_response(404 if answer is None and path.startswith("/api/") else self.server.status)
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


APP = """\
sources:
  - uri: /data/*.csv
    columns: {prompt: text}
retraining: {nights: 1, of_nights: 1, min_new_examples: 0, cooldown_days: 0}
"""


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """The storage of the application `app`, whose decisions nobody shows: nothing listens where MLflow should be."""
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "app.yaml").write_text(APP)
    place = (tmp_path / "storage").as_uri()
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", place)
    return place


@pytest.fixture
def shown(storage, mlflow_server, monkeypatch):
    """The same with an MLflow server, whose URI it is."""
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", mlflow_server)
    return mlflow_server


@pytest.fixture
def ledger(storage):
    return Ledger(storage, "app")
