"""Several training processes on this machine, under torchrun. One process needs none of this."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress

import psutil

from nightshift import errors
from nightshift.errors import JobError
from nightshift.training.task import Fitted, OnMetrics, Task

OUTCOME = "outcome.json"


def fit_in_processes(task: Task, on_metrics: OnMetrics, stopping: threading.Event) -> Fitted:
    """Train with the task's number of processes; the arguments and errors are those of :func:`fit.fit`.

    :raises JobError: a process died.
    """
    processes = task.training.processes
    file = task.work / "task.json"
    file.write_text(task.model_dump_json())
    threads = max(1, int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1) // processes)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        "--module", "nightshift.training.worker", str(file),
    ]  # fmt: skip
    launcher = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
    )
    ended = threading.Event()
    watcher = threading.Thread(target=_pass_on_stop, args=(launcher.pid, stopping, ended), daemon=True)
    watcher.start()
    try:
        for line in launcher.stdout or ():
            report = json.loads(line)
            on_metrics(report["step"], report["steps"], report["metrics"])
        code = launcher.wait()
    finally:
        ended.set()
        launcher.kill()
    try:
        outcome = json.loads((task.work / OUTCOME).read_text())
    except FileNotFoundError:
        raise JobError(f"a training process died (torchrun ended with {code}); its last lines are in the log") from None
    if error := outcome.get("error"):
        raise getattr(errors, error)(outcome["text"])
    return Fitted.model_validate(outcome["fitted"])


def _pass_on_stop(launcher: int, stopping: threading.Event, ended: threading.Event) -> None:
    """Tell the workers themselves: torchrun would give them half a minute and then kill them."""
    while not ended.wait(0.2):
        if stopping.is_set():
            with suppress(psutil.Error):
                for worker in psutil.Process(launcher).children():
                    worker.terminate()
            return
