"""Passwords, keys and tokens of a deployment: in Secrets alone, and nobody has more of them than they need."""

import json
import re
import subprocess
import sys

import kubernetes_validate
import pytest
from render_chart import CHART, EXAMPLES, RENDERED
from rendered_chart import RELEASES, airflow_values, of_kind, pods

from nightshift.audit.signature import signing_key
from nightshift.stack.credentials import AUDIT_KEY, USERS
from nightshift.stack.place import CHECKOUT


@pytest.mark.parametrize(("case", "part"), [("aws", "scheduler"), ("google", "workers")])
def test_tasks_and_nobody_else_have_the_key_of_the_audit_log_and_the_login_of_housekeeping(
    case: str, part: str
) -> None:
    values = airflow_values(case)
    secrets = values[part]["env"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}
    pod["spec"] = {"containers": [{"name": "airflow", "image": "airflow:1", "env": secrets}]}

    kubernetes_validate.validate(json.loads(json.dumps(pod)), RELEASES[0], strict=True)
    assert [one["name"] for one in secrets] == [AUDIT_KEY, "AIRFLOW_CONN_NIGHTSHIFT_AIRFLOW"]
    assert not any("value" in one for one in secrets)
    others = json.dumps([{name: value for name, value in values.items() if name != part}, pods(case)])
    assert not any(one["name"] in others for one in secrets)


def test_the_passwords_of_the_simple_auth_manager_outlive_every_pod_and_stand_in_no_log() -> None:
    values = airflow_values("aws")
    core, server = values["config"]["core"], values["apiServer"]
    (mount,) = server["extraVolumeMounts"]
    (copy,) = server["extraInitContainers"]
    source, target = copy["command"][-2:]
    sources = {volume["name"]: volume for volume in server["extraVolumes"]}
    mounts = {one["mountPath"]: one["name"] for one in copy["volumeMounts"]}

    assert core["simple_auth_manager_users"] == ",".join(f"{user}:{role}" for user, role in USERS.items())
    assert core["simple_auth_manager_passwords_file"] == f"{mount['mountPath']}/{target.rpartition('/')[2]}"
    assert sources[mounts["/passwords"]] == {"name": mount["name"], "emptyDir": {}}
    secret = sources[mounts["/users"]]["secret"]
    assert (secret["secretName"], secret["items"]) == (
        "nightshift-airflow",
        [{"key": "passwords.json", "path": source.rpartition("/")[2]}],
    )
    spec = {"initContainers": [copy], "containers": [{"name": "a", "image": "a:1"}], "volumes": server["extraVolumes"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}
    kubernetes_validate.validate(json.loads(json.dumps(pod)), RELEASES[0], strict=True)
    # With another auth manager there is nothing to mount.
    assert "extraVolumes" not in airflow_values("google")["apiServer"]


def test_the_secrets_of_a_new_deployment_are_those_that_the_chart_names_and_are_new_each_time() -> None:
    def made() -> dict[tuple[str, str], dict[str, str]]:
        command = [sys.executable, CHECKOUT / "deploy/helm/make_secrets.py"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        items = json.loads(done.stdout)["items"]
        for item in items:
            kubernetes_validate.validate(item, RELEASES[0], strict=True)
        return {(item["metadata"]["namespace"], item["metadata"]["name"]): item["stringData"] for item in items}

    once, again = made(), made()
    airflow, mlflow = once["airflow", "nightshift-airflow"], once["nightshift", "nightshift-mlflow"]
    passwords, connection = json.loads(airflow["passwords.json"]), json.loads(airflow["rest-connection"])

    assert not set(airflow.values()) & set(again["airflow", "nightshift-airflow"].values())
    assert passwords.keys() == USERS.keys()
    assert (connection["login"], connection["password"]) == ("housekeeping", passwords["housekeeping"])
    assert connection["host"] == "airflow-api-server"
    signing_key(airflow["audit-key"])
    assert mlflow["uri"] == f"postgresql+psycopg2://mlflow:{mlflow['password']}@mlflow-database:5432/mlflow"
    for key in set(re.findall(r"secretKeyRef: \{name: [\w-]+, key: ([\w-]+)", (RENDERED / "azure.yaml").read_text())):
        assert key in {**airflow, **mlflow}, key
    # The keys that Airflow's own chart looks for in the Secret that it is given.
    assert {"fernet-key", "api-secret-key", "jwt-secret"} <= airflow.keys()
    values = airflow_values("aws")
    named = {values[f"{key}Name"] for key in ("fernetKeySecret", "apiSecretKeySecret", "jwtSecret")}
    assert named == {"nightshift-airflow"}


def test_airflow_takes_the_passwords_of_the_secret_and_writes_none_into_its_log(tmp_path, monkeypatch, capsys) -> None:
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    command = [sys.executable, CHECKOUT / "deploy/helm/make_secrets.py"]
    items = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["items"]
    text = items[0]["stringData"]["passwords.json"]
    file = tmp_path / "passwords.json"
    file.write_text(text)
    core = airflow_values("aws")["config"]["core"]
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", core["simple_auth_manager_users"])
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(file))
    SimpleAuthManager().init()

    assert SimpleAuthManager.get_passwords() == json.loads(text)
    assert file.read_text() == text
    assert "Password" not in capsys.readouterr().out


def test_nothing_secret_stands_in_the_chart_or_its_examples() -> None:
    assert of_kind("Secret") == []
    for path in [*CHART.rglob("*"), *EXAMPLES.glob("*")]:
        if path.is_file():
            assert not re.search(
                r"(?i)(password|token|secret)\s*[:=]\s*[\"']?[A-Za-z0-9+/_-]{20,}", path.read_text()
            ), path
