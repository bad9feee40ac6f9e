"""Airflow's own metrics, as compose has Airflow send them to Prometheus."""

import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import yaml

from nightshift.stack.place import CHECKOUT

COMPOSE = yaml.safe_load((CHECKOUT / "docker/compose.yaml").read_text())
# As the scheduler sets its metrics up.
PROGRAM = """
from airflow._shared.observability.metrics import stats
from airflow.configuration import conf
from airflow.observability.metrics import stats_utils
stats.initialize(
    factory=stats_utils.get_stats_factory(), export_legacy_names=conf.getboolean("metrics", "legacy_names_on"))
stats.incr("ti.finish", tags={"dag_id": "bank_finetune", "task_id": "train", "state": "success"})
"""


@pytest.fixture
def receiver():
    """The address of what takes OTLP, and the list of metrics that it got: of which part, name, labels."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    got = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                (part,) = [one.value.string_value for one in resource.resource.attributes if one.key == "service.name"]
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        points = metric.sum.data_points
                        labels = {one.key: one.value.string_value for point in points for one in point.attributes}
                        got.append((self.path, part, metric.name, labels))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()


def environment_of(service, settings):
    """The variables of a service, with those of `.env` put in."""
    variables = {**COMPOSE["x-airflow"]["environment"], **COMPOSE["services"][service]["environment"]}

    def value(match):
        name, sign, other = match.groups()
        given = settings.get(name, "")
        return (other if given else "") if sign == ":+" else given or other

    return {
        name: re.sub(r"\$\{(\w+)(:[+?-])(.*?)\}", value, str(text))
        for name, text in variables.items()
        if name.startswith(("OTEL_", "AIRFLOW__METRICS__"))
    }


@pytest.mark.slow
def test_each_part_sends_metrics_under_its_own_name_and_no_dag_is_part_of_a_name(receiver, tmp_path):
    address, got = receiver
    variables = environment_of("scheduler", {"METRICS_TOKEN": "x", "AIRFLOW_METRICS": "True"})
    variables["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] = variables["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"].replace(
        "http://prometheus:9090", address
    )
    environment = {**os.environ, **variables, "AIRFLOW_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, timeout=60)

    labels = {"dag_id": "bank_finetune", "task_id": "train", "state": "success"}
    assert got
    assert all(one == ("/api/v1/otlp/v1/metrics", "scheduler", "airflow.ti.finish", labels) for one in got)


def test_an_environment_file_from_before_leaves_them_off():
    assert environment_of("scheduler", {})["AIRFLOW__METRICS__OTEL_ON"] == "False"
