"""The decisions of a task whose job runs on several nodes. Against a real cluster they are in tests/cluster."""

import asyncio
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from kubernetes.client.exceptions import ApiException

from nightshift.orchestration.job_task import JobFailed
from nightshift.orchestration.kubernetes import group_trigger
from nightshift.orchestration.kubernetes.group_job import GroupJob
from nightshift.orchestration.kubernetes.group_trigger import GroupTrigger
from nightshift.orchestration.kubernetes.submission import KEY

PROFILE = "backend: kubernetes\nnodes: 2\n"
ARGUMENTS = {"prompts": "s3://bucket/prompts", "digest": "0"}


class Cluster:
    """Jobs, Services and the pods of Jobs by name, as the API keeps them."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict] = {}
        self.services: dict[str, dict] = {}
        self.conditions: list[SimpleNamespace] = []
        self.pods: list[SimpleNamespace] = []

    def create_namespaced_job(self, _namespace, manifest, **_):
        name = manifest["metadata"]["name"]
        if name in self.jobs:
            raise ApiException(status=409)
        self.jobs[name] = manifest
        return self.read_namespaced_job(name, _namespace)

    def read_namespaced_job(self, name, _namespace, **_):
        if name not in self.jobs:
            raise ApiException(status=404)
        metadata = SimpleNamespace(**self.jobs[name]["metadata"], uid=f"uid-of-{name}", deletion_timestamp=None)
        return SimpleNamespace(metadata=metadata, status=SimpleNamespace(conditions=self.conditions))

    def delete_namespaced_job(self, name, _namespace, **_):
        if self.jobs.pop(name, None) is None:
            raise ApiException(status=404)
        # The garbage collector takes along what a Job owns.
        self.services = {
            key: one
            for key, one in self.services.items()
            if one["metadata"]["ownerReferences"][0]["uid"] != f"uid-of-{name}"
        }

    def create_namespaced_service(self, _namespace, manifest, **_):
        name = manifest["metadata"]["name"]
        if name in self.services:
            raise ApiException(status=409)
        self.services[name] = manifest

    def list_namespaced_pod(self, _namespace, **_):
        return SimpleNamespace(items=self.pods)

    def end(self, kind: str, reason: str = "", *codes: int) -> None:
        self.conditions = [SimpleNamespace(type=kind, status="True", reason=reason, message="see the pods")]
        self.pods = [pod(f"node-{number}", code) for number, code in enumerate(codes)]


def pod(name: str, code: int) -> SimpleNamespace:
    terminated = SimpleNamespace(exit_code=code, reason="Error", message=None, started_at=None, finished_at=None)
    container = SimpleNamespace(name="base", state=SimpleNamespace(terminated=terminated, waiting=None))
    status = SimpleNamespace(phase="Failed", reason=None, message=None, conditions=[], container_statuses=[container])
    return SimpleNamespace(metadata=SimpleNamespace(name=name, labels={}, annotations={}), status=status)


class Store(dict):
    """Airflow's state of a task, which outlives its tries."""

    def set(self, key, value, retention=None):
        self[key] = value


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A task, its Airflow and its cluster."""
    (tmp_path / "pair.yaml").write_text(PROFILE)
    monkeypatch.setenv("NIGHTSHIFT_COMPUTE", str(tmp_path))
    monkeypatch.setenv("NIGHTSHIFT_IMAGE", "trainer:1")
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", "http://mlflow:5000")
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", "memory://group-jobs")
    cluster, store = Cluster(), Store()

    def task(*, max_tries: int = 2) -> SimpleNamespace:
        dag = DAG("banking_assistant_batch_inference")
        operator = GroupJob(
            task_id="generate", dag=dag, application="banking_assistant", job="generate", arguments=ARGUMENTS,
            compute="pair",
        )  # fmt: skip
        operator.__dict__.update(batch=cluster, core=cluster, cluster=SimpleNamespace(is_in_cluster=False))
        ti = SimpleNamespace(
            dag_id=dag.dag_id, run_id="r", task_id="generate", map_index=-1, try_number=1, max_tries=max_tries
        )
        context = {"ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf={}), "run_id": "r", "task_state_store": store}
        return SimpleNamespace(
            run=lambda: operator.execute(context),
            come_back=lambda phase="ended": operator.ended(context, {"phase": phase}),
            kill=operator.on_kill,
        )

    return SimpleNamespace(task=task, cluster=cluster, store=store)


def started(world, **kwargs) -> SimpleNamespace:
    task = world.task(**kwargs)
    with pytest.raises(TaskDeferred) as left:
        task.run()
    task.trigger = left.value.trigger
    return task


def test_a_job_on_two_nodes_gets_a_service_that_goes_with_it(world):
    started(world)
    ((name, job),) = world.cluster.jobs.items()
    assert job["spec"]["completions"] == 2
    (service,) = world.cluster.services.values()
    assert service["metadata"]["ownerReferences"][0]["uid"] == f"uid-of-{name}"
    world.cluster.delete_namespaced_job(name, "nightshift")
    assert world.cluster.services == {}


def test_a_service_that_a_killed_worker_did_not_get_to_is_made_by_the_next_try(world):
    started(world)
    world.cluster.services.clear()
    started(world)
    assert len(world.cluster.jobs) == len(world.cluster.services) == 1


def test_a_retry_goes_on_with_the_job_and_a_clear_starts_another(world):
    started(world)
    (first,) = world.cluster.jobs
    started(world)
    assert list(world.cluster.jobs) == [first]
    started(world, max_tries=5)
    assert len(world.cluster.jobs) == 1
    assert first not in world.cluster.jobs


def test_a_job_that_says_a_retry_cannot_help_fails_for_good_whatever_its_other_nodes_say(world):
    task = started(world)
    world.cluster.end("Failed", "PodFailurePolicy", 75, 65)
    with pytest.raises(AirflowFailException, match=r"node-1 ended with exit code 65.*\(PodFailurePolicy"):
        task.come_back()


def test_a_job_whose_nodes_failed_too_often_is_tried_again_by_airflow(world):
    task = started(world)
    world.cluster.end("Failed", "BackoffLimitExceeded", 75, 69)
    with pytest.raises(JobFailed, match="node-1 ended with exit code 69"):
        task.come_back()


def test_a_complete_job_without_a_result_did_not_succeed(world):
    task = started(world)
    world.cluster.end("Complete")
    with pytest.raises(JobFailed, match="without a result"):
        task.come_back()


def test_nodes_that_cannot_start_take_the_job_along(world):
    task = started(world)
    with pytest.raises(JobFailed, match="not all nodes"):
        task.come_back("stuck")
    assert world.cluster.jobs == {}


def test_a_person_who_ends_the_task_ends_its_job(world):
    started(world).kill()
    assert (world.cluster.jobs, world.cluster.services) == ({}, {})
    assert world.store[KEY]["number"] == 1


def test_a_job_that_somebody_deleted_is_asked_for_again_by_the_next_try(world):
    task = started(world)
    world.cluster.jobs.clear()
    with pytest.raises(JobFailed, match="is gone"):
        task.come_back("gone")
    started(world)
    assert world.store[KEY]["number"] == 2


def test_the_trigger_survives_its_triggerer_and_a_cluster_that_does_not_answer(world, monkeypatch):
    path, arguments = started(world).trigger.serialize()
    assert path.endswith("group_trigger.GroupTrigger")
    trigger = GroupTrigger(**arguments)
    monkeypatch.setattr(group_trigger, "POLL_SECONDS", 0)
    answers = [ConnectionError("refused"), ApiException(status=503), None, "ended"]

    async def look():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    trigger._look = look

    async def first_event():
        return await anext(trigger.run())

    assert asyncio.run(first_event()).payload == {"phase": "ended"}
