"""The manifests of a TrainJob: the same pods as those of the Job, in the form that Kubeflow Trainer takes."""

import pytest

from nightshift.orchestration.kubernetes.render import dry_run, rendered
from nightshift.orchestration.kubernetes.submission import name_of
from nightshift.settings.compute import KubernetesCompute
from nightshift.settings.job_names import SPREAD


def profile(**fields) -> KubernetesCompute:
    return KubernetesCompute(name="gpu", backend="kubernetes", image="trainer:1", **{"nodes": 3, "gpus": 4, **fields})


def child_of(runtime: dict) -> dict:
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert (replicated["name"], replicated["replicas"]) == ("node", 1)
    return replicated["template"]


def test_the_pods_are_those_of_the_job_but_for_their_name_and_the_first_ones_host():
    job = rendered(profile(), "train")[0]["spec"]
    child = child_of(rendered(profile(launcher="trainjob"), "train")[0])["spec"]
    (ours,), (theirs,) = (one["template"]["spec"].pop("containers") for one in (job, child))
    assert child["template"] == job["template"]
    assert theirs.pop("name") == "node"
    assert ours.pop("name") == "base"
    environments = [{one["name"]: one.get("value") for one in container.pop("env")} for container in (ours, theirs)]
    changed = [{key: one.pop(key) for key in ("NIGHTSHIFT_RENDEZVOUS",)} for one in environments]
    name = "train-example-0123456789-1"
    assert changed[1] == {"NIGHTSHIFT_RENDEZVOUS": f"{name}-node-0-0.{name}:29500"}
    assert environments[0] == environments[1]
    assert theirs == ours


def test_the_job_inside_fails_and_repeats_as_the_job_does_and_starts_when_trainer_says():
    job = rendered(profile(), "train")[0]["spec"]
    child = child_of(rendered(profile(launcher="trainjob"), "train")[0])
    assert child["metadata"]["labels"] == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    same = ("completionMode", "completions", "parallelism", "backoffLimit", "activeDeadlineSeconds")
    assert {key: child["spec"][key] for key in same} == {key: job[key] for key in same}
    assert not {"suspend", "ttlSecondsAfterFinished"} & set(child["spec"])
    rules = zip(child["spec"]["podFailurePolicy"]["rules"], job["podFailurePolicy"]["rules"], strict=True)
    for theirs, ours in rules:
        names = [rule.get("onExitCodes", {}).pop("containerName", None) for rule in (theirs, ours)]
        assert names in ([None, None], ["node", "base"])
        assert theirs == ours


def test_a_train_job_names_its_runtime_and_waits_for_its_queue():
    runtime, train_job = rendered(profile(launcher="trainjob", queue="trainings"), "train")
    assert (runtime["kind"], train_job["kind"]) == ("TrainingRuntime", "TrainJob")
    assert train_job["spec"] == {
        "runtimeRef": {
            "apiGroup": "trainer.kubeflow.org",
            "kind": "TrainingRuntime",
            "name": runtime["metadata"]["name"],
        },
        "trainer": {"numNodes": 3},
        "suspend": True,
    }
    assert train_job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "trainings"
    assert "kueue.x-k8s.io/queue-name" not in child_of(runtime)["spec"]["template"]["metadata"]["labels"]
    assert not rendered(profile(launcher="trainjob"), "train")[1]["spec"]["suspend"]


def test_a_job_on_one_node_is_a_pod_whatever_starts_the_others():
    (pod,) = rendered(profile(launcher="trainjob"), "validate")
    assert (pod["kind"], pod["spec"]["containers"][0]["name"]) == ("Pod", "base")


@pytest.mark.parametrize("job", sorted(SPREAD))
def test_the_longest_pod_of_the_longest_name_is_a_host(job):
    class Task:
        dag_id, run_id, task_id, map_index = "d", "r", "t", 0

    assert len(f"{name_of(job, 'a' * 60, Task, 100)}-node-0-255-abcde") <= 63


def test_only_the_runtime_is_asked_about_beforehand(monkeypatch):
    from kubernetes import client, config

    asked = []
    monkeypatch.setattr(config, "load_config", lambda: None)
    monkeypatch.setattr(
        client.CustomObjectsApi,
        "create_namespaced_custom_object",
        lambda _, **request: asked.append([request[key] for key in ("namespace", "plural", "dry_run")]),
    )
    compute = profile(launcher="trainjob")
    said = dry_run(compute, rendered(compute, "train"))
    assert asked == [["nightshift", "trainingruntimes", "All"]]
    assert "accepted by the cluster" in said[0]
    assert "not checked" in said[1]
