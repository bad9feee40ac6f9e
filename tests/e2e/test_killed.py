"""kill -9 of the job, of the task's worker, and of the scheduler: the retry ends with the same partitions."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from patience import wait_for
from upath import UPath

from nightshift.ledger.store import Ledger
from nightshift.stack.place import this_place
from nightshift.storage.manifest import require_manifest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
DAY = "2026-11-02"


@pytest.fixture(scope="module")
def running_job(job_process):
    """A function that finds the process of a job of the tiny application."""
    return lambda job: job_process(job, "/tiny/results/")


def kill_worker_of(job: psutil.Process, task: psutil.Process) -> None:
    """Kill the task of a job and its supervisor; the job itself must notice."""
    supervisor = task.parent()
    for process in (supervisor, task):
        process.kill()
    wait_for(lambda: not job.is_running() or job.status() == psutil.STATUS_ZOMBIE, 10, "the orphaned job to end itself")


def kill_scheduler(environment: dict[str, str]) -> None:
    record = json.loads((this_place(environment).processes / "scheduler.json").read_text())
    os.kill(record["pid"], signal.SIGKILL)


def state_of(api, dag: str, run: str) -> str:
    return next(row["state"] for row in api.runs(dag) if row["dag_run_id"] == run)


def finish(api, dag: str, run: str) -> list[dict]:
    wait_for(lambda: state_of(api, dag, run) in {"success", "failed"}, 900, f"{dag} {run}", every=0.5)
    tasks = api.tasks(dag, run)
    assert {task["state"] for task in tasks} == {"success"}, tasks
    return tasks


def retry(api, dag: str, run: str, time_passes) -> None:
    """See that a task which was killed waits for its next try, and let that time be over."""
    wait_for(
        lambda: "up_for_retry" in {task["state"] for task in api.tasks(dag, run)}, 180, f"{run} to wait", every=0.5
    )
    time_passes(run)


def start(api, dag: str, run: str, conf: dict) -> None:
    wait_for(lambda: api.has_dag(dag), 120, dag, every=0.5)
    api.unpause(dag)
    api.trigger(dag, run, conf)


def undisturbed(task: str, run: str, folder: Path, environment: dict[str, str]) -> dict:
    """Run the job of a task again in a shell, from its own spec but with the storage in `folder`; return its result."""
    storage = UPath(this_place(environment).storage)
    (spec_file,) = storage.glob(f"tiny/results/*/{run}/{task}/try-1/spec.json")
    spec, result = folder / "spec.json", folder / "result.json"
    spec.write_text(json.dumps(json.loads(spec_file.read_text()) | {"storage": folder.as_uri()}))
    subprocess.run(
        [sys.executable, "-m", "nightshift", task, "--spec", str(spec), "--result", str(result)],
        env={**environment, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "OMP_NUM_THREADS": "2"},
        check=True,
        capture_output=True,
    )
    return json.loads(result.read_text())["result"]


@pytest.fixture(scope="module")
def ingested(running_stack, time_passes, running_job):
    """The first day of the tiny application, ingested although its job was killed."""
    from nightshift.stack.airflow_api import AirflowApi

    with AirflowApi(this_place(running_stack)) as api:
        start(api, "tiny_ingest", "killed", {"day": DAY})
        scratch = UPath(this_place(running_stack).storage) / ".scratch"
        wait_for(lambda: list(scratch.glob("*")), 120, "the ingest job to work on its rows")
        os.killpg(running_job("ingest").pid, signal.SIGKILL)
        retry(api, "tiny_ingest", "killed", time_passes)
        tasks = finish(api, "tiny_ingest", "killed")
        assert next(task for task in tasks if task["task_id"] == "ingest")["try_number"] == 2
    return "killed"


def test_an_ingest_whose_job_was_killed_gives_the_partition_of_an_undisturbed_one(ingested, api, stack, tmp_path):
    result = api.result("tiny_ingest", ingested, "ingest")
    assert result["digest"] == undisturbed("ingest", ingested, tmp_path, stack)["digest"]
    partition = UPath(result["examples"])
    listed = {partition / file.path for file in require_manifest(partition).files}
    assert all(path.exists() for path in listed)


@pytest.mark.nightly
def test_a_training_whose_worker_was_killed_goes_on_and_gives_the_same_weights(  # noqa: PLR0917
    ingested, api, stack, tmp_path, time_passes, task_process, running_job
):
    start(api, "tiny_finetune", "worker-killed", {})
    job = wait_for(lambda: running_job("train"), 180, "the train job")
    storage = UPath(this_place(stack).storage)
    wait_for(lambda: list(storage.glob("tiny/checkpoints/*/step-*/manifest.json")), 120, "a checkpoint")
    kill_worker_of(job, task_process(api, "tiny_finetune", "worker-killed", "train"))
    time_passes("worker-killed")  # without a sign of life of the worker
    retry(api, "tiny_finetune", "worker-killed", time_passes)
    tasks = finish(api, "tiny_finetune", "worker-killed")
    assert next(task for task in tasks if task["task_id"] == "train")["try_number"] == 2
    trained = api.result("tiny_finetune", "worker-killed", "train")
    assert trained["digest"] == undisturbed("train", "worker-killed", tmp_path, stack)["digest"]


@pytest.mark.nightly
def test_a_killed_scheduler_is_started_again_and_its_runs_end(ingested, api, stack, nightshift, running_job):
    start(api, "tiny_finetune", "scheduler-killed", {"seed": 18})
    wait_for(lambda: running_job("train"), 180, "the train job")
    kill_scheduler(stack)
    assert nightshift("up", stack).returncode == 0
    finish(api, "tiny_finetune", "scheduler-killed")
    versions = api.result("tiny_finetune", "scheduler-killed", "register")
    assert "candidate" in versions["aliases"]


def test_an_ingest_whose_scheduler_was_killed_gives_the_partition_of_an_undisturbed_one(  # noqa: PLR0917
    ingested, api, stack, nightshift, tmp_path, running_job
):
    start(api, "tiny_ingest", "scheduler-killed", {"day": "2026-11-03"})
    wait_for(lambda: running_job("ingest"), 180, "the ingest job")
    kill_scheduler(stack)
    assert nightshift("up", stack).returncode == 0
    finish(api, "tiny_ingest", "scheduler-killed")
    result = api.result("tiny_ingest", "scheduler-killed", "ingest")
    undisturbed("ingest", ingested, tmp_path, stack)  # the day before, whose questions have their sides
    assert result["digest"] == undisturbed("ingest", "scheduler-killed", tmp_path, stack)["digest"]


@pytest.mark.nightly
def test_a_validation_whose_worker_was_killed_gives_the_same_verdict(  # noqa: PLR0917
    ingested, api, stack, tmp_path, task_process, running_job
):
    start(api, "tiny_ingest", "validation-killed", {"day": "2026-11-04"})
    job = wait_for(lambda: running_job("validate"), 180, "the validate job")
    kill_worker_of(job, task_process(api, "tiny_ingest", "validation-killed", "validate"))
    tasks = finish(api, "tiny_ingest", "validation-killed")
    assert next(task for task in tasks if task["task_id"] == "validate")["try_number"] == 2
    result = api.result("tiny_ingest", "validation-killed", "validate")
    whole = undisturbed("validate", "validation-killed", tmp_path, stack)
    assert [result[name] for name in ("verdict", "reasons", "measures")] == [
        whole[name] for name in ("verdict", "reasons", "measures")
    ]


def test_a_training_that_a_person_marks_as_failed_ends_so_and_its_order_is_cancelled(ingested, api, stack, running_job):
    api.unpause("tiny_finetune")
    start(api, "tiny_retraining", "forced", {"action": "force", "reason": "the new tariff is out"})
    ledger = Ledger(UPath(this_place(stack).storage).as_uri(), "tiny")
    claim = wait_for(lambda: ledger.claim(1), 180, "finetune to take up the order", every=0.5)
    job = wait_for(lambda: running_job("train"), 180, "the train job")
    api._call("PATCH", f"/api/v2/dags/tiny_finetune/dagRuns/{quote(claim.run_id, safe='')}", json={"state": "failed"})
    outcome = wait_for(lambda: ledger.outcome(1), 120, "the end of the order", every=0.5)
    assert (outcome.result, outcome.run_id) == ("cancelled", claim.run_id)
    wait_for(lambda: not job.is_running() or job.status() == psutil.STATUS_ZOMBIE, 60, "the job to end")
    wait_for(lambda: state_of(api, "tiny_finetune", claim.run_id) == "failed", 60, "the end of its run", every=0.5)
