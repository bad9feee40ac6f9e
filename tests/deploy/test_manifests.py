"""The chart as Helm renders it (tests/deploy/rendered): valid for two releases, restricted, no more rights than are used.

Helm itself runs in test_chart.py. Here the rendered files are read, after a look at whether they are of this chart.
"""

import json
import re
import subprocess
import sys
from itertools import chain
from typing import Any

import kubernetes_validate
import pytest
import yaml
from render_chart import CHART, EXAMPLES, RENDERED, digest

from nightshift.audit.signature import signing_key
from nightshift.orchestration.kubernetes.kinds import JOBS, RUNTIMES, TRAIN_JOBS
from nightshift.settings.project import PACKAGE
from nightshift.stack.credentials import AUDIT_KEY, USERS
from nightshift.stack.place import CHECKOUT

CASES = ["aws", "azure", "google", "share"]
RELEASES = ["1.36", "1.37"]
# Kinds that an extension brings, with schemas of their own.
ELSEWHERE = {"kueue.x-k8s.io", "monitoring.coreos.com"}
PARTS = ["scheduler", "triggerer", "dagProcessor", "apiServer"]


def read(case: str) -> list[dict[str, Any]]:
    documents = yaml.safe_load_all((RENDERED / f"{case}.yaml").read_text())
    # Anchors are shared objects in Python; what a client would send has none.
    return [json.loads(json.dumps(document)) for document in documents if document]


ALL = {case: read(case) for case in CASES}
EVERY = list(chain(*ALL.values()))


def of_kind(kind: str, case: str | None = None) -> list[dict[str, Any]]:
    return [document for document in (ALL[case] if case else EVERY) if document["kind"] == kind]


def named(name: str, kind: str, case: str) -> dict[str, Any]:
    (found,) = [document for document in of_kind(kind, case) if document["metadata"]["name"] == name]
    return found


def airflow_values(case: str) -> dict[str, Any]:
    return yaml.safe_load(named("nightshift-airflow-values", "ConfigMap", case)["data"]["values.yaml"])


def pods(case: str | None = None) -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for kind in ("Deployment", "StatefulSet") for one in of_kind(kind, case)]


@pytest.mark.parametrize("case", CASES)
def test_what_the_other_tests_read_was_rendered_from_this_chart(case: str) -> None:
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == set(CASES)
    first = (RENDERED / f"{case}.yaml").read_text().partition("\n")[0]
    assert first == f"# Written by `make chart` from {digest(EXAMPLES / f'{case}.yaml')}", "run `make chart`"


def test_what_the_restricted_standard_forbids_is_found(violations) -> None:
    pod = json.loads(json.dumps(pods("share")[0]))
    pod["hostNetwork"] = True
    pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    pod["containers"][0]["securityContext"] |= {"privileged": True, "capabilities": {"drop": []}, "runAsUser": 0}

    assert violations(pod) == [
        "hostNetwork is set", "volume host: hostPath", "mlflow: privileged", "mlflow: capabilities are not dropped",
        "mlflow: runs as root",
    ]  # fmt: skip


@pytest.mark.parametrize("release", RELEASES)
def test_a_cluster_of_this_release_knows_every_field(release: str) -> None:
    different = {json.dumps(document): document for document in EVERY}.values()
    for document in different:
        if document["apiVersion"].partition("/")[0] not in ELSEWHERE:
            assert kubernetes_validate.validate(document, release, strict=True) == release


def test_a_field_that_does_not_exist_is_found() -> None:
    wrong = json.loads(json.dumps(of_kind("Deployment")[0]))
    wrong["spec"]["template"]["spec"]["containers"][0]["readOnly"] = True

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASES[0], strict=True)


@pytest.mark.parametrize("case", CASES)
def test_everything_lies_in_the_namespace_that_allows_restricted_pods_only(case: str) -> None:
    (namespace,) = of_kind("Namespace", case)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    # An uninstalled release takes no experiment and no model with it.
    assert namespace["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    outside = {
        (one["kind"], one["metadata"].get("namespace"))
        for one in ALL[case]
        if one["metadata"].get("namespace") != namespace["metadata"]["name"]
    }
    allowed = {("Namespace", None), ("ConfigMap", "airflow"), ("PersistentVolume", None)}
    allowed |= {("PersistentVolumeClaim", "airflow"), ("ResourceFlavor", None), ("ClusterQueue", None)}
    assert outside <= allowed


