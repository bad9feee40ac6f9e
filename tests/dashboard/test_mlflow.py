"""The curves of a training, from a real MLflow server, and what is said when there is none."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from nightshift.dashboard import mlflow_rest
from nightshift.dashboard.mlflow_rest import Mlflow, thinned
from nightshift.errors import BadEnvironment


def connection(port, host="127.0.0.1", login=None, password=None):
    known = {"host": host, "port": port, "login": login, "password": password}
    return SimpleNamespace(schema=None, conn_type="http", extra_dejson={}, **known)


@pytest.fixture
def answering(request):
    """A server that answers everything with one status and keeps what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers)
            self.send_response(request.param)
            self.end_headers()
            self.wfile.write(b"<html>no JSON</html>")

        def log_message(self, *_arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_port, asked
    server.shutdown()


@pytest.fixture
def dripping():
    """A server that never ends its answer, though a little of it comes all the time; and the connections that it had."""
    connections = []

    def answer(server):
        with suppress(OSError):
            while True:
                connections.append(server.accept()[0])
                threading.Thread(target=drip, args=(connections[-1],), daemon=True).start()

    def drip(one):
        with suppress(OSError):
            one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while True:
                one.sendall(b" ")
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        yield server.getsockname()[1], connections


def test_nobody_waits_for_a_server_that_does_not_end_its_answer_and_it_is_asked_once_for_all(dripping):
    port, connections = dripping
    started = time.monotonic()

    def ask(_viewer):
        with pytest.raises(BadEnvironment, match="does not answer within 2 s"):
            Mlflow(connection(port)).newest_training("dripping")

    with ThreadPoolExecutor(3) as viewers:
        list(viewers.map(ask, range(3)))
    ask("later")  # that it is down is kept for some seconds
    assert time.monotonic() - started < 2 * mlflow_rest.PATIENCE_SECONDS  # for all four together
    assert len(connections) == 1


@pytest.mark.parametrize(
    ("answering", "said"),
    [(401, "refuses the login of the Airflow connection nightshift_mlflow"), (403, "refuses the login"), (500, "answers 500"),
     (200, "is not MLflow")],
    indirect=["answering"],
)  # fmt: skip
def test_every_refusal_has_its_own_words(answering, said):
    port, asked = answering
    with pytest.raises(BadEnvironment, match=said) as error:
        Mlflow(connection(port, login="someone", password="pass-word")).newest_training(f"app-{port}")
    assert asked[0]["Authorization"].startswith("Basic ")
    assert "pass-word" not in str(error.value)


@pytest.mark.parametrize("answering", [404], indirect=True)
def test_an_application_that_mlflow_does_not_know_has_no_training_yet(answering):
    assert Mlflow(connection(answering[0])).newest_training("unknown") is None


def test_a_long_curve_keeps_its_ends():
    curve = [(step, 1.0 / (step + 1)) for step in range(10_000)]
    shown = thinned(curve, 120)
    assert len(shown) == 120
    assert (shown[0], shown[-1]) == (curve[0], curve[-1])
    assert thinned(curve[:5], 120) == curve[:5]


@pytest.mark.slow
def test_a_training_shows_its_curves_while_it_runs(mlflow_server, visit, applications, monkeypatch):
    from nightshift.registry.tracking import TrackingRun

    applications("trained").champion()
    run = TrackingRun(
        "trained", "train-1", "train 1", {"nightshift.job": "train", "nightshift.reason": "order <b>7</b>"}
    )
    for step in range(1, 201):
        run.metrics({"loss": 4 / step, "tokens_per_second": 1000.0 + step}, step)
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", mlflow_server)
    page = visit("/apps/trained").text
    assert '<span class="badge retraining">RUNNING</span>' in page
    assert "Last training" in page  # no run of finetune is in progress: whoever logged it was killed
    assert "Loss: 0.02 at step 200" in page
    assert "Tokens a second: 1,200 at step 200" in page
    assert page.count("<tr data-x=") == 2 * 120
    assert "order &lt;b&gt;7&lt;/b&gt;" in page
    run.finish()
    monkeypatch.setattr(mlflow_rest, "KEPT_SECONDS", 0.0)
    assert '<span class="badge PASS">FINISHED</span>' in visit("/apps/trained").text
