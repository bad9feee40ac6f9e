"""Chooses the training engine: the one for short rows on a CPU, or the one for everything else."""

from __future__ import annotations

from typing import Any

import torch

from nightshift.settings.training import Training, TrainingSettings
from nightshift.training.attention import LONGEST_ROW
from nightshift.training.row_model import RowModel


def engine_for(settings: TrainingSettings, length: int, *, gpu: bool) -> tuple[str, str]:
    """Return the engine for rows of so many tokens, and why it is that one."""
    if settings.engine != "auto":
        return settings.engine, "as set"
    if gpu:
        return "stock", "there is a GPU"
    if asked := settings.only_stock:
        return "stock", f"training.{asked} is set"
    if length > LONGEST_ROW:
        return "stock", f"rows of {length:,} tokens are longer than {LONGEST_ROW}"
    return "short_rows", f"no GPU, and rows of {length:,} tokens"


def with_engine(training: Training) -> Training:
    """Return the settings with `engine: auto` replaced by the engine that fits this machine and these rows."""
    chosen, _ = engine_for(training, training.sequence_length, gpu=torch.cuda.is_available())
    return training.model_copy(update={"engine": chosen})


def row_model(model: Any, training: Training, length: int) -> RowModel:
    """Return what reads packed rows with a Hugging Face model.

    :param length: tokens of a row, with what all examples begin with where that is shared.
    :raises BadInput: the engine cannot keep packed examples apart in this model.
    """
    if training.engine == "stock":
        from nightshift.training.stock_model import StockModel

        return StockModel(model)
    from nightshift.training.answer_model import AnswerModel

    return AnswerModel(model, length)
