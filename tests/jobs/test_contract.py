"""The job contract, as whoever starts a job sees it: a process, its exit code, its lines and its result."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nightshift.errors import ExitCode, JobError
from nightshift.jobs.contract import read_result
from nightshift.jobs.ingest import Spec
from nightshift.settings.applications import load_application

# A day before the sample begins: the job has an honest answer at once.
NO_DATA = {"start": "2026-10-01T00:00:00Z", "end": "2026-10-02T00:00:00Z"}


def spec_file(folder: Path, **changes) -> Path:
    spec = Spec(application=load_application("banking_assistant"), storage=folder.as_uri(), interval=NO_DATA)
    path = folder / "spec.json"
    path.write_text(json.dumps(spec.model_dump(mode="json") | changes))
    return path


def run_job(spec: Path, result: Path | str, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "nightshift", "ingest", "--spec", str(spec), "--result", str(result)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{spec.parent}/mlflow.db"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **kwargs)


def test_a_job_leaves_a_result_that_answers_its_spec_and_no_other(tmp_path):
    spec, result = spec_file(tmp_path), tmp_path / "result.json"
    run = run_job(spec, result)
    assert run.returncode == 0, run.stderr
    asked = Spec.model_validate_json(spec.read_text())
    assert read_result("ingest", asked, str(result)).result["verdict"] == "INSUFFICIENT_DATA"
    other = asked.model_copy(update={"storage": "memory://elsewhere"})
    with pytest.raises(JobError, match="answers another spec"):
        read_result("ingest", other, str(result))
    with pytest.raises(JobError, match="answers another spec"):
        read_result("validate", asked, str(result))


def test_success_without_a_result_is_a_failure(tmp_path):
    asked = Spec.model_validate_json(spec_file(tmp_path).read_text())
    with pytest.raises(JobError, match="ended without a result"):
        read_result("ingest", asked, str(tmp_path / "never-written.json"))
    (tmp_path / "half.json").write_text('{"job": "ing')
    with pytest.raises(JobError, match="ended without a result"):
        read_result("ingest", asked, str(tmp_path / "half.json"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"interval": {"start": "2026-10-02", "end": "2026-10-01"}}, "before it starts"),
        ({"interval": {"start": "soon", "end": "later"}}, "interval.start"),
        ({"storage": None}, "storage"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_spec_is_bad_input_and_says_what_is_wrong(tmp_path, changes, expected):
    run = run_job(spec_file(tmp_path, **changes), tmp_path / "result.json")
    assert run.returncode == 65
    assert expected in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "result.json").exists()


def test_a_missing_spec_is_bad_input(tmp_path):
    run = run_job(tmp_path / "nothing.json", tmp_path / "result.json")
    assert run.returncode == 65
    assert "there is no such file" in run.stderr


def test_stdout_is_json_lines_and_stderr_is_for_people(tmp_path):
    run = run_job(spec_file(tmp_path), tmp_path / "result.json")
    assert all(json.loads(line)["job"] == "ingest" for line in run.stdout.splitlines())
    assert all(line.startswith(("INFO ", "WARNING ")) for line in run.stderr.splitlines())


def test_a_job_that_is_asked_to_stop_says_that_it_was_preempted(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a source that never delivers keeps the job waiting
        spec = json.loads(spec_file(tmp_path).read_text())
        spec["application"]["sources"][0]["uri"] = f"http://127.0.0.1:{silent.getsockname()[1]}/rows.jsonl"
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        command = ["ingest", "--spec", str(tmp_path / "spec.json"), "--result", str(tmp_path / "result.json")]
        job = subprocess.Popen([sys.executable, "-m", "nightshift", *command], stderr=subprocess.PIPE, text=True)
        silent.accept()
        job.send_signal(signal.SIGTERM)
        _, stderr = job.communicate(timeout=20)
    assert job.returncode == 75, stderr
    assert "stopped by SIGTERM" in stderr


@pytest.fixture
def read_only(tmp_path):
    """A folder in which nobody can write; only a file system that is mounted so stops root."""
    folder = tmp_path / "read_only"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("root may write everywhere here, and may not mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_storage_that_cannot_be_written_is_named_and_a_retry_may_help(tmp_path, read_only):
    run = run_job(spec_file(tmp_path, storage=read_only.as_uri()), tmp_path / "result.json")
    assert run.returncode == ExitCode.BAD_ENVIRONMENT
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("ERROR")]
    assert str(read_only) in line
    assert "Read-only file system" in line or "Permission denied" in line
    assert "Traceback" not in run.stderr


def test_an_object_store_that_is_down_is_no_fault_of_the_job(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    down = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_MAX_ATTEMPTS": "1", "AWS_DEFAULT_REGION": "us-east-1"}
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with pytest.MonkeyPatch.context() as environment:
        for key, value in {**down, **keys}.items():
            environment.setenv(key, value)
        run = run_job(spec_file(tmp_path), "s3://nightshift/storage/result.json")
    assert run.returncode == ExitCode.BAD_ENVIRONMENT, run.stderr
    assert f"127.0.0.1:{port}" in run.stderr.splitlines()[-1]
