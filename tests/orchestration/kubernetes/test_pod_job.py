"""The decisions of a task whose job runs in pods: find again, start anew, wait, fail, or ask again.

The cluster is a dictionary here; the same decisions against a real one are in tests/cluster.
"""

import json
from types import SimpleNamespace

import pytest
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from kubernetes.client.exceptions import ApiException
from upath import UPath

from nightshift.orchestration.job_task import JobFailed
from nightshift.orchestration.kubernetes.pod_job import PodJob
from nightshift.orchestration.kubernetes.submission import KEY

ARGUMENTS = {"interval": {"start": "2026-11-02", "end": "2026-11-03"}}
TIMES = {"startedAt": "2026-11-25T03:00:00Z", "finishedAt": "2026-11-25T03:30:00Z"}


def already_there() -> ApiException:
    error = ApiException(status=409)
    error.body = '{"reason":"AlreadyExists"}'
    return error


class Cluster:
    """Pods by name, as the API keeps them; `down` is what every request answers with instead."""

    def __init__(self) -> None:
        self.pods: dict[str, dict] = {}
        self.down: Exception | None = None

    def _answer(self) -> None:
        if self.down:
            raise self.down

    def create_namespaced_pod(self, _namespace, manifest, **_):
        self._answer()
        name = manifest["metadata"]["name"]
        if name in self.pods:
            raise already_there()
        metadata = {**manifest["metadata"], "uid": f"{name}-0123456789"}
        self.pods[name] = {**manifest, "metadata": metadata, "status": {"phase": "Pending"}}

    def read_namespaced_pod(self, name, _namespace, **_):
        self._answer()
        if name not in self.pods:
            raise ApiException(status=404)
        return PodGenerator.deserialize_model_dict(self.pods[name])

    def delete_namespaced_pod(self, name, _namespace, **_):
        self._answer()
        if self.pods.pop(name, None) is None:
            raise ApiException(status=404)

    def end(self, code: int, phase: str = "Failed", **status) -> None:
        state = {"terminated": {"exitCode": code, **TIMES}}
        container = {"name": "base", "ready": False, "restartCount": 0, "image": "x", "imageID": "", "state": state}
        for pod in self.pods.values():
            pod["status"] = {"phase": phase, "containerStatuses": [container], **status}


class Store(dict):
    """Airflow's state of a task, which outlives its tries."""

    def set(self, key, value, retention=None):
        self[key] = value


