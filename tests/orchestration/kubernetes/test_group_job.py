"""The decisions of a task whose job runs on several nodes, by a Job or a TrainJob. Those of a real cluster: tests/cluster."""

import asyncio
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from kubernetes.client.exceptions import ApiException

from nightshift.orchestration.job import operator_of
from nightshift.orchestration.job_task import JobFailed
from nightshift.orchestration.kubernetes import group_trigger
from nightshift.orchestration.kubernetes.group_trigger import GroupTrigger
from nightshift.orchestration.kubernetes.submission import KEY

PROFILE = "backend: kubernetes\nnodes: 2\nlauncher: {launcher}\n"
ARGUMENTS = {"prompts": "s3://bucket/prompts", "digest": "0"}


def already_there() -> ApiException:
    error = ApiException(status=409)
    error.body = '{"reason":"AlreadyExists"}'
    return error


class Cluster:
    """Jobs, Services and the pods of Jobs by name, as the API keeps them; TrainJobs too, where there is Kubeflow Trainer."""

    def __init__(self, *plurals: str) -> None:
        self.objects: dict[str, dict[str, dict]] = {plural: {} for plural in plurals}
        self.services: dict[str, dict] = {}
        self.conditions: list[dict] = []
        self.pods: list[SimpleNamespace] = []

    def of(self, plural: str) -> dict[str, dict]:
        if plural not in self.objects:
            error = ApiException(status=404)
            error.body = "404 page not found\n"
            raise error
        return self.objects[plural]

    def create_namespaced_custom_object(self, group, version, namespace, plural, body, **_):
        name = body["metadata"]["name"]
        if name in self.of(plural):
            raise already_there()
        self.of(plural)[name] = {**body, "metadata": {**body["metadata"], "uid": f"uid-of-{name}"}}
        return self.get_namespaced_custom_object(group, version, namespace, plural, name)

    def get_namespaced_custom_object(self, group, version, namespace, plural, name, **_):
        if name not in self.of(plural):
            raise ApiException(status=404)
        return {**self.of(plural)[name], "status": {"conditions": self.conditions}}

    def patch_namespaced_custom_object(self, *, plural, name, body, **_):
        self.of(plural)[name]["metadata"] |= body["metadata"]

    def delete_namespaced_custom_object(self, group, version, namespace, plural, name, **_):
        if self.of(plural).pop(name, None) is None:
            raise ApiException(status=404)
        # The garbage collector takes along what it owned.
        for things in (self.services, *self.objects.values()):
            for key, one in list(things.items()):
                owners = one["metadata"].get("ownerReferences", [])
                if [owner["uid"] for owner in owners] == [f"uid-of-{name}"]:
                    del things[key]

    def create_namespaced_service(self, _namespace, manifest, **_):
        name = manifest["metadata"]["name"]
        if name in self.services:
            raise already_there()
        self.services[name] = manifest

    def list_namespaced_pod(self, _namespace, **_):
        return SimpleNamespace(items=self.pods)

    def end(self, kind: str, reason: str = "", *codes: int) -> None:
        self.conditions = [{"type": kind, "status": "True", "reason": reason, "message": "see the pods"}]
        self.pods = [pod(f"node-{number}", code) for number, code in enumerate(codes)]


def pod(name: str, code: int, container: str = "base") -> SimpleNamespace:
    terminated = SimpleNamespace(exit_code=code, reason="Error", message=None, started_at=None, finished_at=None)
    shown = SimpleNamespace(name=container, state=SimpleNamespace(terminated=terminated, waiting=None))
    status = SimpleNamespace(phase="Failed", reason=None, message=None, conditions=[], container_statuses=[shown])
    return SimpleNamespace(metadata=SimpleNamespace(name=name, labels={}, annotations={}), status=status)


class Store(dict):
    """Airflow's state of a task, which outlives its tries."""

    def set(self, key, value, retention=None):
        self[key] = value


@pytest.fixture(params=["job", "trainjob"])
def launcher(request) -> str:
    return request.param


