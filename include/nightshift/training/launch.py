"""The training processes of this node, under torchrun. One process on one node needs none of this.

Each node runs a torchrun of its own with a fixed place among the others (static rendezvous), so that rank 0, which
reports and exports, is always on the first node, and never restarts anything: who restarts is the job as a whole, since
a node that comes back must begin at the same checkpoint as the others.
"""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import psutil

from nightshift import errors
from nightshift.errors import BadEnvironment, JobError, Preempted
from nightshift.training.group import Group
from nightshift.training.task import Fitted, OnMetrics, Task

# The outcome of one process, by its rank on this node. `lost` says that it only heard another one go.
OUTCOME = "outcome-{}.json"
TORCHRUN_SECONDS = 60
# How long a node whose connections broke waits for another one to say why, before it says so itself.
BROKEN_SECONDS = 30
# How long torchrun may take to start its processes when a stop is asked for.
START_SECONDS = 30

# What a process group should do about a peer that is gone, unless the compute profile says otherwise: NCCL has to be
# told to give up, gloo notices a closed connection.
ENVIRONMENT = {
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
    "TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC": "300",
    "NCCL_DEBUG": "WARN",
}


def fit_in_processes(
    task: Task, on_metrics: OnMetrics, stopping: threading.Event, group: Group | None = None
) -> Fitted:
    """Train with the processes of the task's layout; the arguments and errors are those of :func:`fit.fit`.

    :param group: the other nodes, where there are any; their errors are raised here too.
    :raises JobError: a process died.
    """
    layout = task.layout
    file = task.work / "task.json"
    file.write_text(task.model_dump_json())
    threads = max(1, int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1) // layout.processes)
    command = [
        sys.executable, "-m", "torch.distributed.run", *_rendezvous(task, group, stopping), "--max-restarts=0",
        f"--nproc-per-node={layout.processes}", "--module", "nightshift.training.worker", str(file),
    ]  # fmt: skip
    # A process whose standard input ends knows that this one is dead, and ends too.
    launcher = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, **os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    ended = threading.Event()
    threading.Thread(target=_supervise, args=(task, launcher.pid, stopping, group, ended), daemon=True).start()
    try:
        for line in launcher.stdout or ():
            report = json.loads(line)
            on_metrics(report["step"], report["steps"], report["metrics"])
        code = launcher.wait()
    finally:
        ended.set()
        _kill(launcher.pid)
    return _outcome(task, code, stopping, group)


def _rendezvous(task: Task, group: Group | None, stopping: threading.Event) -> list[str]:
    """The arguments by which torchrun finds the other nodes: a port of the first one that is free right now."""
    layout = task.layout
    if group is None:
        return ["--standalone"]
    # Also waits until every node has fetched what it needs, however long that takes.
    checkpoint = task.resume_from.name if task.resume_from else "nothing"
    said = [json.loads(text) for text in group.together("prepared", json.dumps([checkpoint, _free_port()]), stopping)]
    if len({begin for begin, _ in said}) > 1:
        raise BadEnvironment(
            f"the nodes would not go on from the same checkpoint: {[begin for begin, _ in said]}; one of them cannot "
            "read the newest (its log says why)"
        )
    host = layout.rendezvous.rpartition(":")[0]
    return [
        f"--nnodes={layout.nodes}", f"--node-rank={layout.node}", "--rdzv-conf", f"timeout={TORCHRUN_SECONDS}",
        "--master-addr", "localhost" if layout.node == 0 else host, "--master-port", str(said[0][1]),
    ]  # fmt: skip


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        port: int = free.getsockname()[1]
        return port


def _outcome(task: Task, code: int, stopping: threading.Event, group: Group | None) -> Fitted:
    outcomes = _outcomes(task)
    failed = [outcome for outcome in outcomes if "error" in outcome]
    if len(outcomes) == task.layout.processes and not failed:
        return Fitted.model_validate(outcomes[0]["fitted"])
    # What another node ended with explains what the processes here could only notice.
    if group and (trouble := group.trouble()):
        raise trouble
    for outcome in failed:
        if not outcome.get("lost"):
            raise getattr(errors, outcome["error"])(outcome["text"])
    if stopping.is_set():
        raise Preempted("stopped before the first step")
    if group and (failed or not outcomes):
        _wait_for_the_cause(group)
    if failed:
        raise JobError(failed[0]["text"])
    raise JobError(f"a training process died (torchrun ended with {code}); its last lines are in the log")


def _outcomes(task: Task) -> list[dict[str, Any]]:
    files = [task.work / OUTCOME.format(rank) for rank in range(task.layout.processes)]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def _wait_for_the_cause(group: Group) -> None:
    """A connection broke: the node at its other end tells why, or is silent from now on."""
    group.shorten_patience()
    group.say("broken", "-")
    until = time.monotonic() + BROKEN_SECONDS
    while group.said("broken") is None and time.monotonic() < until:
        time.sleep(0.2)


def _supervise(
    task: Task, launcher: int, stopping: threading.Event, group: Group | None, ended: threading.Event
) -> None:
    """Pass on what ends the training early: a stop, to the workers themselves, or what ended one of them or a node."""
    told, until = False, math.inf
    while not ended.wait(0.2):
        # After a stop each process ends by itself.
        failed = any(outcome.get("error", "Preempted") != "Preempted" for outcome in _outcomes(task))
        if failed or (group and group.trouble()):
            _kill(launcher)
            return
        if stopping.is_set() and not told:
            # Torchrun would give them half a minute and then kill them. It may have none yet, and while it waits for
            # other nodes it does not hear a signal.
            with suppress(psutil.Error):
                workers = psutil.Process(launcher).children()
                told = bool(workers)
                for worker in workers:
                    worker.terminate()
            until = min(until, time.monotonic() + START_SECONDS)
            if not told and time.monotonic() > until:
                _kill(launcher)
                return


def _kill(launcher: int) -> None:
    with suppress(psutil.Error):
        process = psutil.Process(launcher)
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                each.kill()
