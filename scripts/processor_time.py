"""Runs a command and measures the processor seconds of everything it started, also of what left it behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
GRACE_SECONDS = 5
POLL_SECONDS = 0.1


@dataclass
class Measured:
    """What a command took, and which of its processes outlived it."""

    code: int = 0
    processor_seconds: float = 0.0
    wall_seconds: float = 0.0
    left_behind: list[str] = field(default_factory=list)
    interrupted: bool = False


def measure(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Measured:
    """Run `command` to its end, and end what it leaves behind.

    A server that leaves its session and loses its parent becomes a child of this process instead of init's, so that
    its time is counted when it ends. This process must have no other children: it waits for all that it has.
    """
    _adopt_orphans()
    took = Measured()
    started = time.monotonic()
    main = subprocess.Popen(list(command), cwd=folder, env=dict(environment))
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0)
        except KeyboardInterrupt:  # the command was sent the same signal, and is ending
            took.interrupted = True
            continue
        took.processor_seconds += usage.ru_utime + usage.ru_stime
        if pid == main.pid:
            main.returncode = took.code = os.waitstatus_to_exitcode(status)
            break
    _wait(took, GRACE_SECONDS)
    left = psutil.Process().children(recursive=True)
    took.left_behind = [_describe(process) for process in left]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                process.send_signal(number)
        _wait(took, GRACE_SECONDS)
    took.wall_seconds = time.monotonic() - started
    return took


def _adopt_orphans() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this process cannot become the parent of orphans")


def _wait(took: Measured, seconds: float) -> None:
    """Count every process that ends in the next `seconds`; return at once when there is none."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid:
            took.processor_seconds += usage.ru_utime + usage.ru_stime
        else:
            time.sleep(POLL_SECONDS)


def _describe(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return f"{process.pid} {' '.join(process.cmdline()) or process.name()}"
    return str(process.pid)
