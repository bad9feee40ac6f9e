"""Alert rules and dashboards: made from one place, of metrics that exist; and alerts fire when they should."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from alert_rules import alert_rules
from build_monitoring import DEPLOY, files
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from nightshift.jobs.running_metrics import TOLD
from nightshift.metrics.families import FAMILIES
from nightshift.stack.place import CHECKOUT

RULES = DEPLOY / "prometheus" / "alerts.yaml"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RUNNING = {f"nightshift_running_{name}" + ("_bytes" if unit == "By" else "") for name, unit in TOLD.items()}
needs_prometheus = pytest.mark.skipif(
    not shutil.which("promtool"), reason="needs the Debian package prometheus, for promtool"
)


def queries(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def every_expression():
    rules = [rule["expr"] for group in alert_rules()["groups"] for rule in group["rules"]]
    return [*rules, *(query for path in DASHBOARDS for query in queries(json.loads(path.read_text())))]


def test_what_is_in_the_repository_is_what_the_generator_makes():
    for path, text in files().items():
        assert path.read_text() == text, f"run scripts/build_monitoring.py: {path} is old"
    assert set(DASHBOARDS) <= set(files())


def test_every_metric_of_a_rule_or_a_panel_is_one_that_exists():
    asked = {name for one in every_expression() for name in re.findall(r"\bnightshift_\w+", one)}
    assert asked - set(FAMILIES) - RUNNING == set()
    assert {"nightshift_verdict", "nightshift_running_loss"} <= asked


def test_every_label_that_is_asked_for_is_one_of_the_metric():
    for expression in every_expression():
        for name, labels in re.findall(r"\b(nightshift_\w+)\{([^}]*)\}", expression):
            asked = set(re.findall(r"(\w+)\s*(?:=~|!=|=)", labels))
            assert asked <= set(FAMILIES[name].labels if name in FAMILIES else ("application",)), expression


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_grafanas_own_model_of_a_dashboard_knows_all_that_is_in_it(path):
    read = Dashboard.from_json(json.loads(path.read_text()))
    assert json.loads(JSONEncoder().encode(read)) == json.loads(path.read_text())
    assert len({panel["id"] for panel in json.loads(path.read_text())["panels"] if "id" in panel}) in {
        0,
        len(read.panels),
    }


@needs_prometheus
def test_prometheus_reads_every_rule_and_every_query(tmp_path):
    as_rules = [
        {"record": f"panel:{number}", "expr": query.replace("$application", "bank")}
        for number, query in enumerate(every_expression())
    ]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": as_rules}]}))
    for path in (RULES, tmp_path / "panels.yaml"):
        checked = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_prometheus
def test_each_alert_fires_for_what_it_is_there_for_and_a_healthy_night_fires_none(tmp_path):
    shutil.copy(CHECKOUT / "tests/metrics/alerts_test.yaml", tmp_path)
    shutil.copy(RULES, tmp_path)
    tested = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
