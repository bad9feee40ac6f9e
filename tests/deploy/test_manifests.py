"""The chart as Helm renders it (tests/deploy/rendered): valid for two releases, restricted, no more rights than are used.

Helm itself runs in test_chart.py. Here the rendered files are read, after a look at whether they are of this chart.
"""

import json
import re

import kubernetes_validate
import pytest
import yaml
from render_chart import EXAMPLES, RENDERED, digest
from rendered_chart import ALL, CASES, ELSEWHERE, EVERY, PARTS, RELEASES, airflow_values, named, of_kind, pods

from nightshift.orchestration.kubernetes.kinds import JOBS, RUNTIMES, TRAIN_JOBS
from nightshift.settings.project import PACKAGE
from nightshift.stack.place import CHECKOUT


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
    allowed |= {
        ("ServiceMonitor", "airflow"),
        ("PersistentVolumeClaim", "airflow"),
        ("ResourceFlavor", None),
        ("ClusterQueue", None),
    }
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
