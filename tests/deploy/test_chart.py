"""The chart with a real Helm: what it renders, what it refuses; and MLflow's command of the chart on a real PostgreSQL.

Needs `make environment-deploy`.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import pytest
import yaml
from helm_program import HELM
from render_chart import CHART, EXAMPLES, RENDERED

from nightshift.stack.place import CHECKOUT

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

VALUES = yaml.safe_load((EXAMPLES / "aws.yaml").read_text())


@pytest.fixture(scope="module")
def helm(deploy_python):
    """A function that lints the chart and renders it with each of the values."""

    def render(*several):
        command = [deploy_python, "-c", HELM, str(CHART), json.dumps(several)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]

    return render


def changed(path, value):
    values = json.loads(json.dumps(VALUES))
    *parents, last = path.split(".")
    place = values
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = value
    return values


def test_the_rendered_files_are_what_helm_makes_of_the_chart_now(deploy_python, tmp_path):
    before = {path.name: path.read_text() for path in RENDERED.glob("*.yaml")}
    program = (
        "import pathlib, render_chart as r\n"
        f"r.RENDERED = pathlib.Path({str(tmp_path)!r})\n"
        "[(r.RENDERED / e.name).write_text(r.render(e)) for e in r.EXAMPLES.glob('*.yaml')]"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "scripts")}
    subprocess.run([deploy_python, "-c", program], env=environment, check=True)

    assert {path.name: path.read_text() for path in tmp_path.glob("*.yaml")} == before


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("images.tag", "latest", "images"),
        ("images.registry", "", "registry"),
        ("storage.uri", "/a/folder", "uri"),
        ("airflow.executor", "SequentialExecutor", "executor"),
        ("mlflow.memroy", "2Gi", "memroy"),
        ("mlflow.database.image", "postgres:latest", "image"),
        ("project", {"git": {"repository": "https://user:word@git.example.com/a.git"}}, "repository"),
        ("network", {"storage": {"port": 99999}}, "port"),
        ("identities.apiServer", {}, "identities: apiServer: no annotations, and others have some"),
        ("identities", {}, "give `identities` annotations, or name a Secret"),
        ("identities.mlflow", {}, "give identities.mlflow annotations"),
        ("mlflow", {"enabled": False}, "name your server in mlflow.connection"),
        ("namespace", "airflow", "jobs need one of their own"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_name_of_the_value(helm, path, value, says):
    refused = helm(changed(path, value))[-1]

    assert says in refused.get("refused", ""), refused


def test_helm_finds_nothing_to_complain_about_and_a_server_of_ones_own_takes_the_place_of_mlflow(helm):
    lint, first, own = helm(VALUES, changed("mlflow", {"enabled": False, "connection": "http://mlflow.example.com"}))

    assert "ERROR" not in json.dumps(lint)
    assert any("mlflow" in text for name, text in first["files"].items() if name.endswith("/mlflow.yaml"))
    assert "kind: Deployment" not in own["files"]["nightshift/templates/mlflow.yaml"]
    assert 'value: "http://mlflow.example.com"' in own["files"]["nightshift/templates/airflow-values.yaml"]


def test_rules_and_dashboards_of_files_become_objects_of_the_operators(helm):
    rules = {
        "groups": [{"name": "g", "rules": [{"alert": "A", "expr": "up == 0", "annotations": {"x": "{{ $value }}"}}]}]
    }
    dashboard = {"title": "All {{app}}", "panels": []}
    monitoring = {"rules": yaml.safe_dump(rules), "dashboards": {"overview": json.dumps(dashboard)}}
    files = helm(changed("monitoring", {**monitoring, "ruleLabels": {"release": "prometheus"}}))[-1]["files"]
    rule, config = yaml.safe_load_all(files["nightshift/templates/monitoring.yaml"])

    assert rule["spec"] == rules
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert json.loads(config["data"]["overview.json"]) == dashboard
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"


@pytest.fixture(scope="module")
def postgresql():
    """The URI of an empty database of a real PostgreSQL."""
    program = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), None)
    if not program:
        pytest.skip("MLflow's database is a real PostgreSQL, and there is none: install postgresql")
    # PostgreSQL refuses to run as root, and nobody may look into pytest's folders.
    someone = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="nightshift-mlflow-database-"))
    if someone:
        shutil.chown(folder, "nobody", "nogroup")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(name, *arguments):
        subprocess.run([program / name, *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL, **someone)

    data = folder / "data"
    run("initdb", "-D", data, "-U", "mlflow", "--auth=trust")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
    run("pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
    try:
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow")
        yield f"postgresql+psycopg2://mlflow:none@127.0.0.1:{port}/mlflow"
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_mlflow_of_the_chart_starts_on_an_empty_postgresql_and_again_on_its_own_schema(postgresql, tmp_path):
    documents = list(yaml.safe_load_all((RENDERED / "share.yaml").read_text()))
    (pod,) = [one["spec"]["template"]["spec"] for one in documents if one["kind"] == "Deployment"]
    (migration,), (server,) = pod["initContainers"], pod["containers"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "MLFLOW_BACKEND_STORE_URI": postgresql}
    environment |= {one["name"]: one["value"] for one in server["env"] if "value" in one} | {"HOME": str(tmp_path)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [re.sub("--port=.*", f"--port={port}", one) for one in server["args"]]
    arguments = [one.replace("/mlflow/artifacts", f"{tmp_path}/artifacts") for one in arguments]

    client = httpx.Client(trust_env=False, timeout=60)
    for _ in range(2):
        done = subprocess.run(migration["command"], env=environment, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        with (tmp_path / "log").open("wb") as log:
            command = [*server["command"], *arguments]
            running = subprocess.Popen(
                command, env=environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
            )
        try:
            assert answers(client, f"http://127.0.0.1:{port}/health", running), (tmp_path / "log").read_text()
            url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search"
            found = client.post(url, json={"max_results": 5}).raise_for_status().json()
            assert [one["name"] for one in found["experiments"]] == ["Default"]
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()

    nowhere = environment | {"MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2://mlflow:none@127.0.0.1:9/mlflow"}
    down = subprocess.run(migration["command"], env=nowhere, cwd=tmp_path, capture_output=True, check=False)
    assert down.returncode == 1


def answers(client, url, process):
    for _ in range(900):
        if process.poll() is not None:
            return False
        try:
            return client.get(url).is_success
        except httpx.TransportError:
            time.sleep(1)
    return False
