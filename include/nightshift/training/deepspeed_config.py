"""The DeepSpeed configuration of a training, and what DeepSpeed needs to start without a compiler."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

import torch

from nightshift.settings.training import Training

NEVER_DIVIDES = 10**9


def deepspeed_config(training: Training, accumulation: int, *, universal: bool = False) -> dict[str, Any]:
    """Return the configuration for DeepSpeed; the optimiser and the schedule come from the Trainer.

    What the settings give under `deepspeed` is joined to it, section by section.

    :param accumulation: forward passes of one process in one optimiser step.
    :param universal: the checkpoint to resume from was made for any number of processes.
    """
    gpu = torch.cuda.is_available()
    zero: dict[str, Any] = {"stage": training.zero_stage, "overlap_comm": gpu}
    if training.zero_stage >= 1 and training.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": gpu}
    if training.zero_stage == 3 and training.offload == "all":
        zero["offload_param"] = {"device": "cpu", "pin_memory": gpu}
    config = {
        "train_micro_batch_size_per_gpu": training.rows_per_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": training.gradient_clipping,
        "bf16": {"enabled": training.precision == "bf16", "check_grad_overflow": False},
        "fp16": {"enabled": training.precision == "fp16"},
        "zero_optimization": zero,
        "checkpoint": {"load_universal": universal},
        # Torch's fused AdamW is as quick as DeepSpeed's own on a CPU, which would have to be compiled first.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": NEVER_DIVIDES,
        "wall_clock_breakdown": False,
    }
    return _merged(config, training.deepspeed)


def _merged(config: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with more of it: sections are joined key by key."""
    joined = dict(config)
    for key, value in more.items():
        there = config.get(key)
        joined[key] = _merged(there, value) if isinstance(there, dict) and isinstance(value, dict) else value
    return joined


def run_as_one_process() -> None:
    """Set the variables of a distributed run of one process, unless a launcher has set them.

    Without them DeepSpeed looks for MPI.
    """
    if "WORLD_SIZE" not in os.environ:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ.update(
            RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
        )  # fmt: skip


def avoid_compiler() -> None:
    """Keep DeepSpeed from compiling its shared-memory communication, which it does even for one process.

    Gloo takes its place; without this a machine that has no compiler cannot train at all.
    """
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
