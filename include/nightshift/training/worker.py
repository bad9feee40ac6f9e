"""One of several processes of a training, started by torchrun: `python -m nightshift.training.worker TASK`."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightshift.errors import ExitCode, JobError, Preempted
from nightshift.training.launch import OUTCOME
from nightshift.training.task import Task

# After so long without being ended, a process that failed ends by itself.
PATIENCE_SECONDS = 10

log = logging.getLogger("nightshift.training")


def main(file: str) -> None:
    """Train; the first process writes metrics to stdout, a JSON line each, and every one its outcome beside the task."""
    # Libraries print to stdout, which is for the metrics alone.
    metrics_out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    task = Task.model_validate_json(Path(file).read_bytes())

    def on_metrics(step: int, steps: int, metrics: Mapping[str, float]) -> None:
        metrics_out.write(json.dumps({"step": step, "steps": steps, "metrics": dict(metrics)}) + "\n")

    def ended(**outcome: Any) -> None:
        target = task.work / OUTCOME.format(os.environ["LOCAL_RANK"])
        target.with_suffix(".part").write_text(json.dumps(outcome))
        target.with_suffix(".part").rename(target)

    from nightshift.training.communication import is_broken_connection
    from nightshift.training.fit import fit

    try:
        ended(fitted=fit(task, on_metrics, stopping).model_dump())
    except Preempted as error:
        # Every process is at the same step, and ends by itself.
        ended(error="Preempted", text=str(error))
    except JobError as error:
        ended(error=type(error).__name__, text=str(error))
        _end()
    except Exception as error:
        log.exception("training process %s", os.environ["RANK"])
        text = f"training process {os.environ['RANK']}: {type(error).__name__}: {error}"
        ended(error="JobError", text=text, lost=is_broken_connection(error))
        _end()


def _end() -> None:
    """Wait to be ended, with the others of this node, by whoever reads the outcome; torchrun would write pages about it."""
    logging.shutdown()
    time.sleep(PATIENCE_SECONDS)
    os._exit(ExitCode.FAILED)


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(ExitCode.FAILED)


if __name__ == "__main__":
    main(sys.argv[1])
