"""What a task does while storage, MLflow or a model hub is down: it waits for hours, longer after each look."""

import socket
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from nightshift.errors import ExitCode
from nightshift.orchestration.job_task import EnvironmentDown, JobFailed
from nightshift.orchestration.local_job import LocalJob, _failure
from nightshift.orchestration.outage import KEY, next_look

BEFORE_THE_SAMPLE = {"interval": {"start": "2026-10-01", "end": "2026-10-02"}}
BEGAN = datetime(2026, 11, 28, 1, tzinfo=UTC)


class Store(dict):
    """Airflow's state of a task, which outlives its tries."""

    def set(self, key, value, retention=None):
        self[key] = value


def context_of(store: Store, attempt: int = 1) -> dict:
    dag = DAG("banking_assistant_ingest")
    ti = SimpleNamespace(dag_id=dag.dag_id, run_id="r", task_id="ingest", map_index=-1, try_number=attempt)
    ti.xcom_push = lambda key, value: None
    return {"ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf={}), "task_state_store": store}


def ingest(compute: str = "local") -> LocalJob:
    return LocalJob(
        task_id="ingest", application="banking_assistant", job="ingest", arguments=BEFORE_THE_SAMPLE, compute=compute
    )


@pytest.fixture
def nobody_listens(monkeypatch):
    """An object store that is down: its port is closed. Its client is forgotten before and after: other tests have a store."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for key, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", "s3://nightshift/storage")
    yield
    S3FileSystem.clear_instance_cache()


def test_a_task_whose_storage_is_down_leaves_its_worker_and_uses_no_try(nobody_listens):
    store = Store()
    with pytest.raises(TaskDeferred) as left:
        ingest().execute(context_of(store))
    assert left.value.method_name == "again"
    assert type(left.value.trigger).__name__ == "TimeDeltaTrigger"
    assert store[KEY]["looks"] == 1


def test_a_task_goes_on_when_its_storage_is_back(nobody_listens, tmp_path, monkeypatch):
    task, context = ingest(), context_of(Store())
    task.obey_verdict = False
    with pytest.raises(TaskDeferred):
        task.execute(context)
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", tmp_path.as_uri())
    assert task.again(context, {})["rows_in"] == 0


def test_an_outage_longer_than_the_profile_allows_uses_a_try(nobody_listens, sample_project):
    (sample_project / "compute" / "impatient.yaml").write_text("backend: local\noutage_hours: 0\n")
    with pytest.raises(JobFailed, match="cannot be written"):
        ingest("impatient").execute(context_of(Store()))


def test_the_pauses_double_up_to_a_quarter_of_an_hour_and_add_up_to_the_patience():
    context, pauses, now = context_of(Store()), [], BEGAN
    while pause := next_look(context, timedelta(hours=2), now):
        pauses.append(pause.total_seconds())
        now += pause
    assert pauses[:7] == [30, 60, 120, 240, 480, 900, 900]
    assert sum(pauses) == 7200


def test_another_try_waits_as_long_again():
    store = Store()
    assert next_look(context_of(store), timedelta(hours=2), BEGAN)
    later = BEGAN + timedelta(hours=3)
    assert next_look(context_of(store), timedelta(hours=2), later) is None
    assert next_look(context_of(store, attempt=2), timedelta(hours=2), later) == timedelta(seconds=30)


@pytest.mark.parametrize(
    ("code", "error"),
    [(ExitCode.BAD_ENVIRONMENT, EnvironmentDown), (ExitCode.BAD_INPUT, AirflowFailException), (1, JobFailed)],
)
def test_only_a_job_that_lacks_something_is_waited_for(code, error):
    assert type(_failure("train", code, SimpleNamespace(over_limit=False))) is error
