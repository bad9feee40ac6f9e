"""The resources of the training processes of one node: GPUs, their memory, and the memory of the job."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from nightshift.settings.compute import MEMORY_VARIABLE

CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """One node.

    :param gpu: the name of its GPUs; empty without any.
    :param gpu_bytes: memory of the smallest of them; 0 without any.
    :param host_bytes: memory of the whole job on this node.
    :param disk_bytes: free where the job writes its checkpoints before they are stored.
    """

    gpu: str
    gpu_bytes: int
    host_bytes: int
    disk_bytes: int


def this_machine(scratch: Path) -> Machine:
    """Return what this node has.

    :param scratch: a folder on the disk that the job may fill.
    """
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    smallest = min(gpus, key=lambda gpu: gpu.total_memory, default=None)
    return Machine(
        gpu=smallest.name if smallest else "",
        gpu_bytes=smallest.total_memory if smallest else 0,
        host_bytes=memory_limit(),
        disk_bytes=shutil.disk_usage(scratch).free,
    )


def memory_limit() -> int:
    """Return the bytes that this job may use: the least of its compute profile, its control groups and the machine."""
    limits = [psutil.virtual_memory().total, *_control_groups()]
    if profile := os.environ.get(MEMORY_VARIABLE):
        limits.append(int(float(profile) * 1e9))
    return min(limits)


def _control_groups() -> list[int]:
    """The limits of this process's control group and of those around it (version 2, or version 1)."""
    try:
        paths = [line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return []
    limits = []
    for controllers, path in paths:
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (CGROUPS, "memory.max")
        inside = root / path.strip("/")
        # A container sees its own group as the root, whatever its path is called outside.
        for folder in {root, inside, *(parent for parent in inside.parents if parent.is_relative_to(root))}:
            try:
                limits.append(int((folder / name).read_text()))
            except (OSError, ValueError):  # not there, or `max`
                continue
    return limits
