"""The manifests of jobs: valid for two releases of Kubernetes, restricted, and without a secret in them."""

import json

import kubernetes_validate
import pytest
import yaml

from nightshift.errors import BadInput
from nightshift.orchestration.kubernetes.manifests import job_manifest, pod_manifest
from nightshift.orchestration.kubernetes.render import rendered
from nightshift.settings.compute import KubernetesCompute, Toleration, Volume
from nightshift.settings.job_names import JOBS

RELEASES = ("1.35", "1.36")
RICH = {
    "gpus": 4,
    "nodes": 2,
    "cpus": 7.5,
    "memory_gb": 64,
    "shared_memory_gb": 16,
    "node_selector": {"pool": "a100"},
    "tolerations": [Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoExecute", seconds=60)],
    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"nightshift/job": "train"}}}]}},
    "priority_class": "training",
    "runtime_class": "nvidia",
    "environment": {"NCCL_DEBUG": "WARN"},
    "secrets": {"MLFLOW_TRACKING_PASSWORD": "mlflow/password"},
    "secret_sets": ["object-store"],
    "image_pull_secrets": ["registry"],
    "volumes": [Volume(claim="models", path="/models", read_only=True)],
    "queue": "trainings",
}  # fmt: skip


def profile(**fields) -> KubernetesCompute:
    return KubernetesCompute(name="gpu", backend="kubernetes", **{"image": "trainer:1", **fields})


def pod_of(manifest: dict) -> dict:
    return manifest["spec"]["template"]["spec"] if manifest["kind"] == "Job" else manifest["spec"]


def container_of(manifest: dict) -> dict:
    return pod_of(manifest)["containers"][0]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("fields", [{}, RICH], ids=["plain", "rich"])
def test_every_manifest_is_one_of_the_release(fields, job, release):
    for manifest in rendered(profile(**fields), job):
        kubernetes_validate.validate(manifest, release, strict=True)


@pytest.mark.parametrize("job", ["train", "ingest"])
@pytest.mark.parametrize("fields", [{}, RICH], ids=["plain", "rich"])
def test_every_pod_meets_the_restricted_standard(fields, job):
    pod = pod_of(rendered(profile(**fields), job)[0])
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
    assert all({"emptyDir", "persistentVolumeClaim"} & set(volume) for volume in pod["volumes"])


def test_only_named_places_can_be_written_to_and_no_token_is_mounted():
    pod = pod_of(rendered(profile(), "train")[0])
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/scratch", "/tmp", "/dev/shm"]
    homes = {one["name"]: one["value"] for one in container["env"] if one.get("value", "").startswith("/")}
    assert homes["HOME"] == "/scratch"
    assert all(value.startswith("/scratch") for value in homes.values())
    assert pod["automountServiceAccountToken"] is False


def test_secrets_are_named_and_never_written_out():
    manifest = rendered(profile(**RICH), "train")[0]
    env = {one["name"]: one for one in container_of(manifest)["env"]}
    assert env["MLFLOW_TRACKING_PASSWORD"]["valueFrom"] == {"secretKeyRef": {"name": "mlflow", "key": "password"}}
    assert container_of(manifest)["envFrom"] == [{"secretRef": {"name": "object-store"}}]
    assert "value" not in env["MLFLOW_TRACKING_PASSWORD"]


