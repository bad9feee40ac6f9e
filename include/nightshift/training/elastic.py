"""Going on with another number of processes: a ZeRO checkpoint is written per process, and rewritten for any number."""

from __future__ import annotations

import argparse
import logging
import shutil
from pathlib import Path
from typing import Any

import torch

from nightshift.training.checkpoints import Checkpoint

# DeepSpeed's name for the file that names the rewritten folder.
UNIVERSAL = "latest_universal"

log = logging.getLogger(__name__)


def for_processes(checkpoint: Checkpoint, world: int, zero_stage: int, work: Path) -> Path:
    """Return a folder from which `world` processes can resume: the checkpoint's own, or one rewritten in `work`.

    Without ZeRO each process holds everything, so such a checkpoint fits any number. Rewriting takes about twice the
    checkpoint's size on the disk of `work`, for a while.
    """
    if zero_stage == 0 or checkpoint.processes == world:
        return checkpoint.folder
    log.info("rewriting the checkpoint of %d processes for %d", checkpoint.processes, world)
    from nightshift.training.deepspeed_config import avoid_compiler

    avoid_compiler()
    from deepspeed.checkpoint.ds_to_universal import main as rewrite

    target = work / f"{checkpoint.folder.name}-universal"
    target.mkdir(parents=True)
    for file in checkpoint.folder.iterdir():
        if file.is_file():
            shutil.copy2(file, target)
    tag = (checkpoint.folder / "latest").read_text().strip()
    rewrite(
        argparse.Namespace(
            input_folder=str(checkpoint.folder / tag),
            output_folder=str(target / tag),
            # In this process: workers that are forked beside running threads may never start.
            num_extract_workers=1,
            num_merge_workers=1,
            keep_temp_folder=False,
            strict=True,
            inject_missing_state=True,
        )
    )
    return target


def is_universal(folder: Path) -> bool:
    """Whether a checkpoint was rewritten for any number of processes."""
    return (folder / UNIVERSAL).exists()


def repair_optimizer(optimizer: Any, weight_decays: list[float]) -> None:
    """Set right what DeepSpeed 0.19.8 gets wrong when it loads a universal checkpoint into ZeRO-3; else change nothing.

    It gives every group of parameters the settings of the first one, and one and the same step counter, which each
    group then advances.

    :param weight_decays: of the groups, as the optimiser was created with: all in which they differ.
    """
    for group, decay in zip(optimizer.param_groups, weight_decays, strict=True):
        group["weight_decay"] = decay
    for state in optimizer.state.values():
        if isinstance(state.get("step"), torch.Tensor):
            state["step"] = state["step"].clone()