@pytest.fixture
def world(launcher, sample_project, monkeypatch):
    """A task, its Airflow and its cluster; `jobs` are what starts the nodes there."""
    (sample_project / "compute" / "pair.yaml").write_text(PROFILE.format(launcher=launcher))
    monkeypatch.setenv("NIGHTSHIFT_IMAGE", "trainer:1")
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", "http://mlflow:5000")
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", "memory://group-jobs")
    cluster, store = Cluster("jobs", "trainjobs", "trainingruntimes"), Store()

    def task(*, max_tries: int = 2) -> SimpleNamespace:
        dag = DAG("banking_assistant_batch_inference")
        operator = operator_of("generate", "pair")(
            task_id="generate", dag=dag, application="banking_assistant", job="generate", arguments=ARGUMENTS,
            compute="pair",
        )  # fmt: skip
        operator.__dict__.update(objects=cluster, core=cluster, cluster=SimpleNamespace(is_in_cluster=False))
        ti = SimpleNamespace(
            dag_id=dag.dag_id, run_id="r", task_id="generate", map_index=-1, try_number=1, max_tries=max_tries
        )
        context = {"ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf={}), "run_id": "r", "task_state_store": store}
        return SimpleNamespace(
            run=lambda: operator.execute(context),
            come_back=lambda phase="ended": operator.ended(context, {"phase": phase}),
            kill=operator.on_kill,
        )

    return SimpleNamespace(task=task, cluster=cluster, store=store, jobs=cluster.objects[f"{launcher}s"])


def started(world, **kwargs) -> SimpleNamespace:
    task = world.task(**kwargs)
    with pytest.raises(TaskDeferred) as left:
        task.run()
    task.trigger = left.value.trigger
    return task


@pytest.mark.parametrize("launcher", ["job"], indirect=True)
def test_a_job_on_two_nodes_gets_a_service_that_goes_with_it(world):
    started(world)
    ((name, job),) = world.jobs.items()
    assert job["spec"]["completions"] == 2
    (service,) = world.cluster.services.values()
    assert service["metadata"]["ownerReferences"][0]["uid"] == f"uid-of-{name}"


@pytest.mark.parametrize("launcher", ["job"], indirect=True)
def test_a_service_that_a_killed_worker_did_not_get_to_is_made_by_the_next_try(world):
    started(world)
    world.cluster.services.clear()
    started(world)
    assert len(world.jobs) == len(world.cluster.services) == 1


@pytest.mark.parametrize("launcher", ["trainjob"], indirect=True)
def test_a_train_job_runs_a_runtime_of_its_own_that_goes_with_it(world):
    started(world)
    ((name, job),) = world.jobs.items()
    assert job["spec"]["trainer"]["numNodes"] == 2
    ((runtime, made),) = world.cluster.objects["trainingruntimes"].items()
    assert runtime == job["spec"]["runtimeRef"]["name"] == name
    assert made["metadata"]["ownerReferences"][0] == {
        "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "name": name, "uid": f"uid-of-{name}",
    }  # fmt: skip
    assert world.cluster.services == {}


@pytest.mark.parametrize("launcher", ["trainjob"], indirect=True)
def test_a_runtime_that_a_killed_worker_gave_no_owner_gets_it_from_the_next_try(world):
    started(world)
    (runtime,) = world.cluster.objects["trainingruntimes"].values()
    del runtime["metadata"]["ownerReferences"]
    started(world)
    assert runtime["metadata"]["ownerReferences"]
    assert world.store[KEY]["number"] == 1


@pytest.mark.parametrize("launcher", ["trainjob"], indirect=True)
def test_a_runtime_whose_train_job_a_killed_worker_did_not_get_to_is_replaced_by_the_next_try(world):
    started(world)
    runtimes = world.cluster.objects["trainingruntimes"]
    ((first, runtime),) = runtimes.items()
    del runtime["metadata"]["ownerReferences"]
    world.jobs.clear()
    started(world)
    assert list(runtimes) == list(world.jobs) == [f"{first[:-1]}2"]


@pytest.mark.parametrize("launcher", ["trainjob"], indirect=True)
def test_a_cluster_without_kubeflow_trainer_is_named_and_not_waited_for(world):
    del world.cluster.objects["trainingruntimes"], world.cluster.objects["trainjobs"]
    with pytest.raises(
        AirflowFailException, match=r"has no TrainJob \(trainer.kubeflow.org\): install Kubeflow Trainer"
    ):
        world.task().run()


@pytest.mark.parametrize("launcher", ["trainjob"], indirect=True)
def test_a_node_of_a_train_job_says_that_a_retry_cannot_help(world):
    task = started(world)
    world.cluster.end("Failed", "FailedJobs")
    world.cluster.pods = [pod("node-0", 75, "node"), pod("node-1", 65, "node")]
    with pytest.raises(AirflowFailException, match=r"node-1 ended with exit code 65.*\(FailedJobs"):
        task.come_back()


def test_a_retry_goes_on_with_the_job_and_a_clear_starts_another(world):
    started(world)
    (first,) = world.jobs
    started(world)
    assert list(world.jobs) == [first]
    started(world, max_tries=5)
    assert len(world.jobs) == 1
    assert first not in world.jobs


def test_a_job_that_says_a_retry_cannot_help_fails_for_good_whatever_its_other_nodes_say(world):
    task = started(world)
    world.cluster.end("Failed", "PodFailurePolicy", 75, 65)
    with pytest.raises(AirflowFailException, match=r"node-1 ended with exit code 65.*\(PodFailurePolicy"):
        task.come_back()


def test_a_job_whose_nodes_failed_too_often_is_tried_again_by_airflow(world):
    task = started(world)
    world.cluster.end("Failed", "BackoffLimitExceeded", 75, 1)
    with pytest.raises(JobFailed, match="node-1 ended with exit code 1"):
        task.come_back()


def test_a_job_whose_nodes_found_mlflow_down_is_asked_for_again_and_that_counts_as_no_try(world):
    task = started(world)
    world.cluster.end("Failed", "BackoffLimitExceeded", 75, 69)
    with pytest.raises(TaskDeferred) as left:
        task.come_back()
    assert left.value.method_name == "again"


def test_a_complete_job_without_a_result_did_not_succeed(world):
    task = started(world)
    world.cluster.end("Complete")
    with pytest.raises(JobFailed, match="without a result"):
        task.come_back()


def test_nodes_that_cannot_start_take_the_job_along(world):
    task = started(world)
    with pytest.raises(JobFailed, match="not all nodes"):
        task.come_back("stuck")
    assert world.jobs == {}


def test_a_person_who_ends_the_task_ends_its_job(world):
    started(world).kill()
    assert not any([world.cluster.services, *world.cluster.objects.values()])
    assert world.store[KEY]["number"] == 1


def test_a_job_that_somebody_deleted_is_asked_for_again_by_the_next_try(world):
    task = started(world)
    world.jobs.clear()
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

    assert asyncio.run(first_event()).payload["phase"] == "ended"
