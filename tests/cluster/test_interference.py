"""Somebody ends a task, a component or a pod while a training runs: no pod is orphaned, none is doubled, nothing is lost."""

import json
import os
import signal
from types import SimpleNamespace

import pytest
from kubernetes_runs import ended, said
from patience import wait_for
from upath import UPath

from nightshift.stack.place import this_place

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1500)]
DAY = {"day": "2026-11-02"}


@pytest.fixture(scope="module")
def ingested(ingest):
    """Two applications with examples, on nodes that stay and on spot nodes."""
    ingest("pod", "spot")


@pytest.fixture
def training(ingested, start, pods):
    """A training that runs in a pod: the id of its run, and the pod."""

    def training(app: str = "pod", **conf) -> tuple[str, object]:
        run = start(f"{app}_finetune", **{"epochs": 1, "seed": int.from_bytes(os.urandom(2)), **conf})
        return run, wait_for(lambda: running(pods(run)), 400, "the training to run", every=1)

    return training


def running(pods: list, job: str = "train"):
    for pod in pods:
        if pod.metadata.labels["nightshift/job"] == job and pod.status.phase == "Running":
            return pod
    return None


def test_a_training_that_is_marked_failed_takes_its_pod_along(api, training, pods):
    run, _ = training(epochs=50)
    api._call("PATCH", f"/api/v2/dags/pod_finetune/dagRuns/{run}/taskInstances/train", json={"new_state": "failed"})
    wait_for(lambda: not running(pods(run)), 180, "the pod to be deleted", every=1)


def test_a_training_that_is_cleared_starts_anew_in_another_pod(api, training, pods):
    run, first = training(epochs=5)
    body = {"dry_run": False, "dag_run_id": run, "task_ids": ["train"], "only_failed": False}
    api._call("POST", "/api/v2/dags/pod_finetune/clearTaskInstances", json=body)

    def second():
        found = running(pods(run))
        return found if found and found.metadata.uid != first.metadata.uid else None

    wait_for(second, 300, "another pod", every=1)
    assert ended(api, "pod_finetune", run)["train"]["state"] == "success"
    assert not running(pods(run))


@pytest.mark.parametrize("component", ["triggerer", "scheduler"])
def test_a_killed_component_is_started_again_and_finds_the_same_pod(api, training, pods, stack, nightshift, component):  # noqa: PLR0917
    run, pod = training(epochs=5)
    record = json.loads((this_place(stack).processes / f"{component}.json").read_text())
    os.kill(record["pid"], signal.SIGKILL)
    assert nightshift("up", stack).returncode == 0
    seen = {pod.metadata.uid}

    def train_ended() -> bool:
        seen.update(one.metadata.uid for one in pods(run) if one.metadata.labels["nightshift/job"] == "train")
        return next(task["state"] for task in api.tasks("pod_finetune", run) if task["task_id"] == "train") == "success"

    wait_for(train_ended, 400, "the training to end", every=1)
    assert seen == {pod.metadata.uid}
    tasks = ended(api, "pod_finetune", run)
    assert {task["state"] for task in tasks.values()} == {"success"}
    assert tasks["train"]["try_number"] == 1


def test_a_pod_that_is_evicted_from_a_spot_node_goes_on_from_its_checkpoint_and_counts_as_no_try(
    api, training, pods, cluster, namespace
):
    run, pod = training("spot", epochs=8)
    checkpoints = UPath("s3://nightshift/storage/spot/checkpoints")

    def a_checkpoint() -> bool:
        checkpoints.fs.invalidate_cache()
        return any(checkpoints.glob("*/*/manifest.json"))

    wait_for(a_checkpoint, 180, "a checkpoint", every=0.5)
    name = pod.metadata.name
    cluster.CoreV1Api().create_namespaced_pod_eviction(name, namespace, {"metadata": {"name": name}})
    said(api, "spot_finetune", run, "train", words="interruption 1, which uses no retry", seconds=240)
    text = said(api, "spot_finetune", run, "train", words="going on from the checkpoint of step", seconds=240)
    assert "DisruptionTarget" in text or "taken off its node" in text or "is gone" in text or "asked to stop" in text
    train = ended(api, "spot_finetune", run)["train"]
    assert (train["state"], train["try_number"]) == ("success", 1)


class Store(dict):
    """Airflow's state of a task, which outlives its tries."""

    def set(self, key, value, retention=None):
        self[key] = value


def test_a_worker_that_dies_between_asking_and_leaving_finds_the_pod_on_its_next_try(
    stack, pods, cluster, namespace, monkeypatch
):
    from airflow.sdk import DAG
    from airflow.sdk.exceptions import TaskDeferred

    from nightshift.orchestration.kubernetes.pod_job import PodJob

    for key in [key for key in stack if key.startswith(("AIRFLOW_CONN_", "NIGHTSHIFT_"))]:
        monkeypatch.setenv(key, stack[key])
    place = this_place(stack)
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", "s3://nightshift/storage")
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", place.mlflow_url)
    store, run = Store(), f"killed-{os.getpid()}"
    arguments = {"interval": {"start": "2026-11-02", "end": "2026-11-03"}}

    def attempt(number: int, max_tries: int = 2) -> PodJob:
        dag = DAG("pod_ingest")
        task = PodJob(task_id="ingest", application="pod", job="ingest", arguments=arguments, compute="pod", dag=dag)
        ti = SimpleNamespace(
            dag_id="pod_ingest", run_id=run, task_id="ingest", map_index=-1, try_number=number, max_tries=max_tries
        )
        context = {"ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf={}), "run_id": run, "task_state_store": store}
        task.__dict__["context"] = context
        return task

    killed = attempt(1)
    monkeypatch.setattr(killed, "watch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        killed.execute(killed.__dict__["context"])
    (first,) = pods(run)
    again = attempt(2)
    with pytest.raises(TaskDeferred):
        again.execute(again.__dict__["context"])
    assert [pod.metadata.uid for pod in pods(run)] == [first.metadata.uid]
    cleared = attempt(3, max_tries=4)
    with pytest.raises(TaskDeferred):
        cleared.execute(cleared.__dict__["context"])
    alive = [pod for pod in pods(run) if not pod.metadata.deletion_timestamp]
    assert [pod.metadata.name for pod in alive] == [f"{first.metadata.name.removesuffix('-1')}-2"]
    cluster.CoreV1Api().delete_namespaced_pod(alive[0].metadata.name, namespace)
