"""How many processors this job may use, wherever it runs, and how rarely it looks for garbage."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
OBJECTS = 50_000  # new ones, after which Python looks for cycles that nobody holds; its own 700 are a few hundred rows


@contextmanager
def rare_collections() -> Iterator[None]:
    """Look for cycles less often: rows make none, and looking takes a tenth of the time of an ingest."""
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def processors() -> int:
    """Return how many processors the job has: those of its compute profile, as far as machine and container give them."""
    most = [len(os.sched_getaffinity(0)), int(os.environ.get("OMP_NUM_THREADS") or 1_000)]
    try:
        quota, period = CPU_MAX.read_text().split()
    except (OSError, ValueError):
        quota = "max"
    if quota != "max":
        most.append(int(quota) // int(period))
    return max(1, min(most))
