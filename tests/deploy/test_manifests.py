"""The manifests of deploy/kubernetes: valid for two releases, restricted, and with no more rights than are used."""

import json
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from nightshift.orchestration.kubernetes.kinds import JOBS, RUNTIMES, TRAIN_JOBS
from nightshift.stack.credentials import AUDIT_KEY
from nightshift.stack.place import CHECKOUT

FOLDER = CHECKOUT / "deploy/kubernetes"
FILES = sorted(path for path in FOLDER.glob("**/*.yaml") if not path.name.endswith("-values.yaml"))
RELEASES = ["1.36", "1.37"]
# Kinds that an extension or a client brings, with schemas of their own.
ELSEWHERE = {"kueue.x-k8s.io", "kustomize.config.k8s.io"}


def documents(path: Path) -> list[dict]:
    return list(yaml.safe_load_all(path.read_text()))


ALL = [(path, document) for path in FILES for document in documents(path)]
NAMES = [f"{path.stem}-{document['kind']}" for path, document in ALL]
VALUES = yaml.safe_load((FOLDER / "airflow-values.yaml").read_text())
FROM_GIT = yaml.safe_load((FOLDER / "project-from-git-values.yaml").read_text())


def of_kind(kind: str, path: Path | None = None) -> list[dict]:
    return [document for where, document in ALL if document["kind"] == kind and path in (None, where)]


def test_what_the_restricted_standard_forbids_is_found(violations) -> None:
    (deployment,) = of_kind("Deployment")
    pod = json.loads(json.dumps(deployment["spec"]["template"]["spec"]))
    pod["hostNetwork"] = True
    pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    pod["containers"][0]["securityContext"] |= {"privileged": True, "capabilities": {"drop": []}, "runAsUser": 0}

    assert violations(pod) == [
        "hostNetwork is set", "volume host: hostPath", "mlflow: privileged", "mlflow: capabilities are not dropped",
        "mlflow: runs as root",
    ]  # fmt: skip


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(("path", "document"), ALL, ids=NAMES)
def test_a_cluster_of_this_release_knows_every_field(path: Path, document: dict, release: str) -> None:
    if document["apiVersion"].partition("/")[0] in ELSEWHERE:
        assert document["kind"] in {"Kustomization", "ResourceFlavor", "ClusterQueue", "LocalQueue"}
        return

    # Anchors are shared objects in Python; the validator wants what a client would send.
    assert kubernetes_validate.validate(json.loads(json.dumps(document)), release, strict=True) == release


def test_a_field_that_does_not_exist_is_found() -> None:
    (deployment,) = of_kind("Deployment")
    wrong = json.loads(json.dumps(deployment))
    wrong["spec"]["template"]["spec"]["containers"][0]["readOnly"] = True

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASES[0], strict=True)


def test_everything_lies_in_the_namespace_that_allows_restricted_pods_only() -> None:
    (namespace,) = of_kind("Namespace")
    inside = [document for _, document in ALL if "namespace" in document.get("metadata", {})]
    elsewhere = [document for document in inside if document["metadata"]["namespace"] != namespace["metadata"]["name"]]

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    # Airflow mounts the same share, through a claim of its own.
    assert [(one["kind"], one["metadata"]["namespace"]) for one in elsewhere] == [("PersistentVolumeClaim", "airflow")]
    without = {document["kind"] for _, document in ALL if document not in inside}
    assert without == {"Namespace", "Kustomization", "ResourceFlavor", "ClusterQueue", "PersistentVolume"}


def test_both_claims_of_the_share_are_bound_to_the_same_folder() -> None:
    volumes = {volume["metadata"]["name"]: volume["spec"] for volume in of_kind("PersistentVolume")}
    claims = of_kind("PersistentVolumeClaim", FOLDER / "storage/rwx-volume.yaml")
    bound = [volumes[claim["spec"]["volumeName"]] for claim in claims]

    assert len({id(volume) for volume in bound}) == 2
    assert bound[0] == bound[1]
    assert all(
        claim["spec"]["accessModes"] == volume["accessModes"] == ["ReadWriteMany"]
        for claim, volume in zip(claims, bound, strict=True)
    )


def test_pods_are_restricted_and_write_to_their_mounts_only(violations) -> None:
    (deployment,) = of_kind("Deployment")
    pod = deployment["spec"]["template"]["spec"]

    assert violations(pod) == []
    assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in pod["containers"])
    assert pod["automountServiceAccountToken"] is False


def test_airflow_may_do_what_its_operators_do_and_nothing_else() -> None:
    (role,) = of_kind("Role", FOLDER / "airflow-role.yaml")
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
    rules = [rule for role in of_kind("Role") for rule in role["rules"]]
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


def test_roles_are_bound_to_airflow_and_never_to_job_pods() -> None:
    roles = {role["metadata"]["name"] for role in of_kind("Role")}
    for binding in of_kind("RoleBinding"):
        assert binding["roleRef"]["kind"] == "Role"
        assert binding["roleRef"]["name"] in roles
        assert {(one["kind"], one["namespace"], one["name"]) for one in binding["subjects"]} == {
            ("ServiceAccount", "airflow", "airflow-scheduler"),
            ("ServiceAccount", "airflow", "airflow-triggerer"),
        }
    accounts = of_kind("ServiceAccount")
    assert {account["metadata"]["name"] for account in accounts} == {"nightshift-job"}
    assert all(account["automountServiceAccountToken"] is False for account in accounts)


