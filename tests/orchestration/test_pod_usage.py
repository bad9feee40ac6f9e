"""What pods used, where MLflow shows it: of each DAG run and each training, once, also after a kill."""

import json

import pytest
from kept_pods import keep, pod
from mlflow import MlflowClient
from retraining_tasks import context

from nightshift.orchestration import pod_usage
from nightshift.orchestration.job_task import EnvironmentDown
from nightshift.registry.rest import Mlflow
from nightshift.registry.tracking import TrackingRun


def used():
    """The task of the DAG `nightshift_usage`."""
    return pod_usage.usage.function("app", **context("scheduled__1"))


@pytest.fixture
def training(shown, storage, tmp_path):
    """Three pods of a DAG run, one of which trained; the MLflow run of the training."""
    training = TrackingRun("app", key=f"train-{tmp_path.name}", name="train")
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"result": {"run_id": training.run_id}}))
    run = {"run_id": tmp_path.name}
    first = pod("train-1", hours=1.5, **run)
    second = pod("train-2", hours=0.5, result_uri=result.as_uri(), **run)
    keep(storage, first, second, pod("close-1", "close", gpus=0, **run), application="app")
    return training


def shown_of(training):
    (run,) = MlflowClient().search_runs([training.experiment_id], f"tags.`nightshift.run_id` = '{run_id(training)}'")
    return run.data.metrics


def run_id(training):
    return MlflowClient().get_run(training.run_id).data.tags["nightshift.key"].removeprefix("train-")


@pytest.mark.slow
def test_a_dag_run_shows_what_its_pods_used_and_a_training_shows_its_own(training):
    first, second = used(), used()
    assert (first["logged"], second["logged"]) == (1, 0)
    assert second["used"] == pytest.approx({"pods": 3, "pod_hours": 4.0, "gpu_hours": 8.0, "cost": 40.0})
    metrics = shown_of(training)
    assert (metrics["train/gpu_hours"], metrics["close/cost"]) == pytest.approx((8.0, 20.0))
    assert MlflowClient().get_run(training.run_id).data.metrics["usage/cost"] == pytest.approx(20.0)


@pytest.mark.slow
def test_wherever_it_is_killed_the_next_try_shows_all_of_a_pod_that_ended_later(training, storage, monkeypatch):
    used()
    number = 0
    while True:
        number += 1
        keep(storage, pod(f"late-{number}", "close", gpus=0, run_id=run_id(training)), application="app")
        post, left = Mlflow._post, [number]

        def killed(self, path, asked, post=post, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return post(self, path, asked)

        with monkeypatch.context() as kill:
            kill.setattr(Mlflow, "_post", killed)
            try:
                used()
            except KeyboardInterrupt:
                pass
            else:
                break
        used()
        assert (shown_of(training)["pods"], used()["logged"]) == (3 + number, 0), f"killed at request {number}"
    assert number > 4


@pytest.mark.slow
@pytest.mark.usefixtures("shown")
def test_nothing_used_is_nothing_logged():
    nothing = {"pods": 0, "pod_hours": 0.0, "gpu_hours": 0.0, "cost": 0.0}
    assert used() == {"runs": 0, "logged": 0, "used": nothing}


def test_while_mlflow_is_down_it_is_tried_again(storage):
    keep(storage, pod("train-1"), application="app")
    with pytest.raises(EnvironmentDown, match="does not answer"):
        used()
