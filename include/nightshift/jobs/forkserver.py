"""A process that has imported the libraries of the jobs and starts each job as a fork of itself.

A small job otherwise spends most of its time importing. The server holds no credentials: each job brings its own
environment. Of this package it imports only the command line, so that each job imports its own code anew.

One request a connection, over a Unix socket that only this user can open: the arguments of `nightshift`, the whole
environment and the processors as JSON, with stdin, stdout and stderr as file descriptors. The answers are JSON lines:
`{"pid": …}`, later `{"code": …}` (negative: the signal that ended the job), or `{"refused": why}`.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import selectors
import socket
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from setproctitle import setproctitle

from nightshift.jobs.environment import FOR_MODELS, read_at_start

VARIABLE = "NIGHTSHIFT_FORKSERVER"  # the path of the socket, in the environment of Airflow's workers
# In the order in which jobs need them after a start.
LIBRARIES = (
    "pandas", "pyarrow.parquet", "pyarrow.dataset", "duckdb", "great_expectations", "mlflow.tracking", "torch",
    "transformers.trainer", "transformers.models.llama.modeling_llama", "deepspeed", "scipy.stats", "sklearn.cluster",
    "threadpoolctl", "nltk", "evidently",
)  # fmt: skip
# Libraries that call home are told not to before they are imported; jobs are told the same.
SILENT = {
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
REQUEST_SECONDS = 5.0
LENGTH_BYTES = 8
STREAMS = 3

log = logging.getLogger(__name__)


def server_environment(environment: dict[str, str]) -> dict[str, str]:
    """Return what the server is started with, out of what jobs may see: no credentials, and what counts at a start."""
    return {**read_at_start(environment), **FOR_MODELS, **SILENT}


class ForkServer:
    """Imports the libraries while nobody asks for a job, and forks when somebody does.

    :param path: where the socket is made; one that is there is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._left = list(LIBRARIES)
        self._environment = dict(os.environ)
        self._selector = selectors.DefaultSelector()
        self._listener = _listen(path)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._installed = _newest_code()

    def run(self) -> list[str]:
        """Serve until the process is ended. Returns in a fork alone: the arguments of the job that it is."""
        gc.disable()
        while True:
            events = self._selector.select(timeout=0 if self._left else None)
            if not events:
                self._import_next()
            for key, _ in events:
                if key.data is not None:
                    self._reap(key.fd, *key.data)
                elif (arguments := self._answer()) is not None:
                    return arguments

    def _import_next(self) -> None:
        name = self._left.pop(0)
        try:
            importlib.import_module(name)
        except Exception:  # a job that needs it will say what is wrong
            log.warning("%s cannot be imported", name, exc_info=True)
        if not self._left:
            gc.collect()
            gc.freeze()  # pages that no collection touches stay shared with the jobs
            log.info("ready: jobs start with %d modules imported", len(sys.modules))

    def _answer(self) -> list[str] | None:
        """Fork for the next request; return the arguments of the job in the fork, and nothing in the server."""
        connection, _ = self._listener.accept()
        try:
            connection.settimeout(REQUEST_SECONDS)
            request, streams = _received(connection)
        except (OSError, ValueError):
            connection.close()
            return None
        try:
            if refused := self._why_not(request["environment"]):
                _tell(connection, refused=refused)
                connection.close()
                return None
            sys.stderr.flush()
            pid = os.fork()
            if pid == 0:
                self._let_go()
                connection.close()
                _become(request, streams)
                return list(request["arguments"])
        finally:
            for stream in streams:
                os.close(stream)
        self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, connection))
        _tell(connection, pid=pid)
        return None

    def _let_go(self) -> None:
        """Close, in a fork, what is the server's: whoever waits for another job must notice when the server dies."""
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                os.close(key.fd)
                key.data[1].close()
        self._selector.close()
        self._listener.close()

    def _why_not(self, environment: Mapping[str, str]) -> str:
        """Why a job may not be a fork of this process, in words; empty where it may."""
        wanted, mine = ({**read_at_start(each), **FOR_MODELS, **SILENT} for each in (environment, self._environment))
        if unlike := sorted(key for key in wanted.keys() | mine.keys() if wanted.get(key) != mine.get(key)):
            return f"its environment differs in {', '.join(unlike)}"
        if self._installed != _newest_code():
            return "packages or code changed since the fork server started; `make down`, then `make up` starts it anew"
        return ""

    def _reap(self, watched: int, pid: int, connection: socket.socket) -> None:
        self._selector.unregister(watched)
        os.close(watched)
        _, status = os.waitpid(pid, 0)
        _tell(connection, code=os.waitstatus_to_exitcode(status))
        connection.close()


@contextmanager
def address(path: Path) -> Iterator[str]:
    """Give a short name of a socket: a path may be longer than the 107 bytes that an address takes."""
    folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    with address(path) as name:
        listener.bind(name)
    path.chmod(0o600)
    listener.listen(64)
    return listener


def _received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    head, streams, _, _ = socket.recv_fds(connection, LENGTH_BYTES, STREAMS)
    with connection.makefile("rb") as rest:
        body = rest.read(int.from_bytes(head))
    if len(streams) != STREAMS:
        raise ValueError(f"{len(streams)} descriptors came, not {STREAMS}")
    return dict(json.loads(body)), streams


def _tell(connection: socket.socket, **answer: Any) -> None:
    with suppress(OSError):  # whoever asked for the job is gone
        connection.sendall(json.dumps(answer).encode() + b"\n")


def _become(request: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Turn this fork into what a process would be that was started for the job."""
    os.setsid()
    # Before the environment is replaced, beside which the title is written.
    setproctitle(" ".join([sys.executable, "-m", "nightshift", *request["arguments"]]))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(request["folder"])
    os.sched_setaffinity(0, request["processors"])
    os.environ.clear()
    os.environ.update({**request["environment"], **FOR_MODELS, **SILENT})
    _use_threads(int(request["environment"].get("OMP_NUM_THREADS") or len(request["processors"])))
    gc.enable()


def _use_threads(count: int) -> None:
    """Give the libraries as many threads as OMP_NUM_THREADS would, had it been there when they were imported."""
    if "threadpoolctl" in sys.modules:
        sys.modules["threadpoolctl"].threadpool_limits(count)


def _newest_code() -> float:
    """When what this process was made of changed last: the installed packages, and the modules of this one (s)."""
    own = [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "nightshift"]
    return max(Path(path).stat().st_mtime for path in [sysconfig.get_path("purelib"), *filter(None, own)])