@pytest.fixture
def world(sample_project, tmp_path, monkeypatch):
    """A task, its Airflow and its cluster."""
    monkeypatch.setenv("NIGHTSHIFT_IMAGE", "trainer:1")
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", "http://mlflow:5000")
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", f"file://{tmp_path}/storage")
    volume = f"volumes: [{{claim: nightshift, path: {tmp_path}/storage}}]\n"
    cluster, store = Cluster(), Store()

    def task(*, attempt: int = 1, max_tries: int = 2, profile: str = "") -> SimpleNamespace:
        (sample_project / "compute" / "pod.yaml").write_text(f"backend: kubernetes\n{volume}{profile}")
        dag = DAG("banking_assistant_ingest")
        pushed: dict = {}
        operator = PodJob(
            task_id="ingest", dag=dag, application="banking_assistant", job="ingest", arguments=ARGUMENTS, compute="pod"
        )
        operator.__dict__["client"] = cluster
        operator.__dict__["hook"] = SimpleNamespace(is_in_cluster=False)
        monkeypatch.setattr(PodJob, "_write_logs", lambda *_, **__: None)
        monkeypatch.setattr(PodJob, "_read_pod_events", lambda *_, **__: None)
        ti = SimpleNamespace(
            dag_id=dag.dag_id, run_id="r", task_id="ingest", map_index=-1, try_number=attempt, max_tries=max_tries,
            start_date=None, xcom_push=lambda key, value: pushed.update({key: value}),
        )  # fmt: skip
        context = {"ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf={}), "run_id": "r", "task_state_store": store}
        return SimpleNamespace(
            run=lambda: operator.execute(context),
            come_back=lambda status="failed", **event: operator.trigger_reentry(context, {"status": status, **event}),
            pushed=pushed,
            kill=operator.on_kill,
        )

    return SimpleNamespace(task=task, cluster=cluster, store=store, storage=tmp_path / "storage")


def test_a_task_asks_for_a_pod_and_leaves_its_worker(world):
    with pytest.raises(TaskDeferred) as left:
        world.task().run()
    assert type(left.value.trigger).__name__ == "KubernetesPodTrigger"
    assert left.value.trigger.config_dict is None
    (name,) = world.cluster.pods
    assert world.store[KEY]["name"] == name


def test_a_pod_looks_for_the_project_where_airflow_has_it_unless_the_profile_says_otherwise(world, sample_project):
    for profile, place in (("", str(sample_project)), ("environment: {NIGHTSHIFT_PROJECT: /project}\n", "/project")):
        world.cluster.pods.clear()
        world.store.clear()
        with pytest.raises(TaskDeferred):
            world.task(profile=profile).run()
        (pod,) = world.cluster.pods.values()
        variables = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
        assert variables["NIGHTSHIFT_PROJECT"] == place


def test_a_retry_goes_on_with_the_pod_of_the_try_before(world):
    for attempt in (1, 2):
        with pytest.raises(TaskDeferred):
            world.task(attempt=attempt).run()
    assert len(world.cluster.pods) == 1


def test_a_clear_drops_the_pod_and_starts_anew(world):
    with pytest.raises(TaskDeferred):
        world.task().run()
    (first,) = world.cluster.pods
    with pytest.raises(TaskDeferred):
        world.task(attempt=2, max_tries=3).run()
    (second,) = world.cluster.pods
    assert second != first


def test_a_pod_that_failed_is_left_for_people_and_the_retry_gets_another(world):
    with pytest.raises(TaskDeferred):
        world.task().run()
    world.cluster.end(1)
    with pytest.raises(JobFailed, match="exit code 1: it failed"):
        world.task().come_back()
    with pytest.raises(TaskDeferred):
        world.task(attempt=2).run()
    assert len(world.cluster.pods) == 2


def test_bad_input_is_not_tried_again(world):
    with pytest.raises(TaskDeferred):
        world.task().run()
    world.cluster.end(65)
    with pytest.raises(AirflowFailException, match="a retry cannot help"):
        world.task().come_back()


def test_a_pod_that_found_mlflow_down_is_followed_by_another_and_that_counts_as_no_try(world):
    with pytest.raises(TaskDeferred):
        world.task().run()
    world.cluster.end(69)
    with pytest.raises(TaskDeferred) as left:
        world.task().come_back()
    assert left.value.method_name == "again"
    with pytest.raises(TaskDeferred) as left:
        world.task().run()
    assert left.value.method_name == "trigger_reentry"
    assert len(world.cluster.pods) == 2
    world.cluster.end(69)
    with pytest.raises(JobFailed, match="missing or down"):
        world.task(profile="outage_hours: 0\n").come_back()


def test_a_pod_that_succeeded_without_a_result_did_not_succeed(world):
    with pytest.raises(TaskDeferred):
        world.task().run()
    world.cluster.end(0, phase="Succeeded")
    with pytest.raises(JobFailed, match="ended without a result"):
        world.task().come_back("success")


def test_what_a_pod_used_is_written_down_also_when_it_failed(world):
    with pytest.raises(TaskDeferred):
        world.task(profile="price_per_hour: 8\n").run()
    world.cluster.end(1)
    with pytest.raises(JobFailed):
        world.task(profile="price_per_hour: 8\n").come_back()
    (account,) = UPath(world.storage.as_uri()).glob("banking_assistant/usage/2026-11-25/*.json")
    assert json.loads(account.read_bytes())["price_per_hour"] == 8.0


def test_an_interruption_counts_as_no_try_on_spot_nodes_alone(world):
    with pytest.raises(TaskDeferred):
        world.task().run()
    world.cluster.end(137, reason="Preempting", message="for high")
    with pytest.raises(JobFailed, match="taken off its node"):
        world.task().come_back()
    with pytest.raises(TaskDeferred) as left:
        world.task(profile="spot: true\n").come_back()
    assert left.value.method_name == "again"
    assert world.store[KEY]["interruptions"] == 1
    with pytest.raises(TaskDeferred) as left:
        world.task(profile="spot: true\n").run()
    assert left.value.method_name == "trigger_reentry"
    assert len(world.cluster.pods) == 2


def test_a_cluster_that_is_down_is_waited_for_without_a_worker_and_not_for_ever(world, monkeypatch):
    world.cluster.down = ConnectionRefusedError("refused")
    with pytest.raises(TaskDeferred) as left:
        world.task().run()
    assert type(left.value.trigger).__name__ == "TimeDeltaTrigger"
    assert world.store[KEY]["waits_since"]
    world.store[KEY]["waits_since"] = "2026-11-24T00:00:00Z"
    with pytest.raises(JobFailed, match=r"cannot be reached.*waited \d+ minutes"):
        world.task().run()
    # The next try has a patience of its own.
    with pytest.raises(TaskDeferred) as left:
        world.task(attempt=2).run()
    assert type(left.value.trigger).__name__ == "TimeDeltaTrigger"
    world.cluster.down = None
    with pytest.raises(TaskDeferred):
        world.task(attempt=2).run()
    assert world.store[KEY]["waits_since"] is None


def test_a_profile_that_the_cluster_refuses_fails_for_good(world):
    world.cluster.down = ApiException(status=422, reason="Unprocessable")
    with pytest.raises(AirflowFailException, match="refuses to create"):
        world.task().run()


def test_a_pod_that_could_not_be_watched_is_watched_again(world):
    with pytest.raises(TaskDeferred):
        world.task().run()
    with pytest.raises(TaskDeferred) as left:
        world.task().come_back("error", message="a blip")
    assert left.value.method_name == "again"
    with pytest.raises(TaskDeferred) as left:
        world.task().run()
    assert left.value.method_name == "trigger_reentry"
    assert len(world.cluster.pods) == 1


def test_a_pod_that_failed_while_the_cluster_was_out_of_reach_has_the_same_consequence(world):
    with pytest.raises(TaskDeferred):
        world.task().run()
    world.cluster.end(65)
    world.cluster.down = ConnectionRefusedError("refused")
    with pytest.raises(TaskDeferred) as left:
        world.task().come_back()
    assert left.value.method_name == "again"
    world.cluster.down = None
    with pytest.raises(AirflowFailException, match="exit code 65"):
        world.task().run()
    assert len(world.cluster.pods) == 1


def test_a_busy_quota_is_not_taken_for_a_pod_that_is_there(world):
    world.cluster.down = ApiException(status=409, reason="Conflict")
    with pytest.raises(TaskDeferred) as left:
        world.task().run()
    assert type(left.value.trigger).__name__ == "TimeDeltaTrigger"


def test_a_person_who_ends_the_task_while_it_asks_ends_the_pod(world):
    task = world.task()
    with pytest.raises(TaskDeferred):
        task.run()
    task.kill()
    assert world.cluster.pods == {}


def test_a_pod_that_never_starts_is_deleted_since_it_might_start_with_nobody_waiting(world):
    with pytest.raises(TaskDeferred):
        world.task().run()
    with pytest.raises(JobFailed, match="took too long"):
        world.task().come_back("timeout", message="Pod took too long to be scheduled.")
    assert world.cluster.pods == {}


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", "http://127.0.0.1:5000", "pods cannot reach MLflow"),
        ("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", "http://me:secret@mlflow:5000", "MLFLOW_TRACKING_PASSWORD"),
        ("AIRFLOW_CONN_NIGHTSHIFT_ID_KEY", "generic://:0123456789abcdef@", "NIGHTSHIFT_ID_KEY"),
        ("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", "file:///elsewhere", "no volume of compute profile 'pod' holds it"),
        ("NIGHTSHIFT_IMAGE", "", "has no image"),
    ],
)
def test_what_a_pod_could_not_reach_is_said_before_there_is_one(world, monkeypatch, variable, value, text):
    monkeypatch.setenv(variable, value.replace("/elsewhere", f"{world.storage}-elsewhere"))
    with pytest.raises(AirflowFailException, match=text):
        world.task().run()
    assert world.cluster.pods == {}


def test_no_secret_is_in_what_the_cluster_is_given(world, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", "http://me:s3cr3t-word@mlflow:5000")
    with pytest.raises(TaskDeferred):
        world.task(profile="secret_sets: [mlflow]\n").run()
    assert "s3cr3t-word" not in json.dumps(world.cluster.pods)
    assert "s3cr3t-word" not in json.dumps(world.store)
