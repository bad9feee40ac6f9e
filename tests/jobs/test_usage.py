"""The accounts of pods: hours, GPU-hours and cost, each pod once, where MLflow shows them."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from mlflow import MlflowClient
from upath import UPath

from nightshift.jobs.usage import PodUsage, Spec, run, total, usage_address
from nightshift.registry.tracking import TrackingRun
from nightshift.settings.applications import load_application

NOW = datetime.now(UTC)


def pod(name: str, job: str = "train", *, hours: float = 2.0, ended=NOW, **more) -> PodUsage:
    return PodUsage(
        pod=name, uid=f"{name}-0123456789", job=job, dag_id="banking_assistant_finetune", task_id=job,
        started=ended - timedelta(hours=hours), ended=ended,
        **{"run_id": "r1", "gpus": 4, "price_per_hour": 10.0, **more},
    )  # fmt: skip


@pytest.fixture
def accounts(tmp_path):
    storage, app = UPath(tmp_path.as_uri()), load_application("banking_assistant")

    def write(*pods: PodUsage) -> Spec:
        for one in pods:
            address = usage_address(storage, app.name, one)
            address.parent.mkdir(parents=True, exist_ok=True)
            address.write_bytes(one.model_dump_json().encode())
        return Spec(application=app, storage=str(storage))

    return write


@pytest.mark.slow
def test_a_dag_run_shows_what_its_pods_used_and_a_training_shows_its_own(accounts, mlflow_server, progress, tmp_path):
    training = TrackingRun("banking_assistant", key="train-x", name="train")
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"result": {"run_id": training.run_id}}))
    spec = accounts(
        pod("train-1", hours=1.5), pod("train-2", hours=0.5, result_uri=result.as_uri()), pod("close-1", "close", gpus=0)
    )  # fmt: skip
    first, second = run(spec, progress), run(spec, progress)
    assert (first.logged, second.logged) == (1, 0)
    used = second.used
    assert used.model_dump() == pytest.approx({"pods": 3, "pod_hours": 4.0, "gpu_hours": 8.0, "cost": 40.0})
    client = MlflowClient()
    (shown,) = client.search_runs([training.experiment_id], "tags.`nightshift.job` = 'usage'")
    assert shown.data.metrics["train/gpu_hours"] == pytest.approx(8.0)
    assert shown.data.metrics["close/cost"] == pytest.approx(20.0)
    assert client.get_run(training.run_id).data.metrics["usage/cost"] == pytest.approx(20.0)


def test_nothing_used_is_nothing_logged(accounts, progress):
    assert run(accounts(), progress).model_dump() == {
        "runs": 0,
        "logged": 0,
        "used": {"pods": 0, "pod_hours": 0.0, "gpu_hours": 0.0, "cost": 0.0},
    }


def test_a_run_over_many_days_is_never_shown_by_its_last_days_alone(accounts, monkeypatch, progress):
    shown = []
    monkeypatch.setattr("nightshift.jobs.usage._log", lambda _, pods: shown.append(total(pods).pods) or True)
    old, older = NOW - timedelta(days=9), NOW - timedelta(days=10)
    another = pod("another", ended=older, run_id="r0")
    run(accounts(pod("first", ended=older), pod("second", ended=old), pod("third"), another), progress)
    assert shown == [3]


def test_a_pod_that_is_written_down_twice_is_one_account(accounts, tmp_path):
    spec = accounts(pod("train-1"), pod("train-1"))
    assert len(list(UPath(spec.storage).glob("*/usage/*/*.json"))) == 1
