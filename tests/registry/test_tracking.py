"""What a job says when the tracking server does not take its results."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow import MlflowClient

from nightshift.errors import BadEnvironment
from nightshift.registry.tracking import TrackingRun, reachable, system_metrics


@pytest.fixture
def refusing(monkeypatch):
    """A function that starts a server which answers everything with one status and text, and asks it something."""
    servers = []

    def ask(status, text):
        class Refusal(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        uri = f"http://someone:pass-word@127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(BadEnvironment) as caught, reachable():
            MlflowClient(uri).get_experiment_by_name("shop")
        assert "pass-word" not in str(caught.value)
        return str(caught.value)

    yield ask
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_points_at_the_connection(refusing, status):
    told = refusing(status, "You are not authenticated. " + "x" * 5_000)
    assert "You are not authenticated" in told
    assert "Check the login of the Airflow connection nightshift_mlflow" in told
    assert "server running" not in told
    assert len(told) < 1_000


@pytest.mark.parametrize(("status", "words"), [(500, "500 error responses"), (501, "database is locked")])
def test_an_error_of_the_server_is_told_in_its_words(refusing, status, words):
    told = refusing(status, "database is locked")
    assert words in told
    assert "See its log" in told
    assert "server running" not in told


def test_a_server_that_is_down_is_asked_after(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BadEnvironment, match=r"Is the server running\?"), reachable():
        MlflowClient("http://127.0.0.1:9").get_experiment_by_name("shop")


def test_a_number_sent_twice_is_there_once_with_its_timestamp_and_without_one_the_newest_is_shown(mlflow_store):
    run = TrackingRun("shop", key="night-1", name="night")
    for _ in range(2):
        run.metrics({"loss": 0.5}, step=3, timestamp=1_700_000_000_000)
        run.metrics({"rows": 20}, timestamp=None)
    assert [one.value for one in mlflow_store.get_metric_history(run.run_id, "loss")] == [0.5]
    assert [one.value for one in mlflow_store.get_metric_history(run.run_id, "rows")] == [20, 20]
    run.metrics({"rows": 10})
    assert mlflow_store.get_run(run.run_id).data.metrics == {"loss": 0.5, "rows": 10}


def test_what_the_machine_is_at_goes_on_where_an_attempt_before_ended_it(mlflow_store):
    run = TrackingRun("shop", key="training-1", name="training")
    known = 0
    for _ in range(2):
        run.reopen()
        with system_metrics(run, seconds=0.01):
            time.sleep(0.5)
        run.finish("FAILED")
        found = mlflow_store.get_metric_history(run.run_id, "system/system_memory_usage_percentage")
        assert len({one.step for one in found}) == len(found) > known
        assert all(0 < one.value <= 100 for one in found)
        known = len(found)


def test_what_runs_ends_soon_where_mlflow_stops_answering_about_the_machine(mlflow_store, monkeypatch):
    run, asked, over = TrackingRun("shop", key="training-1", name="training"), [], threading.Event()

    class SilentAfterTheFirst(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if len(asked) > 1:
                over.wait(30)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), SilentAfterTheFirst) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        with system_metrics(run, seconds=0.01):
            while len(asked) < 2:
                time.sleep(0.01)
            ended = time.monotonic()
        assert time.monotonic() - ended < 5
        over.set()
        server.shutdown()


def test_a_monitor_of_the_machine_that_cannot_start_stops_nothing(mlflow_store, monkeypatch, caplog):
    run = TrackingRun("shop", key="training-1", name="training")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "no-such-scheme://mlflow")
    with system_metrics(run):
        pass
    assert "goes on without system metrics" in caplog.text
