"""Which of the two engines trains: the one for short rows on a CPU, or the one for everything else."""

from __future__ import annotations

import logging
from typing import Any

import torch

from nightshift.settings.training import Training
from nightshift.training.attention import LONGEST_ROW
from nightshift.training.row_model import RowModel

log = logging.getLogger(__name__)


def with_engine(training: Training) -> Training:
    """Return the settings with `engine: auto` replaced by the engine that fits this machine and these rows."""
    if training.engine != "auto":
        return training
    if torch.cuda.is_available():
        engine, reason = "stock", "there is a GPU"
    elif asked := training.only_stock:
        engine, reason = "stock", f"training.{asked} is set"
    elif training.sequence_length > LONGEST_ROW:
        engine, reason = "stock", f"rows of {training.sequence_length} tokens are longer than {LONGEST_ROW}"
    else:
        engine, reason = "short_rows", f"no GPU, and rows of {training.sequence_length} tokens"
    log.info("engine: %s (%s)", engine, reason)
    return training.model_copy(update={"engine": engine})


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
