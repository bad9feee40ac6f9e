"""Jobs as forks of a process that has their libraries, as the local stack starts them: imports would take most of a test."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from patience import wait_for

from nightshift.jobs.environment import FOR_MODELS
from nightshift.orchestration.forked import ForkedJob, fork_job

SERVER = """
import atexit, gc, os, sys, traceback
import torch, transformers.trainer, transformers.models.llama.modeling_llama, deepspeed, peft, mlflow.tracking, threadpoolctl
import duckdb, pandas, pyarrow.dataset, pyarrow.parquet
from pathlib import Path
from nightshift.jobs import forkserver

gc.collect()
gc.freeze()
forkserver.LIBRARIES = ()
forkserver.ForkServer._why_not = lambda *_: ""  # each test has a home of its own, which no library asked for yet
program, log, *arguments = forkserver.ForkServer(Path(sys.argv[1])).run()
os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), 2)
sys.argv = ["nightshift", *arguments]
code = 1
try:
    exec(program, {"__name__": "__main__"})
except SystemExit as end:
    code = end.code
except BaseException:
    traceback.print_exc()
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)
"""


class Job:
    """A job that was forked, with as much of `subprocess.Popen` as tests need."""

    def __init__(self, job: ForkedJob) -> None:
        self.stdout, self.poll, self._job = job.stdout, job.poll, job

    @property
    def returncode(self) -> int | None:
        return self._job.returncode

    def wait(self) -> int:
        self.communicate()
        return self._job.returncode

    def communicate(self) -> None:
        self.stdout.read()
        self._job.wait()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self._job.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forks:
    """Where the process listens, while it runs."""

    socket: Path | None = None


@contextmanager
def serving(folder: Path):
    """Let the jobs of a `with` be forks of one process, whose files lie in `folder`."""
    socket = folder / "forks.sock"
    environment = {**os.environ, **FOR_MODELS, "OMP_NUM_THREADS": "1", "PATH": "/nowhere"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-c", SERVER, socket], env=environment, stderr=log, stdout=log)
    try:
        wait_for(lambda: socket.exists() or server.poll() is not None, 300, "the libraries")
        assert server.poll() is None, (folder / "log").read_text()
        Forks.socket = socket
        yield
    finally:
        Forks.socket = None
        server.kill()
        server.wait()


def start_job(
    program: str, arguments: list[str], environment: dict[str, str], log: Path, *, anew: bool = False
) -> Job | subprocess.Popen:
    """Start a Python program with the arguments of `nightshift`; its stderr is appended to `log`.

    It is a fork while there is a server, and otherwise, or with `anew`, a process that imports everything itself.
    """
    log.touch()
    if anew or Forks.socket is None:
        command = [sys.executable, "-c", program, *arguments]
        with log.open("a") as stderr:
            return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)
    request = [program, str(log), *arguments], environment, sorted(os.sched_getaffinity(0))
    # The socket is there a moment before it listens.
    return Job(wait_for(lambda: fork_job(Forks.socket, *request), 30, "the fork of a job"))
