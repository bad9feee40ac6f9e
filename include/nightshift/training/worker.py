"""One of several processes of a training, started by torchrun: `python -m nightshift.training.worker TASK`."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightshift.errors import JobError
from nightshift.training.launch import OUTCOME
from nightshift.training.task import Task


def main(file: str) -> None:
    """Train; the first process writes metrics to stdout, a JSON line each, and the outcome beside the task."""
    # Libraries print to stdout, which is for the metrics alone.
    metrics_out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    task = Task.model_validate_json(Path(file).read_bytes())

    def on_metrics(step: int, steps: int, metrics: Mapping[str, float]) -> None:
        metrics_out.write(json.dumps({"step": step, "steps": steps, "metrics": dict(metrics)}) + "\n")

    from nightshift.training.fit import fit

    outcome: dict[str, Any]
    try:
        outcome = {"fitted": fit(task, on_metrics, stopping).model_dump()}
    except JobError as error:
        outcome = {"error": type(error).__name__, "text": str(error)}
    if os.environ["RANK"] == "0":
        (task.work / OUTCOME).write_text(json.dumps(outcome))


if __name__ == "__main__":
    main(sys.argv[1])
