"""A real Prometheus scrapes the real endpoint over planted troubles, and its alerts fire."""

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta

import in_airflow
import pytest
import yaml
from alert_rules import alert_rules
from stored_application import LAST

from nightshift.alerts.outbox import Outbox

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("prometheus"), reason="needs the Debian package prometheus"),
]
TOKEN = "a-token-of-the-tests"
DAILY = """\
schedule: "@daily"
start: 2026-01-01
sources:
  - uri: /data/{start:%Y-%m-%d}.jsonl
    columns: {prompt: question, answer: reply}
"""
PATIENCE_SECONDS = 180


@pytest.fixture
def server(airflow, applications, monkeypatch):
    """The API server's application behind a port of this machine."""
    import uvicorn

    monkeypatch.setenv("NIGHTSHIFT_METRICS_TOKEN", TOKEN)
    served = uvicorn.Server(uvicorn.Config(airflow[0], port=free_port(), log_level="warning"))
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    yield f"127.0.0.1:{served.config.port}"
    served.should_exit = True
    thread.join(30)


@pytest.fixture
def prometheus(server, tmp_path):
    """A function that asks Prometheus; it scrapes as docs/metrics.md says, and alerts as soon as a condition is seen."""
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(alert_rules(hold="0s")))
    scraped = {
        "job_name": "nightshift", "metrics_path": "/nightshift/metrics", "static_configs": [{"targets": [server]}],
        "authorization": {"credentials": TOKEN}, "scrape_interval": "2s", "scrape_timeout": "2s",
    }  # fmt: skip
    config = {"global": {"evaluation_interval": "1s"}, "rule_files": ["alerts.yaml"], "scrape_configs": [scraped]}
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        "prometheus", f"--config.file={tmp_path / 'prometheus.yaml'}", f"--storage.tsdb.path={tmp_path / 'series'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    with (tmp_path / "prometheus.log").open("w") as log, subprocess.Popen(command, stderr=log, stdout=log) as process:

        def ask(path):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=10) as answer:
                    return json.load(answer)["data"]
            except OSError:
                return {}

        yield ask
        process.terminate()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def firing(prometheus):
    found = prometheus("alerts").get("alerts", [])
    return {
        (one["labels"]["alertname"], one["labels"].get("application", "")) for one in found if one["state"] == "firing"
    }


def test_no_data_drift_a_stuck_queue_and_a_dead_scheduler_fire_in_prometheus(applications, prometheus, tmp_path):
    bank = applications("bank")
    bank.champion()
    bank.interactions(LAST)
    bank.drift(LAST, "FAIL")
    (applications.folder / "silent.yaml").write_text(DAILY)
    Outbox(bank.storage, "bank").looked(datetime.now(UTC) - timedelta(hours=1))
    dags = tmp_path / "dags"
    dags.mkdir()
    in_airflow.write_dags(dags)
    in_airflow.run("stuck", tasks={"train": ("queued", 40)})
    in_airflow.beat("SchedulerJob", 900)
    wanted = {
        ("NightshiftNoData", "silent"),
        ("NightshiftDriftFail", "bank"),
        ("NightshiftQueueStuck", "bank"),
        ("NightshiftSchedulerDown", ""),
        ("NightshiftHousekeepingDead", ""),
    }
    until = time.monotonic() + PATIENCE_SECONDS
    while not wanted <= firing(prometheus) and time.monotonic() < until:
        time.sleep(1)
    seen = firing(prometheus)
    assert wanted <= seen
    assert ("NightshiftDriftFail", "silent") not in seen
    assert ("NightshiftMetricsDown", "") not in seen
    (up,) = prometheus("query?query=up")["result"]
    assert up["value"][1] == "1"
