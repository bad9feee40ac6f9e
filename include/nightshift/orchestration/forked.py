"""A job that the fork server of this machine started, with as much of `subprocess.Popen` as a process group needs."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from nightshift.jobs.forkserver import LENGTH_BYTES, address

LONGEST_ANSWER = 1024  # bytes

log = logging.getLogger(__name__)


class ForkedJob:
    """A running job. It is killed when the fork server dies, since its exit code would be lost.

    :param connection: to the server, which has sent the job's process id.
    :param streams: our ends of the job's stdin, stdout and stderr.
    """

    def __init__(self, pid: int, connection: socket.socket, streams: Sequence[IO[str]]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = streams
        self._connection = connection
        self._lock = threading.RLock()

    def poll(self) -> int | None:
        """Return the exit code once the job has ended (negative: the signal that ended it), else None."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        :param timeout: in seconds.
        :raises subprocess.TimeoutExpired: the job still runs.
        """
        # A signal handler that stops the job may interrupt this wait.
        with self._lock:
            if self.returncode is None:
                if not select.select([self._connection], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired("job", timeout or 0)
                self.returncode = self._code()
        return self.returncode

    def _code(self) -> int:
        try:
            answer = self._connection.recv(LONGEST_ANSWER)
        except OSError:
            answer = b""
        if answer:
            return int(json.loads(answer)["code"])
        log.error("the fork server died and the job's exit code with it: the job is killed")
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return -signal.SIGKILL


def fork_job(
    server: Path, arguments: Sequence[str], environment: dict[str, str], processors: Sequence[int]
) -> ForkedJob | None:
    """Have the fork server start `nightshift <arguments>`; if it cannot, log why and return None.

    :param server: the path of the server's socket.
    """
    connection = socket.socket(socket.AF_UNIX)
    pairs = [os.pipe() for _ in range(3)]
    theirs = [pairs[0][0], pairs[1][1], pairs[2][1]]
    ours = [
        os.fdopen(end, mode, errors="replace")
        for end, mode in ((pairs[0][1], "w"), (pairs[1][0], "r"), (pairs[2][0], "r"))
    ]
    request = {
        "arguments": list(arguments), "environment": environment, "processors": list(processors), "folder": str(Path.cwd()),
    }  # fmt: skip
    body = json.dumps(request).encode()
    try:
        with address(server) as name:
            connection.connect(name)
        socket.send_fds(connection, [len(body).to_bytes(LENGTH_BYTES)], theirs)
        connection.sendall(body)
        answer = _next_answer(connection)
    except OSError as error:
        answer = {"refused": f"no fork server answers at {server} ({error.strerror})"}
    finally:
        for end in theirs:
            os.close(end)
    if "pid" in answer:
        return ForkedJob(answer["pid"], connection, ours)
    log.info("starting the job as a new process: %s", answer.get("refused", "the fork server died"))
    connection.close()
    for stream in ours:
        stream.close()
    return None


def _next_answer(connection: socket.socket) -> dict[str, Any]:
    """The next line of the server; empty when it is gone."""
    line = b""
    with suppress(OSError):
        while not line.endswith(b"\n") and (byte := connection.recv(1)):
            line += byte
    return dict(json.loads(line)) if line.endswith(b"\n") else {}