def test_a_training_gets_its_gpus_shared_memory_and_place():
    container = container_of(rendered(profile(**RICH), "train")[0])
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"] == "64000M"
    pod = pod_of(rendered(profile(**RICH), "train")[0])
    memory = next(volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shared-memory")
    assert memory == {"medium": "Memory", "sizeLimit": "16000M"}
    assert pod["nodeSelector"] == {"pool": "a100"}
    assert pod["tolerations"][0]["tolerationSeconds"] == 60


def test_a_job_without_a_model_holds_no_gpu():
    (pod,) = rendered(profile(**RICH), "validate")
    assert "nvidia.com/gpu" not in container_of(pod)["resources"]["limits"]


def test_a_group_restarts_what_the_cluster_took_away_and_ends_at_once_for_a_bug():
    job, _ = rendered(profile(nodes=3), "train")
    assert (job["spec"]["completions"], job["spec"]["parallelism"], job["spec"]["completionMode"]) == (3, 3, "Indexed")
    taken, peers, fail = job["spec"]["podFailurePolicy"]["rules"]
    assert (taken["action"], taken["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (peers["action"], peers["onExitCodes"]["values"]) == ("Ignore", [75])
    assert (fail["action"], fail["onExitCodes"]["values"]) == ("FailJob", [1, 65])


def test_the_nodes_of_a_group_find_the_first_one_through_its_service():
    job, service = rendered(profile(nodes=2), "train")
    name = job["metadata"]["name"]
    env = {one["name"]: one.get("value") for one in container_of(job)["env"]}
    assert env["NIGHTSHIFT_NODES"] == "2"
    assert env["NIGHTSHIFT_RENDEZVOUS"] == f"{name}-0.{name}:29500"
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"] == name
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_a_queue_admits_the_group_as_a_whole_and_a_single_pod_by_itself():
    job, _ = rendered(profile(nodes=2, queue="trainings"), "train")
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "trainings"
    assert "kueue.x-k8s.io/queue-name" not in job["spec"]["template"]["metadata"]["labels"]
    (pod,) = rendered(profile(queue="trainings"), "train")
    assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "trainings"


def test_what_the_profile_has_no_word_for_comes_from_a_template(tmp_path):
    template = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": {"team": "bank"}},
        "spec": {"schedulerName": "volcano", "dnsPolicy": "Default", "containers": [{"name": "base", "image": "x:1"}]},
    }
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(template))
    (pod,) = rendered(profile(template=str(tmp_path / "pod.yaml")), "train")
    assert pod["spec"]["schedulerName"] == "volcano"
    assert container_of(pod)["image"] == "trainer:1"
    assert pod["metadata"]["labels"]["team"] == "bank"
    assert pod["metadata"]["labels"]["nightshift/job"] == "train"
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    kubernetes_validate.validate(pod, RELEASES[-1], strict=True)


@pytest.mark.parametrize(("text", "said"), [("kind: Job", "is a Pod"), ("a: [", "cannot be read"), (None, "cannot be")])
def test_a_template_that_is_none_is_named(tmp_path, text, said):
    if text:
        (tmp_path / "pod.yaml").write_text(text)
    with pytest.raises(BadInput, match=said):
        rendered(profile(template=str(tmp_path / "pod.yaml")), "train")


def test_the_image_is_the_profiles_or_else_that_of_airflows_environment(monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_IMAGE", "from-the-environment:1")
    assert container_of(rendered(profile(image=None), "train")[0])["image"] == "from-the-environment:1"
    assert container_of(rendered(profile(), "train")[0])["image"] == "trainer:1"
    monkeypatch.setenv("NIGHTSHIFT_IMAGE", "trainer:latest")
    with pytest.raises(BadInput, match="by a tag other than latest"):
        rendered(profile(image=None), "train")
    monkeypatch.delenv("NIGHTSHIFT_IMAGE")
    with pytest.raises(BadInput, match="has no image: build one"):
        rendered(profile(image=None), "train")


def test_the_same_profile_gives_the_same_manifest():
    assert json.dumps(rendered(profile(**RICH), "train")) == json.dumps(rendered(profile(**RICH), "train"))


def test_a_group_leaves_no_deadline_to_single_pods():
    compute = profile(nodes=2)
    pod = pod_manifest(compute, "train", name="n", arguments=[], environment={}, labels={})
    job = job_manifest(pod, nodes=2)
    assert job["spec"]["activeDeadlineSeconds"] == 86_400
    assert "activeDeadlineSeconds" not in job["spec"]["template"]["spec"]
