"""The embedded back end: verdicts, exit codes and results, as a task of Airflow meets them."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from upath import UPath

from nightshift.errors import ExitCode
from nightshift.jobs.contract import JobSpec, ResultFile, spec_digest
from nightshift.jobs.progress import as_text
from nightshift.orchestration.attempt import Attempt
from nightshift.orchestration.job_task import WORK, EnvironmentDown, JobFailed
from nightshift.orchestration.local_job import LocalJob, _failure
from nightshift.settings.applications import load_application
from nightshift.storage.files import replace

BEFORE_THE_SAMPLE = {"start": "2026-10-01T00:00:00Z", "end": "2026-10-02T00:00:00Z"}


@pytest.fixture
def run_task(tmp_path, monkeypatch):
    """Run the ingest task as the worker does, in the storage `tmp_path`."""
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", tmp_path.as_uri())

    def run(interval: dict) -> dict:
        pushed: dict = {}
        dag = DAG("banking_assistant_ingest")
        task = LocalJob(
            task_id="ingest", dag=dag, application="banking_assistant", job="ingest", arguments={"interval": interval}
        )
        ti = SimpleNamespace(
            dag_id=dag.dag_id, run_id="r", task_id="ingest", map_index=-1, try_number=1, xcom_push=pushed.__setitem__
        )
        run.pushed = pushed
        return task.execute({"ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf={})})

    return run


def test_no_data_skips_what_follows_and_still_shows_its_result(run_task):
    with pytest.raises(AirflowSkipException, match="ingest: INSUFFICIENT_DATA: "):
        run_task(BEFORE_THE_SAMPLE)
    assert run_task.pushed["return_value"]["rows_in"] == 0


def test_a_job_that_gives_no_verdict_is_not_logged_as_passed_and_what_it_took_is_kept_for_metrics(tmp_path, capsys):
    app = load_application("banking_assistant")
    task = LocalJob(task_id="t", application=app.name, job="evaluate", arguments={})
    spec = JobSpec(application=app, storage=tmp_path.as_uri())
    attempt = Attempt("evaluate", spec, UPath(tmp_path.as_uri()))
    now = datetime.now(UTC)
    result = {"examples": 300, "tokens_per_second": 41.5}
    file = ResultFile(
        job="evaluate", spec_digest=spec_digest(spec), started=now, ended=now + timedelta(seconds=90), peak_memory_gb=1,
        code_version="x", result=result,
    )  # fmt: skip
    replace(UPath(attempt.result_uri), file.model_dump_json().encode())
    pushed: dict = {}
    ti = SimpleNamespace(dag_id="banking_assistant_finetune", run_id="r", xcom_push=pushed.__setitem__)
    assert task.answer(spec, attempt.result_uri, {"ti": ti}) == result
    assert "PASS" not in capsys.readouterr().out
    assert pushed == {WORK: {"job": "evaluate", "seconds": 90.0, "peak_memory_gb": 1.0, "tokens_per_second": 41.5}}


def test_bad_input_fails_for_good(run_task):
    with pytest.raises(AirflowFailException, match="before it starts"):
        run_task({"start": "2026-10-02", "end": "2026-10-01"})


def test_an_attempt_leaves_its_spec_and_result_where_a_shell_can_use_them(run_task, tmp_path):
    with pytest.raises(AirflowSkipException):
        run_task(BEFORE_THE_SAMPLE)
    attempt = tmp_path / "banking_assistant/results/banking_assistant_ingest/r/ingest/try-1"
    assert json.loads((attempt / "spec.json").read_text())["interval"]["start"] == "2026-10-01T00:00:00Z"
    assert json.loads((attempt / "result.json").read_text())["result"]["verdict"] == "INSUFFICIENT_DATA"


def test_a_job_over_its_memory_is_told_how_much_it_used_and_what_to_do():
    failure = _failure("train", -9, SimpleNamespace(over_limit=True, peak_gb=6.41, memory_gb=6))
    assert type(failure) is JobFailed
    assert "it used 6.41 GB, its compute profile allows 6 GB; raise memory_gb" in str(failure)


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        (ExitCode.BAD_INPUT, AirflowFailException, "a retry cannot help"),
        (ExitCode.BAD_ENVIRONMENT, EnvironmentDown, "missing or down"),
        (ExitCode.PREEMPTED, JobFailed, "asked to stop"),
        (1, JobFailed, "it failed"),
        (42, JobFailed, "exit code 42"),
        (-9, JobFailed, "SIGKILL"),
    ],
)
def test_every_exit_code_has_a_meaning(code, error, text):
    failure = _failure("train", code, SimpleNamespace(over_limit=False))
    assert type(failure) is error
    assert text in str(failure)


def test_progress_reads_like_a_sentence():
    event = {
        "time": 1.0, "event": "progress", "job": "train", "seconds": 96.0, "memory_gb": 3.9,
        "step": 40, "total": 117, "unit": "steps", "loss": 0.8200312, "tokens_per_second": 402,
    }  # fmt: skip
    assert as_text(event) == "train: 40 of 117 steps · loss 0.82 · tokens per second 402 · 96.0 s · 3.9 GB"


def test_the_jobs_own_log_lines_keep_their_level(capsys):
    task = LocalJob(task_id="t", application="banking_assistant", job="ingest", arguments={})
    task._log_line("stderr", "WARNING 3 rows have no answer")
    task._log_line("stderr", "Traceback (most recent call last):")
    warning, other = capsys.readouterr().out.splitlines()
    assert "warning" in warning
    assert "] 3 rows have no answer" in warning
    assert "info" in other
