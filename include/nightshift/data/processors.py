"""How many processors this job may use, wherever it runs."""

from __future__ import annotations

import os
from pathlib import Path

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


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
