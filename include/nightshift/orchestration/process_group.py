"""Runs a command as a process group of its own: streams its output, enforces its limits and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from nightshift.jobs.progress import tree_memory
from nightshift.orchestration.forked import ForkedJob, fork_job

POLL_SECONDS = 0.2
MEMORY_SECONDS = 1.0
LONGEST_LINE = 20_000  # characters; a longer line is passed on in pieces

Line = Callable[[str, str], None]


class ProcessGroup:
    """Runs one command to its end.

    :param command: the program and its arguments.
    :param environment: all variables that the command sees.
    :param cpus: processors that the group may use, out of those of this process.
    :param memory_gb: memory of the group (GB, shared pages counted once); above it the group is killed.
    :param on_line: called with `"stdout"` or `"stderr"` and each line.
    :param forkserver: path of the socket of a fork server, which starts a command `python -m nightshift …` if it can.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: dict[str, str],
        cpus: int,
        memory_gb: float,
        on_line: Line,
        forkserver: Path | None = None,
    ) -> None:
        self.memory_gb = memory_gb
        self.peak_gb = 0.0
        self.over_limit = False
        mine = sorted(os.sched_getaffinity(0))
        first = os.getpid() % len(mine)
        processors = [mine[(first + i) % len(mine)] for i in range(min(cpus, len(mine)))]
        forked = fork_job(forkserver, command[3:], environment, processors) if forkserver else None
        # The group's leader reads stdin: when this process dies, even by SIGKILL, the pipe closes and the leader exits.
        self._process: ForkedJob | subprocess.Popen[str] = forked or subprocess.Popen(
            list(command),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        if not forked:
            with suppress(ProcessLookupError):
                os.sched_setaffinity(self._process.pid, processors)
        self._readers = [
            threading.Thread(target=_pass_on, args=(name, stream, on_line), daemon=True)
            for name, stream in (("stdout", self._process.stdout), ("stderr", self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """The process id of the leader, which is the id of the group."""
        return self._process.pid

    def wait(self) -> int:
        """Wait for the end and return the exit code (negative: the signal that ended the leader)."""
        next_look = 0.0
        while (code := self._process.poll()) is None:
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + MEMORY_SECONDS
                self._look_at_memory()
            time.sleep(POLL_SECONDS)
        self._signal(signal.SIGKILL)
        for reader in self._readers:
            reader.join(timeout=10)
        return code

    def stop(self, grace_seconds: float = 30) -> None:
        """Ask the group to end, and kill the processes that are left after `grace_seconds`."""
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_seconds)
        self._signal(signal.SIGKILL)

    def _look_at_memory(self) -> None:
        try:
            used = tree_memory(psutil.Process(self.pid)) / 1e9
        except psutil.Error:
            return
        self.peak_gb = max(self.peak_gb, used)
        if used > self.memory_gb:
            self.over_limit = True
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _pass_on(name: str, stream: IO[str], on_line: Line) -> None:
    while line := stream.readline(LONGEST_LINE):
        on_line(name, line.rstrip("\n"))
