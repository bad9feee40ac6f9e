"""The processes of the stack: each in a session of its own with a log file, found again and stopped as a whole."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

GRACE_SECONDS = 20
CLOCK_TICK_SECONDS = 0.05
LOG_BYTES = 50_000_000
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Component:
    """One long-running process and its record on disk: `<folder>/<name>.json`."""

    name: str
    records: Path
    logs: Path

    @property
    def log(self) -> Path:
        return self.logs / f"{self.name}.log"

    @property
    def record(self) -> Path:
        return self.records / f"{self.name}.json"

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, started_from: str = ""
    ) -> None:
        """Start `command` in `folder`, in a session of its own; it outlives this process.

        :param started_from: digest of what it loads.
        """
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                list(command),
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        leader = psutil.Process(process.pid)
        record = {"pid": process.pid, "started": leader.create_time(), "boot": _boot(), "command": list(command)}
        record["from"] = started_from
        temporary = self.record.with_suffix(".new")
        temporary.write_text(json.dumps(record, indent=1))
        temporary.replace(self.record)

    @property
    def started_from(self) -> str:
        """The digest that it was started with; empty where none is known."""
        return str(self._record().get("from", ""))

    def leader(self) -> psutil.Process | None:
        """The process that was started, if it still runs. A stranger that got its number since is not it."""
        if (known := self._recorded()) is None:
            return None
        pid, started = known
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if abs(process.create_time() - started) < CLOCK_TICK_SECONDS and runs(process):
                return process
        return None

    def members(self) -> list[psutil.Process]:
        """Every process of the component's session and their descendants, also when the leader itself is dead."""
        if (known := self._recorded()) is None:
            return []
        pid, started = known
        if psutil.pid_exists(pid) and (leader := _process(pid)) and leader.create_time() > started + CLOCK_TICK_SECONDS:
            return []  # the number was given away, so nothing of the session is left
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError, PermissionError):
                if os.getsid(process.pid) == pid and process.create_time() >= started - CLOCK_TICK_SECONDS:
                    found[process.pid] = process
                    found.update({child.pid: child for child in process.children(recursive=True)})
        return [process for process in found.values() if runs(process)]

    def rotate_log(self, most: int = LOG_BYTES) -> None:
        """Begin the log anew where it is longer than that; what it held is `<name>.log.1`, until the next time.

        Whoever writes it appends and goes on, so its file stays; a line that comes while it is copied may be lost.
        """
        with suppress(OSError):
            if self.log.stat().st_size > most:
                shutil.copy(self.log, self.log.with_name(f"{self.log.name}.1"))
                os.truncate(self.log, 0)

    def last_lines(self, count: int = 15) -> str:
        """The end of the log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        except OSError:
            return ""

    def _recorded(self) -> tuple[int, float] | None:
        record = self._record()
        with suppress(ValueError, KeyError):
            return (int(record["pid"]), float(record["started"])) if record["boot"] == _boot() else None
        return None

    def _record(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            return dict(json.loads(self.record.read_text()))
        return {}


def stop(components: Iterable[Component], grace_seconds: float = GRACE_SECONDS) -> int:
    """End the components with all they started: SIGTERM, then SIGKILL for what is left; return how many processes ended.

    Members that the first look missed (a task that was just starting) are found by the next.
    """
    components = list(components)
    ended: set[int] = set()
    deadline = time.monotonic() + grace_seconds
    # A job's process group has a session of its own: remember it while its parent still leads to it.
    remembered: dict[int, psutil.Process] = {}
    while True:
        for component in components:
            remembered.update({process.pid: process for process in component.members()})
        remembered = {pid: process for pid, process in remembered.items() if runs(process)}
        if not remembered:
            break
        overdue = time.monotonic() > deadline
        for pid, process in remembered.items():
            if overdue or pid not in ended:
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL if overdue else signal.SIGTERM)
        ended.update(remembered)
        time.sleep(0.2)
    for component in components:
        component.record.unlink(missing_ok=True)
    return len(ended)


@contextmanager
def start_lock(folder: Path, say_waiting: Callable[[], None] | None = None) -> Iterator[bool]:
    """Let one process at a time start components that have their records in `folder`; yield whether this one may.

    :param say_waiting: called before waiting for another process; without it there is no waiting.
    """
    with (folder / "lock").open("w") as file:
        held = _lock(file)
        if not held and say_waiting:
            say_waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
            held = True
        yield held


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def runs(process: psutil.Process) -> bool:
    """Whether a process lives, and is not a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _boot() -> str:
    return BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""
