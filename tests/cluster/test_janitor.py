"""The janitor on a real cluster: what nobody waits for goes, what somebody waits for stays, and the accounts are in MLflow."""

import httpx
import pytest
from kubernetes_runs import ended
from patience import wait_for

from nightshift.orchestration.kubernetes import janitor
from nightshift.orchestration.kubernetes.labels import DAG_ID, JOB, OURS, OWNER, RESULT, RUN_ID, TASK_ID, airflow_id
from nightshift.orchestration.kubernetes.manifests import job_manifest, pod_manifest, service_manifest
from nightshift.settings.applications import load_compute
from nightshift.stack.place import this_place

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1200)]


@pytest.fixture
def here(stack, monkeypatch):
    """This process in the place of a worker of the stack."""
    for key in [key for key in stack if key.startswith(("AIRFLOW_CONN_", "NIGHTSHIFT_"))]:
        monkeypatch.setenv(key, stack[key])
    monkeypatch.setattr(janitor, "GRACE", janitor.timedelta(0))
    monkeypatch.setattr(janitor, "AGAIN", janitor.timedelta(0))


def sleeper(profile: str, name: str, owner: str) -> dict:
    """A pod that waits for ever, as a task asked for it that is gone."""
    pod = pod_manifest(
        load_compute(profile), "train", name=name, arguments=[], environment={},
        labels={**OURS, OWNER: owner, "nightshift/application": "pod", JOB: "train"},
        annotations={DAG_ID: "pod_finetune", RUN_ID: "gone", TASK_ID: "train", RESULT: "s3://nightshift/storage/pod/results/x"},
    )  # fmt: skip
    pod["spec"]["containers"][0]["command"] = ["python", "-c", "import time; time.sleep(600)"]
    return pod


def test_what_nobody_waits_for_is_deleted_and_what_is_anothers_or_waited_for_is_not(here, cluster, namespace):
    core, batch = cluster.CoreV1Api(), cluster.BatchV1Api()
    core.create_namespaced_pod(namespace, sleeper("pod", "orphan", airflow_id()))
    core.create_namespaced_pod(namespace, sleeper("pod", "another-airflows", "0123456789"))
    job = batch.create_namespaced_job(namespace, job_manifest(sleeper("pair", "group", airflow_id()), nodes=2))
    metadata = {key: getattr(job.metadata, key) for key in ("namespace", "name", "labels", "annotations")}
    core.create_namespaced_service(namespace, service_manifest(metadata, job.metadata.uid))
    mine = {"Pod orphan: train of pod_finetune in gone is", "Job group: train of pod_finetune in gone is"}

    def swept(state: str | None, *, delete: bool = True) -> dict[str, set[str]]:
        told = janitor.sweep(load_compute("pod"), lambda *_: state, delete=delete)
        return {fate: {thing.rpartition(" ")[0] for thing in things} for fate, things in told.items()}

    assert mine <= swept("deferred")["keep"]
    assert mine <= swept(None, delete=False)["report"]
    assert mine <= swept(None)["report"]
    assert mine <= swept(None, delete=False)["delete"]
    assert {pod.metadata.name for pod in core.list_namespaced_pod(namespace).items} >= {"orphan", "another-airflows"}
    assert mine <= swept("failed")["delete"]

    def names(listed) -> set[str]:
        return {one.metadata.name for one in listed.items if not one.metadata.deletion_timestamp}

    wait_for(lambda: "orphan" not in names(core.list_namespaced_pod(namespace)), 60, "the orphan to go", every=1)
    wait_for(lambda: not names(batch.list_namespaced_job(namespace)), 60, "the Job to go", every=1)
    wait_for(lambda: "group" not in names(core.list_namespaced_service(namespace)), 60, "its Service to go", every=1)
    assert "another-airflows" in names(core.list_namespaced_pod(namespace))
    core.delete_namespaced_pod("another-airflows", namespace, grace_period_seconds=0)


def test_the_hourly_run_logs_what_the_pods_of_a_run_used(api, start, stack):
    run = start("pod_ingest", day="2026-11-02")
    ended(api, "pod_ingest", run)
    sweep = start("nightshift_janitor", report_only=True)

    def state_of(task: str) -> str | None:
        return next((one["state"] for one in api.tasks("nightshift_janitor", sweep) if one["task_id"] == task), None)

    # One sweep for each namespace; the other connections of these tests lead nowhere by now.
    wait_for(lambda: state_of("sweep_gpus") == "success", 300, "the sweep", every=1)
    start("nightshift_usage")
    metrics = wait_for(lambda: usage_of(run, this_place(stack).mlflow_url), 600, "the accounts in MLflow", every=2)
    assert metrics["pods"] == 2
    assert metrics["cost"] == pytest.approx(metrics["pod_hours"] * 3.6)
    assert metrics["ingest/pods"] == metrics["validate/pods"] == 1


def usage_of(run: str, mlflow: str) -> dict[str, float]:
    """What MLflow shows of the pods of a DAG run of the application `pod`; nothing while it shows nothing."""
    api = f"{mlflow}/api/2.0/mlflow"
    found = httpx.get(f"{api}/experiments/get-by-name", params={"experiment_name": "pod"}, trust_env=False).json()
    if "experiment" not in found:
        return {}
    body = {
        "experiment_ids": [found["experiment"]["experiment_id"]],
        "filter": f"tags.`nightshift.run_id` = '{run}' and tags.`nightshift.job` = 'usage'",
    }
    runs = httpx.post(f"{api}/runs/search", json=body, trust_env=False).json().get("runs", [])
    return {one["key"]: one["value"] for shown in runs for one in shown["data"].get("metrics", [])}
