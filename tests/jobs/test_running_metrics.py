"""What a running job sends to a collector: its numbers under its labels, and nothing where no collector is named."""

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from nightshift.jobs.progress import Progress
from nightshift.jobs.running_metrics import ENDPOINTS, TOLD, running_metrics
from nightshift.settings.application import Application

APP = Application(name="bank", sources=[{"uri": "/data/*.csv", "columns": {"prompt": "text"}}])
RESULT = "s3://storage/bank/results/bank_finetune/scheduled__2026-11-28/train/try-1/result.json"


@pytest.fixture
def collector(monkeypatch):
    """What an OTLP receiver got, as (name, labels, value); the environment names it."""
    got = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                    for point in metric.gauge.data_points:
                        labels = {one.key: one.value.string_value for one in point.attributes}
                        got.append((metric.name, labels, point.as_double or point.as_int))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(ENDPOINTS[0], f"http://127.0.0.1:{server.server_port}/v1/metrics")
    yield got
    server.shutdown()


def test_a_training_sends_loss_speed_memory_and_progress_with_its_run(collector):
    metrics = running_metrics("train", APP, RESULT)
    metrics.tell({"step": 40, "steps": 117, "loss": 0.82, "tokens_per_second": 410.5, "unit": "steps"})
    metrics.tell({"memory": 3_900_000_000})
    metrics.tell({"step": 41, "steps": 117, "loss": 0.8})
    metrics.end()
    labels = {"application": "bank", "task": "train", "run": "scheduled__2026-11-28", "node": "0"}
    assert {name: value for name, _, value in collector} == {
        "nightshift.running.step": 41, "nightshift.running.steps": 117, "nightshift.running.loss": 0.8,
        "nightshift.running.tokens_per_second": 410.5, "nightshift.running.memory": 3_900_000_000,
    }  # fmt: skip
    assert all(given == labels for _, given, _ in collector)


def test_each_node_of_a_job_has_series_of_its_own(collector, monkeypatch):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    metrics = running_metrics("generate", APP, "/tmp/result.json")
    metrics.tell({"step": 500, "steps": None})
    metrics.end()
    assert [(labels["node"], labels["run"]) for _, labels, _ in collector] == [("3", "by hand")]


def test_without_a_collector_nothing_is_imported_and_nothing_sent(monkeypatch):
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    assert running_metrics("train", APP, RESULT) is None
    code = "import nightshift.jobs.progress, sys; print(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_dead_collector_holds_no_job_up_for_long(monkeypatch):
    monkeypatch.setenv(ENDPOINTS[0], "http://127.0.0.1:9/v1/metrics")
    metrics = running_metrics("train", APP, RESULT)
    metrics.tell({"step": 1, "loss": 0.5})
    began = time.monotonic()
    metrics.end()
    assert time.monotonic() - began < 15


@pytest.mark.slow
def test_a_job_of_the_command_line_sends_its_memory(collector, tmp_path):
    (tmp_path / "rows.csv").write_text("question,answer\nWhere is my card?,It is on its way.\n")
    app = {
        "name": "bank",
        "sources": [{"uri": str(tmp_path / "*.csv"), "columns": {"prompt": "question", "answer": "answer"}}],
    }
    interval = {"start": "2026-11-28T00:00:00Z", "end": "2026-11-29T00:00:00Z"}
    spec = {"application": app, "storage": (tmp_path / "storage").as_uri(), "interval": interval}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "nightshift", "ingest", "--spec", "spec.json", "--result", "result.json"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    memory = [
        value for name, labels, value in collector if (name, labels["task"]) == ("nightshift.running.memory", "ingest")
    ]
    assert memory[-1] > 50e6


def test_what_a_job_reports_reaches_the_metrics_however_often_it_does(monkeypatch):
    told = []
    progress = Progress.__new__(Progress)
    progress.metrics = type("Told", (), {"tell": lambda _, numbers: told.append(numbers)})()
    progress._last_report, progress._write = time.monotonic(), lambda *_, **__: None
    progress.report(7, 9, "steps", loss=0.5)
    assert told == [{"loss": 0.5, "step": 7, "steps": 9}]
    assert {"loss", "step", "steps"} <= set(TOLD)
