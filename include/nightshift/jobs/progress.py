"""How a running job tells that it lives and how far it is: JSON lines on stdout, text for people on stderr.

`NIGHTSHIFT_PROGRESS=text` makes the lines on stdout text, too: where nobody but people reads them, as in a pod's log.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import psutil

from nightshift.errors import Preempted
from nightshift.jobs.running_metrics import RunningMetrics

HEARTBEAT_SECONDS = 15
REPORT_SECONDS = 2


class Progress:
    """Reports of one job. A job that has nothing to say for 15 s sends a heartbeat."""

    def __init__(self, job: str) -> None:
        self.job = job
        self.stopping = threading.Event()
        self.metrics: RunningMetrics | None = None
        self._cooperative = False
        self._last_report = 0.0
        self._started = time.monotonic()
        self._peak_bytes = 0
        self._lock = threading.Lock()
        # Libraries print to stdout; from here on stdout is for JSON lines alone.
        self._stream = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def start(self) -> None:
        """Begin the heartbeat and listen for SIGTERM."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        threading.Thread(target=self._heartbeat, daemon=True).start()

    def report(self, step: int, total: int | None = None, unit: str = "rows", **numbers: float | str) -> None:
        """Say how far the job is; more often than every 2 s only the last step of all is passed on."""
        if self.metrics:
            self.metrics.tell({**numbers, "step": step, "steps": total})
        now = time.monotonic()
        if now - self._last_report < REPORT_SECONDS and step != total:
            return
        self._last_report = now
        self._write("progress", step=step, total=total, unit=unit, **numbers)

    @contextmanager
    def stop_cooperatively(self) -> Iterator[None]:
        """Within this block SIGTERM only sets `stopping`; the job saves its state and raises Preempted itself."""
        self._cooperative = True
        try:
            yield
        finally:
            self._cooperative = False

    def peak_memory_gb(self) -> float:
        """The largest memory of the process tree seen so far, in GB (proportional shares of what is shared)."""
        self._measure()
        return round(self._peak_bytes / 1e9, 3)

    def _on_sigterm(self, _signal: int, _frame: FrameType | None) -> None:
        self.stopping.set()
        if not self._cooperative:
            raise Preempted("stopped by SIGTERM")

    def _heartbeat(self) -> None:
        while True:
            for _ in range(HEARTBEAT_SECONDS):
                time.sleep(1)
                self._measure()
            if time.monotonic() - self._last_report >= HEARTBEAT_SECONDS:
                self._write("heartbeat")

    def _measure(self) -> int:
        memory = tree_memory(psutil.Process())
        self._peak_bytes = max(self._peak_bytes, memory)
        if self.metrics:
            self.metrics.tell({"memory": memory})
        return memory

    def _write(self, event: str, **fields: Any) -> None:
        line = {
            "time": round(time.time(), 3),
            "event": event,
            "job": self.job,
            "seconds": round(time.monotonic() - self._started, 1),
            "memory_gb": round(self._measure() / 1e9, 2),
            **fields,
        }
        text = as_text(line) if os.environ.get("NIGHTSHIFT_PROGRESS") == "text" else json.dumps(line)
        with self._lock:
            self._stream.write(text + "\n")


def as_text(event: Mapping[str, Any]) -> str:
    """Return a progress line for people: `train: 40 of 117 steps · loss 0.82 · 96 s · 3.90 GB`."""
    fixed = {"time", "event", "job", "seconds", "memory_gb", "step", "total", "unit"}
    parts = [f"{key.replace('_', ' ')} {_short(value)}" for key, value in event.items() if key not in fixed]
    if event.get("event") == "progress":
        total = f" of {event['total']:,}" if event.get("total") else ""
        parts.insert(0, f"{event['step']:,}{total} {event['unit']}")
    else:
        parts.insert(0, "running")
    parts += [f"{event.get('seconds')} s", f"{event.get('memory_gb')} GB"]
    return f"{event.get('job')}: {' · '.join(parts)}"


def _short(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def tree_memory(process: psutil.Process) -> int:
    """Return the memory of a process and its descendants in bytes: PSS, so that shared pages count once."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def log_to_stderr() -> None:
    """Send log records to stderr as `LEVEL text`, one line each: a person reads them in a shell or in the Airflow log."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("nightshift").setLevel(logging.INFO)


def end_with_parent() -> None:
    """Kill this process group when stdin closes: whoever started the job holds the other end and has died."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