def test_job_pods_reach_nothing_by_default_and_https_only_where_storage_or_a_label_asks_for_it() -> None:
    base = {
        policy["metadata"]["name"]: policy["spec"]
        for policy in of_kind("NetworkPolicy", FOLDER / "network-policy.yaml")
    }
    deny = base["nothing-by-default"]

    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ports = {port["port"] for rule in base["jobs"]["egress"] for port in rule["ports"]}
    assert ports == {53, 5000}
    assert base["groups"]["podSelector"]["matchExpressions"] == [{"key": "nightshift/group", "operator": "Exists"}]
    for policy in of_kind("NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            for peer in rule.get("to", []):
                if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                    assert "169.254.0.0/16" in peer["ipBlock"]["except"]
                    assert [port["port"] for port in rule["ports"]] == [443]


def test_the_base_names_every_file_beside_it_and_no_choice_of_the_team() -> None:
    (base,) = of_kind("Kustomization")
    beside = {path.name for path in FOLDER.glob("*.yaml") if path in FILES} - {"kustomization.yaml"}

    assert set(base["resources"]) == beside


def test_the_images_are_those_that_the_build_makes_and_never_latest() -> None:
    (deployment,) = of_kind("Deployment")
    (image,) = [container["image"] for container in deployment["spec"]["template"]["spec"]["containers"]]
    (base,) = of_kind("Kustomization")
    (renamed,) = base["images"]

    assert image == renamed["name"] == "nightshift-airflow"
    assert VALUES["defaultAirflowRepository"] == renamed["newName"]
    assert VALUES["defaultAirflowTag"] == renamed["newTag"]
    assert "latest" not in json.dumps([VALUES, base])


def test_the_charts_values_point_at_what_the_base_makes() -> None:
    environment = {one["name"]: one["value"] for one in VALUES["env"]}
    connection = json.loads(environment["AIRFLOW_CONN_NIGHTSHIFT_MLFLOW"])
    (service,) = of_kind("Service")
    name = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
    (deployment,) = of_kind("Deployment")
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    allowed = next(one for one in arguments if one.startswith("--allowed-hosts=")).partition("=")[2].split(",")

    assert connection["host"] == name
    assert [port["port"] for port in service["spec"]["ports"]] == [connection["port"]]
    assert f"{name}:{connection['port']}" in allowed
    assert VALUES["airflowVersion"] in (CHECKOUT / "docker/airflow/Dockerfile").read_text()
    assert VALUES["triggerer"]["enabled"]
    assert {"AIRFLOW_VAR_NIGHTSHIFT_STORAGE", "NIGHTSHIFT_IMAGE"} <= environment.keys()


def test_the_key_of_the_audit_log_is_a_secret_of_the_scheduler_and_of_no_job() -> None:
    (key,) = VALUES["scheduler"]["env"]
    container = {"name": "scheduler", "image": "airflow:1", "env": VALUES["scheduler"]["env"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [container]}}

    kubernetes_validate.validate(json.loads(json.dumps(pod)), RELEASES[0], strict=True)
    assert key["name"] == AUDIT_KEY
    assert "value" not in key
    others = {name: value for name, value in VALUES.items() if name != "scheduler"}
    assert AUDIT_KEY not in json.dumps([others, FROM_GIT, ALL], default=str)
    secret = key["valueFrom"]["secretKeyRef"]
    command = f"create secret generic {secret['name']} --from-literal={secret['key']}="
    assert command in (CHECKOUT / "docs/kubernetes.md").read_text()


@pytest.mark.parametrize("part", ["scheduler", "apiServer", "dagProcessor", "triggerer"])
def test_every_part_of_airflow_that_reads_a_project_has_it_from_git_before_it_starts(part: str) -> None:
    (mount,) = FROM_GIT["volumeMounts"]
    (variable,) = yaml.safe_load(FROM_GIT["extraEnv"])
    (first,), (then,) = FROM_GIT[part]["extraInitContainers"], FROM_GIT[part]["extraContainers"]
    settings = {one["name"]: one["value"] for one in first["env"]}
    container = {"name": "airflow", "image": "airflow:1", "env": [variable], "volumeMounts": [mount]}
    spec = {"initContainers": [first], "containers": [container, then], "volumes": FROM_GIT["volumes"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": part}, "spec": spec}

    kubernetes_validate.validate(json.loads(json.dumps(pod)), RELEASES[0], strict=True)
    assert (variable["name"], variable["value"]) == (
        "NIGHTSHIFT_PROJECT",
        f"{mount['mountPath']}/{settings['GITSYNC_LINK']}",
    )
    assert (
        first["volumeMounts"]
        == then["volumeMounts"]
        == [{"name": mount["name"], "mountPath": settings["GITSYNC_ROOT"]}]
    )
    assert first["args"] == ["--one-time"]
    assert "args" not in then
    assert then["env"] == first["env"]
    assert re.fullmatch(r"\S+:v\d+\.\d+\.\d+", first["image"])


def test_the_values_of_a_project_change_no_other_value() -> None:
    both = {key for key in FROM_GIT if isinstance(VALUES.get(key), dict) and set(FROM_GIT[key]) & set(VALUES[key])}

    assert not both
    assert not {"env", "volumes", "volumeMounts", "extraEnv"} & set(FROM_GIT) & set(VALUES)
