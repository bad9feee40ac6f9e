"""TrainJobs and an API server that knows them. What Kubeflow Trainer does of them is played here, so nothing runs."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from kubernetes.client.exceptions import ApiException
from patience import wait_for

from nightshift.orchestration.kubernetes import janitor
from nightshift.orchestration.kubernetes.cluster import trouble
from nightshift.orchestration.kubernetes.group_trigger import GroupTrigger
from nightshift.orchestration.kubernetes.kinds import RUNTIMES, TRAIN_JOBS, Kind
from nightshift.orchestration.kubernetes.labels import DAG_ID, GROUP, JOB, OURS, OWNER, RUN_ID, TASK_ID, airflow_id
from nightshift.orchestration.kubernetes.manifests import (
    CONTAINERS,
    group_environment,
    job_manifest,
    pod_manifest,
)
from nightshift.orchestration.kubernetes.train_job import TrainJobGroup
from nightshift.orchestration.kubernetes.train_manifests import runtime_manifest, train_job_manifest
from nightshift.settings.applications import load_compute

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]

# Nobody admits what waits in this queue.
PROFILE = """\
backend: kubernetes
launcher: trainjob
nodes: 2
gpus: 4
queue: nobody
image: nightshift.invalid/trainer:1
namespace: {namespace}
"""


@pytest.fixture
def space(cluster, kubeconfig, project, monkeypatch):
    """A namespace of its own where the cluster has TrainJobs, and a profile that uses it."""
    name, core = f"nightshift-trainjob-{uuid.uuid4().hex[:6]}", cluster.CoreV1Api()
    try:
        cluster.CustomObjectsApi().list_namespaced_custom_object(**TRAIN_JOBS.objects_of("default"))
    except ApiException as error:
        pytest.skip(f"the cluster has no TrainJob to be seen ({error.status}): install Kubeflow Trainer 2.0 or newer")
    (project / "compute" / "trainer.yaml").write_text(PROFILE.format(namespace=name))
    described = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(kubeconfig)}}
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(described))
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


def group(name: str = "train-example-0123456789-1") -> dict:
    """The Job from which the two are made, as a task would ask for it that is gone."""
    pod = pod_manifest(
        load_compute("trainer"), "train", name=name, arguments=[], environment=group_environment(name, 2, "trainjob"),
        labels={**OURS, OWNER: airflow_id(), JOB: "train", GROUP: name}, container=CONTAINERS["trainjob"],
        annotations={DAG_ID: "example_finetune", RUN_ID: "gone", TASK_ID: "train"},
    )  # fmt: skip
    return job_manifest(pod, nodes=2)


@pytest.fixture
def task(space, cluster) -> TrainJobGroup:
    task = TrainJobGroup(
        task_id="train", dag=DAG("example_finetune"), application="example", job="train", arguments={},
        compute="trainer",
    )  # fmt: skip
    task.__dict__["cluster"] = SimpleNamespace(get_conn=cluster.ApiClient)
    return task


def names(cluster, kind: Kind, space: str) -> set[str]:
    found = cluster.CustomObjectsApi().list_namespaced_custom_object(**kind.objects_of(space))["items"]
    return {one["metadata"]["name"] for one in found}


def test_the_installed_release_knows_every_field(space, cluster):
    api, runtime, train_job = cluster.CustomObjectsApi(), runtime_manifest(group()), train_job_manifest(group())
    asked = {"dry_run": "All", "field_validation": "Strict"}
    assert api.create_namespaced_custom_object(**RUNTIMES.objects_of(space), body=runtime, **asked)
    # What JobSet makes of it, which the schema of a runtime does not look into.
    (child,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    job = {"metadata": {"name": "train-example-0123456789-1-node-0"}, "spec": child["template"]["spec"]}
    assert cluster.BatchV1Api().create_namespaced_job(space, job, **asked)
    # Trainer looks for the runtime before it takes a TrainJob.
    api.create_namespaced_custom_object(**RUNTIMES.objects_of(space), body=runtime)
    assert api.create_namespaced_custom_object(**TRAIN_JOBS.objects_of(space), body=train_job, **asked)
    train_job["spec"]["trainer"]["nodes"] = 2
    with pytest.raises(ApiException, match="unknown field"):
        api.create_namespaced_custom_object(**TRAIN_JOBS.objects_of(space), body=train_job, **asked)


def test_what_a_worker_left_half_done_is_completed_and_goes_as_one(task, space, cluster):
    left = task.start(group())
    name = left["metadata"]["name"]
    submission = SimpleNamespace(name=name)
    assert task.goes_on(submission)
    assert task.goes_on(submission)
    runtime = cluster.CustomObjectsApi().get_namespaced_custom_object(**RUNTIMES.objects_of(space), name=name)
    (owner,) = runtime["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("TrainJob", left["metadata"]["uid"])
    assert task.start(group())["metadata"]["uid"] == left["metadata"]["uid"]

    trigger = GroupTrigger(
        name=name, launcher="trainjob", namespace=space, connection="kubernetes_default", in_cluster=None,
        pending_seconds=0,
    )  # fmt: skip
    assert asyncio.run(trigger._look()) is None
    ended(cluster, space, name, "Complete")
    assert asyncio.run(trigger._look()) == "ended"
    assert task.goes_on(submission)
    asyncio.run(trigger.on_kill())
    for kind in (TRAIN_JOBS, RUNTIMES):
        wait_for(lambda kind=kind: not names(cluster, kind, space), 90, f"the {kind.plural} to go", every=1)
    assert not task.goes_on(submission)


def test_a_train_job_that_failed_is_not_gone_on_with_and_one_without_a_pod_is_not_waited_for(task, space, cluster):
    job = group()
    job["spec"]["suspend"] = False
    name = task.start(job)["metadata"]["name"]
    trigger = GroupTrigger(
        name=name, launcher="trainjob", namespace=space, connection="kubernetes_default", in_cluster=None,
        pending_seconds=-1,
    )  # fmt: skip
    assert asyncio.run(trigger._look()) == "stuck"
    ended(cluster, space, name, "Failed")
    assert not task.goes_on(SimpleNamespace(name=name))


def test_the_janitor_takes_train_jobs_and_the_runtimes_that_belong_to_none(task, space, cluster, monkeypatch):
    monkeypatch.setattr(janitor, "GRACE", timedelta(0))
    monkeypatch.setattr(janitor, "AGAIN", timedelta(0))
    task.complete(task.start(group()))
    task.offer(RUNTIMES, runtime_manifest(group("train-alone")))

    def swept(state: str | None) -> dict[str, list[str]]:
        told = janitor.sweep(load_compute("trainer"), lambda *_: state, delete=True)
        return {fate: sorted(thing.partition(":")[0] for thing in things) for fate, things in told.items()}

    mine = ["TrainJob train-example-0123456789-1", "TrainingRuntime train-alone"]
    assert swept("deferred") == {"keep": mine, "report": [], "delete": []}
    assert swept(None) == {"keep": [], "report": mine, "delete": []}
    assert swept(None) == {"keep": [], "report": [], "delete": mine}
    for kind in (TRAIN_JOBS, RUNTIMES):
        wait_for(lambda kind=kind: not names(cluster, kind, space), 90, f"the {kind.plural} to go", every=1)


def test_a_kind_that_the_cluster_has_not_is_told_from_a_thing_that_is_not_there(space, cluster):
    api, compute = cluster.CustomObjectsApi(), load_compute("trainer")

    def said(kind: Kind) -> str:
        with pytest.raises(ApiException) as error:
            api.get_namespaced_custom_object(**kind.objects_of(space), name="nothing")
        return trouble(error.value, compute, "look").text

    assert "has no TrainJob" in said(TRAIN_JOBS._replace(plural="nosuchthings"))
    assert "is there a namespace" in said(TRAIN_JOBS)


def ended(cluster, space: str, name: str, how: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    condition = {"type": how, "status": "True", "reason": "Played", "message": "by hand", "lastTransitionTime": now}
    cluster.CustomObjectsApi().patch_namespaced_custom_object_status(
        **TRAIN_JOBS.objects_of(space), name=name, body={"status": {"conditions": [condition]}}
    )
