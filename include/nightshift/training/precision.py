"""The fastest number format of a machine that is precise enough for training."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch

from nightshift.errors import BadInput
from nightshift.settings.training import TrainingSettings

Settings = TypeVar("Settings", bound=TrainingSettings)


def fast_precision() -> Literal["bf16", "fp32"]:
    """Return bf16 where the GPU or the processor multiplies it; elsewhere it is up to twenty times slower than fp32."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16" if fast else "fp32"


def decided(training: Settings) -> Settings:
    """Return the settings with `auto` replaced by what this machine does best.

    :raises BadInput: fp16 is asked for, and there is no GPU.
    """
    if training.precision == "fp16" and not torch.cuda.is_available():
        raise BadInput("training.precision: fp16 needs a GPU; leave it at auto")
    if training.precision != "auto":
        return training
    return training.model_copy(update={"precision": fast_precision()})