def test_both_claims_of_the_share_are_bound_to_the_same_folder() -> None:
    volumes = {volume["metadata"]["name"]: volume["spec"] for volume in of_kind("PersistentVolume", "share")}
    claims = [one for one in of_kind("PersistentVolumeClaim", "share") if one["spec"].get("volumeName")]
    bound = [volumes[claim["spec"]["volumeName"]] for claim in claims]

    assert len({id(volume) for volume in bound}) == len(claims) == 2
    assert bound[0] == bound[1]
    values = airflow_values("share")
    assert values["volumes"][0]["persistentVolumeClaim"]["claimName"] == claims[0]["metadata"]["name"]
    assert values["volumeMounts"][0]["mountPath"] == "/storage"


def test_pods_are_restricted_and_write_to_their_mounts_only(violations) -> None:
    for pod in pods():
        assert violations(pod) == []
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"]["readOnlyRootFilesystem"], container["name"]
            assert {"memory", "ephemeral-storage"} <= container["resources"]["limits"].keys()


def test_airflow_may_do_what_its_operators_do_and_nothing_else() -> None:
    (role,) = of_kind("Role", "aws")
    rights = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }

    assert rights == {
        ("", "pods"): {"get", "list", "create", "delete"},
        ("", "pods/log"): {"get"},
        ("", "events"): {"list", "watch"},
        ("", "services"): {"get", "list", "create", "delete"},
        ("batch", "jobs"): {"get", "list", "create", "delete"},
    }


def test_every_request_of_our_own_operators_is_allowed() -> None:
    rules = [rule for role in of_kind("Role", "google") for rule in role["rules"]]
    allowed = {(verb, resource) for rule in rules for verb in rule["verbs"] for resource in rule["resources"]}
    code = "".join(path.read_text() for path in (CHECKOUT / "include/nightshift/orchestration/kubernetes").glob("*.py"))
    requests = set(re.findall(r"\b(read|get|list|create|delete|patch)_namespaced_(\w+)", code))

    assert {("create", "pod"), ("create", "custom_object")} <= requests
    custom = {verb for verb, kind in requests if kind == "custom_object"}
    assert {(verb, kind.plural) for verb in custom - {"patch"} for kind in (JOBS, TRAIN_JOBS, RUNTIMES)} <= allowed
    # Only a runtime is changed, when its owner is known.
    assert ("patch", RUNTIMES.plural) in allowed
    assert {
        ("get" if verb == "read" else verb, f"{kind}s".replace("pod_logs", "pods/log"))
        for verb, kind in requests
        if kind != "custom_object"
    } <= allowed


def test_no_right_reaches_secrets_other_namespaces_or_into_pods() -> None:
    assert not of_kind("ClusterRole")
    assert not of_kind("ClusterRoleBinding")
    for role in of_kind("Role"):
        for rule in role["rules"]:
            words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert not words & {"*", "secrets", "pods/exec", "pods/attach", "escalate", "bind", "impersonate"}


@pytest.mark.parametrize(("case", "starter"), [("aws", "scheduler"), ("google", "worker")])
def test_the_role_is_bound_to_the_parts_of_airflow_that_start_pods_and_never_to_pods(case: str, starter: str) -> None:
    (binding,) = of_kind("RoleBinding", case)
    (role,) = of_kind("Role", case)
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert {(one["kind"], one["namespace"], one["name"]) for one in binding["subjects"]} == {
        ("ServiceAccount", "airflow", f"airflow-{starter}"),
        ("ServiceAccount", "airflow", "airflow-triggerer"),
    }
    accounts = of_kind("ServiceAccount", case)
    assert {account["metadata"]["name"] for account in accounts} == {"nightshift-job", "mlflow"}
    assert all(account["automountServiceAccountToken"] is False for account in accounts)


