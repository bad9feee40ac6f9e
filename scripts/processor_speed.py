"""How much longer this machine's processors take than those that the test budgets were measured on.

Each processor that the tests use does a fixed amount of work at the same time, as it does under test: processors that
share a core, or a clock that falls under load, show. What counts are processor seconds, so others' work hardly matters.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from statistics import median

# On two cores of an AMD EPYC of the fourth generation, both busy: 0.8 of it text and objects, 0.2 matrices.
REFERENCE_SECONDS = 1.0
# Beyond this the sample says more about itself than about the tests.
BOUNDS = (0.5, 4.0)
PROCESSORS = min(4, len(os.sched_getaffinity(0)))


def slowness() -> float:
    """Return by what a budget is multiplied here: 2.0 where the same work takes twice the processor seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__]
    samples = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSORS)]
    return scale([float(sample.communicate()[0]) for sample in samples])


def scale(seconds: list[float]) -> float:
    """Return the factor for a machine whose processors took `seconds`."""
    return min(max(median(seconds) / REFERENCE_SECONDS, BOUNDS[0]), BOUNDS[1])


def work() -> float:
    """Do what tests mostly do (objects, text, some arithmetic of models) and return the processor seconds it took."""
    import numpy as np

    rows = [{"id": number, "text": f"row {number} " * 8, "scores": [number / 7] * 8} for number in range(1_000)]
    matrix = np.random.default_rng(1).random((512, 512), dtype=np.float32)
    started = time.process_time()
    for _ in range(80):
        again = json.loads(json.dumps(rows))
        again.sort(key=lambda row: row["text"])
        counts: dict[str, int] = {}
        for row in again:
            for word in row["text"].split():
                counts[word] = counts.get(word, 0) + len(word)
    for _ in range(100):
        matrix = matrix @ matrix
        matrix /= np.abs(matrix).max()
    return time.process_time() - started


if __name__ == "__main__":
    print(work())
