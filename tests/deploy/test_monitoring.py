"""What the chart makes for Prometheus: only where the values say so, and with names that fit what is scraped."""

import json
import subprocess
import sys

import yaml
from rendered_chart import CASES, airflow_values, named, of_kind

from nightshift.stack.place import CHECKOUT


def test_a_service_monitor_scrapes_the_api_server_with_a_token_that_both_have() -> None:
    (endpoint,) = named("nightshift", "ServiceMonitor", "aws")["spec"]["endpoints"]
    key = endpoint["authorization"]["credentials"]
    (token,) = [one for one in airflow_values("aws")["apiServer"]["env"] if one["name"] == "NIGHTSHIFT_METRICS_TOKEN"]
    made = subprocess.run(
        [sys.executable, CHECKOUT / "deploy/helm/make_secrets.py"], capture_output=True, text=True, check=True
    )
    secrets = {one["metadata"]["name"]: one["stringData"] for one in json.loads(made.stdout)["items"]}
    (job,) = yaml.safe_load((CHECKOUT / "deploy/prometheus/prometheus.yaml").read_text())["scrape_configs"]

    assert token["valueFrom"]["secretKeyRef"] == {**key, "optional": True}
    assert len(secrets[key["name"]][key["key"]]) > 16
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": job["job_name"]}]
    assert (endpoint["path"], endpoint["scrapeTimeout"]) == (job["metrics_path"], job["scrape_timeout"])


def test_without_the_operator_nothing_of_its_kinds_is_made() -> None:
    assert not [case for case in CASES if case != "aws" for _ in of_kind("ServiceMonitor", case)]


def test_airflow_sends_its_own_metrics_where_the_values_name_a_collector() -> None:
    values = airflow_values("aws")
    environment = {one["name"]: one["value"] for one in values["env"]}
    (service,) = yaml.safe_load(values["extraEnv"])

    assert environment["AIRFLOW__METRICS__OTEL_ON"] == "True"
    assert environment["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] == "http://collector.monitoring:4318/v1/metrics"
    # Each part has a label of Airflow's chart, so the pods of tasks make no series of their own.
    assert service["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['component']"
    assert "OTEL" not in json.dumps(airflow_values("google"))
