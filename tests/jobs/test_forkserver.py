"""Jobs as forks of a process that has their libraries: the same contract, and nothing of the server in them."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from patience import wait_for

from nightshift.jobs.environment import allowed
from nightshift.jobs.forkserver import server_environment
from nightshift.jobs.ingest import Spec
from nightshift.orchestration.process_group import ProcessGroup
from nightshift.settings.applications import load_application

pytestmark = pytest.mark.slow
NO_DATA = {"start": "2026-10-01T00:00:00Z", "end": "2026-10-02T00:00:00Z"}
SECRET = "key-that-no-server-needs"


def start_server(folder: Path) -> tuple[subprocess.Popen, Path]:
    """A fork server in a folder whose path is longer than the address of a socket may be."""
    socket = folder / ("long" * 30) / "forkserver.sock"
    socket.parent.mkdir()
    seen = allowed({**os.environ, "AWS_SECRET_ACCESS_KEY": SECRET, "HF_TOKEN": SECRET})
    command = [sys.executable, "-m", "nightshift", "forkserver", str(socket)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=server_environment(seen), stderr=log, start_new_session=True)
    wait_for(socket.exists, 60, "the fork server")
    return server, socket


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process, socket = start_server(tmp_path_factory.mktemp("forkserver"))
    yield process, socket
    process.kill()
    process.wait()


def start_job(folder: Path, socket: Path, spec: Path | None = None, **more: str):
    """An ingest that finds no data, or with the spec that is given, as the task of a worker starts it."""
    if spec is None:
        spec = folder / "spec.json"
        application = load_application("banking_assistant")
        spec.write_text(Spec(application=application, storage=folder.as_uri(), interval=NO_DATA).model_dump_json())
    lines: list[str] = []
    group = ProcessGroup(
        [sys.executable, "-m", "nightshift", "ingest", "--spec", str(spec), "--result", str(folder / "result.json"),
         "--end-with-parent"],
        environment={**allowed(os.environ), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", **more},
        cpus=1, memory_gb=4, on_line=lambda _stream, line: lines.append(line), forkserver=socket,
    )  # fmt: skip
    return group, lines


def endless_spec(folder: Path) -> Path:
    """A spec that is never written to its end: the job that reads it waits."""
    path = folder / "endless.json"
    os.mkfifo(path)
    return path


def parent_of(pid: int) -> int:
    return psutil.Process(pid).ppid()


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_forked_job_leaves_the_result_and_exit_code_of_one_that_was_started(server, tmp_path):
    process, socket = server
    group, lines = start_job(tmp_path, socket)
    assert parent_of(group.pid) == process.pid
    assert group.wait() == 0
    assert not [
        line for line in lines if "leaked" in line
    ]  # what libraries say when a frozen interpreter is taken apart
    assert json.loads((tmp_path / "result.json").read_text())["result"]["verdict"] == "INSUFFICIENT_DATA"
    group, lines = start_job(tmp_path, socket, spec=tmp_path / "nothing.json")
    assert group.wait() == 65
    assert "there is no such file" in lines[-1]


def test_a_forked_job_is_found_by_its_command_has_its_own_session_and_only_its_processors(server, tmp_path):
    group, _ = start_job(tmp_path, server[1], spec=endless_spec(tmp_path))
    job = psutil.Process(group.pid)
    wait_for(lambda: "ingest" in job.cmdline(), 10, "the title of the job")
    assert job.cmdline()[1:4] == ["-m", "nightshift", "ingest"]
    assert os.getsid(job.pid) == os.getpgid(job.pid) == job.pid
    assert len(job.cpu_affinity()) == 1
    group.stop(grace_seconds=1)
    assert group.wait() < 0


def test_the_server_holds_no_credentials_and_jobs_run_side_by_side(server, tmp_path):
    process, socket = server
    assert SECRET not in psutil.Process(process.pid).environ().values()
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    groups = [start_job(folder, socket)[0] for folder in folders]
    assert [group.wait() for group in groups] == [0, 0, 0]


def test_a_variable_that_counts_at_the_start_of_a_process_makes_the_job_a_process_of_its_own(server, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    group, _ = start_job(tmp_path, server[1], LD_PRELOAD_OF_SOMEBODY="library")
    assert parent_of(group.pid) == os.getpid()
    assert group.wait() == 0
    assert "its environment differs in LD_PRELOAD_OF_SOMEBODY" in caplog.text


def test_without_a_fork_server_jobs_are_started_as_ever(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    group, _ = start_job(tmp_path, tmp_path / "nobody.sock")
    assert group.wait() == 0
    assert "no fork server answers" in caplog.text


def test_a_forked_job_ends_when_whoever_asked_for_it_is_killed(server, tmp_path):
    spec = endless_spec(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from test_forkserver import start_job\n"
        "import time; group, _ = start_job(Path(sys.argv[2]), Path(sys.argv[3]), spec=Path(sys.argv[4]))\n"
        "print(group.pid, flush=True); time.sleep(60)"
    )
    paths = [str(path) for path in (Path(__file__).parent, tmp_path, server[1], spec)]
    worker = subprocess.Popen([sys.executable, "-c", code, *paths], stdout=subprocess.PIPE, text=True)
    job = int(worker.stdout.readline())
    time.sleep(0.5)
    assert not gone(job)
    worker.kill()
    worker.wait()
    wait_for(lambda: gone(job), 10, "the job to end")


def test_a_job_of_a_fork_server_that_died_is_killed_and_counts_as_killed(tmp_path):
    process, socket = start_server(tmp_path)
    group, _ = start_job(tmp_path, socket, spec=endless_spec(tmp_path))
    process.kill()
    process.wait()
    assert group.wait() == -signal.SIGKILL
    wait_for(lambda: gone(group.pid), 10, "the job to end")