def test_pods_reach_nothing_by_default_and_https_only_where_storage_or_a_label_asks_for_it() -> None:
    for case in CASES:
        deny = named("nothing-by-default", "NetworkPolicy", case)["spec"]
        assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        egress = named("jobs", "NetworkPolicy", case)["spec"]["egress"]
        ports = {port["port"] for rule in egress for port in rule["ports"]}
        metadata = {988, 987, 80, 8080} if case == "google" else set()
        assert ports == {53, 5000} | (set() if case == "share" else {443}) | metadata
        # Only MLflow asks its database, and that asks nobody.
        if case != "aws":
            database = named("mlflow-database", "NetworkPolicy", case)["spec"]
            assert "egress" not in database
            (rule,) = database["ingress"]
            assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "mlflow"}}}]
    for policy in of_kind("NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            for peer in rule.get("to", []):
                if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                    assert "169.254.0.0/16" in peer["ipBlock"]["except"]
                    assert [port["port"] for port in rule["ports"]] == [443]


@pytest.mark.parametrize("case", CASES)
def test_every_part_of_airflow_has_an_identity_where_storage_is_a_bucket(case: str) -> None:
    example = yaml.safe_load((EXAMPLES / f"{case}.yaml").read_text())
    values = airflow_values(case)
    job = named("nightshift-job", "ServiceAccount", case)["metadata"].get("annotations")
    annotations = {part: values[part]["serviceAccount"]["annotations"] for part in PARTS}

    if case == "share":
        assert not job
        return
    assert job == example["identities"]["job"]
    assert annotations == {part: example["identities"][part] for part in PARTS}
    # The one that serves pages has no identity by which something could be written, and jobs have none of Airflow's.
    assert annotations["apiServer"] != annotations["scheduler"]
    assert job not in annotations.values()
    labels = example["identities"].get("podLabels")
    assert [values[part].get("labels") for part in PARTS] == [labels] * 4


def test_mlflow_keeps_experiments_in_postgresql_and_artifacts_in_a_bucket_or_on_a_volume() -> None:
    for case in CASES:
        pod = named("mlflow", "Deployment", case)["spec"]["template"]["spec"]
        (server,), (migration,) = pod["containers"], pod["initContainers"]
        (uri,) = [one for one in server["env"] if one["name"] == "MLFLOW_BACKEND_STORE_URI"]
        assert uri["valueFrom"]["secretKeyRef"] == {"name": "nightshift-mlflow", "key": "uri"}
        assert uri in migration["env"]
        assert "sqlite" not in json.dumps(pod)
        bucket = {"aws": "s3://example-bucket/mlflow", "google": "gs://example-bucket/mlflow"}.get(case)
        assert server["args"][0] == f"--artifacts-destination={bucket or '/mlflow/artifacts'}"
        claims = {claim["metadata"]["name"] for claim in of_kind("PersistentVolumeClaim", case)}
        assert ("mlflow" in claims) == (bucket is None)
    assert of_kind("StatefulSet", "aws") == []


@pytest.mark.parametrize("case", CASES)
def test_airflows_values_point_at_what_the_chart_makes(case: str) -> None:
    values = airflow_values(case)
    environment = {one["name"]: one["value"] for one in values["env"]}
    connection = json.loads(environment["AIRFLOW_CONN_NIGHTSHIFT_MLFLOW"])
    service = named("mlflow", "Service", case)
    name = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
    (server,) = named("mlflow", "Deployment", case)["spec"]["template"]["spec"]["containers"]
    allowed = next(one for one in server["args"] if one.startswith("--allowed-hosts=")).partition("=")[2].split(",")

    assert connection["host"] == name
    assert [port["port"] for port in service["spec"]["ports"]] == [connection["port"]]
    assert f"{name}:{connection['port']}" in allowed
    assert values["airflowVersion"] in (CHECKOUT / "docker/airflow/Dockerfile").read_text()
    assert values["triggerer"]["enabled"]
    assert values["allowPodLaunching"] is False
    repository, tag = values["defaultAirflowRepository"], values["defaultAirflowTag"]
    assert server["image"] == f"{repository}:{tag}"
    assert re.fullmatch(rf"\S+/nightshift-trainer:{tag}-(cpu|cuda)", environment["NIGHTSHIFT_IMAGE"])
    assert ":latest" not in (RENDERED / f"{case}.yaml").read_text()


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


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_airflow_that_reads_a_project_has_it_from_git_before_it_starts(part: str) -> None:
    values = airflow_values("share")
    (mount,) = [one for one in values["volumeMounts"] if one["name"] == "project"]
    project = {one["name"]: one["value"] for one in values["env"]}["NIGHTSHIFT_PROJECT"]
    first, (then,) = values[part]["extraInitContainers"][0], values[part]["extraContainers"]
    settings = {one["name"]: one.get("value") for one in first["env"]}
    container = {"name": "airflow", "image": "airflow:1", "volumeMounts": [mount]}
    volumes = [one for one in values["volumes"] if one["name"] == "project"]
    spec = {"initContainers": [first], "containers": [container, then], "volumes": volumes}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": part.lower()}, "spec": spec}

    kubernetes_validate.validate(json.loads(json.dumps(pod)), RELEASES[0], strict=True)
    assert project == f"{mount['mountPath']}/{settings['GITSYNC_LINK']}"
    shown = [{"name": mount["name"], "mountPath": settings["GITSYNC_ROOT"]}]
    assert first["volumeMounts"] == then["volumeMounts"] == shown
    assert first["args"] == ["--one-time"]
    assert "args" not in then
    assert then["env"] == first["env"]
    dockerfile = (PACKAGE / "samples/project/Dockerfile").read_text()
    assert "ARG FOLDER=" in dockerfile


def test_task_logs_go_to_a_bucket_where_one_is_named() -> None:
    logging = airflow_values("aws")["config"]["logging"]

    assert logging["remote_base_log_folder"] == "s3://example-bucket/airflow-logs"
    assert logging["remote_logging"] == "True"
    assert "logging" not in airflow_values("share")["config"]
