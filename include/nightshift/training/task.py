"""The task of a training in a form that its other processes can read, and its rows in the order of training."""

from __future__ import annotations

import logging
import random
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nightshift.errors import BadInput
from nightshift.settings.fields import Model
from nightshift.settings.training import LEARNED_FROM, Training
from nightshift.training.layout import Layout
from nightshift.training.packing import Packed
from nightshift.training.token_files import Examples, TokenFiles

# Called on the first process with step, steps in all, and the numbers of the step.
OnMetrics = Callable[[int, int, Mapping[str, float]], None]
# Called before the first step with how many of how many rows were read: through layers that are not trained, or for the
# reference of preference pairs or judged answers.
OnRows = Callable[[int, int], None]

log = logging.getLogger(__name__)


class Task(Model):
    """One training. All paths are local: the processes of one node share a disk, nodes do not.

    :param training: `precision` and `engine` are decided, and `rows_per_batch` is what one process really takes at once.
    :param base_model_name: what the user called the model; it is written into an adapter's config.
    :param resume_from: a checkpoint folder whose digests were checked.
    :param work: an empty folder for what only this training needs.
    :param output: an empty folder, in which `model`, `adapter` (LoRA only) and `deepspeed.json` appear.
    :param checkpoints: URI under which checkpoints are published, with the `inputs` that they belong to.
    """

    application: str
    base_model: Path
    base_model_name: str
    tokens: TokenFiles
    training: Training
    layout: Layout = Layout()
    checkpoints: str
    inputs: dict[str, Any]
    work: Path
    output: Path
    resume_from: Path | None = None


class Fitted(Model):
    """What a training did.

    :param train_examples: preference pairs or judged answers, where it learned from these.
    :param train_tokens: tokens of the examples trained on, prompts and repetitions included, padding not.
    :param seconds: time spent in frozen layers and in optimiser steps, of all attempts.
    :param processes: on all nodes, of the last attempt.
    """

    steps: int
    train_examples: int
    too_long: int
    train_tokens: int
    seconds: float
    held_out_loss: float
    processes: int
    held_out_accuracy: float | None = None

    @property
    def tokens_per_second(self) -> float:
        """Tokens of examples that one second of training took in."""
        return self.train_tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Rows:
    """Packed training rows with the order (numbers of rows) in which they are trained on, and packed held-out rows."""

    train: Packed
    order: npt.NDArray[np.int32]
    held_out: Packed


def read_rows(task: Task) -> Rows:
    """Pack the examples of a task. The same task gives the same rows in the same order.

    :raises BadInput: too little fits in a row.
    """
    training, length, prefix = task.training, task.training.sequence_length, task.tokens.prefix
    shared = training.engine != "stock"
    train, held_out = (
        Packed.of(Examples(each), prefix, training, shared=shared) for each in (task.tokens.train, task.tokens.held_out)
    )
    together, what = training.together, LEARNED_FROM[training.recipe]
    given, too_long = len(train.examples) // together, train.packing.too_long
    longest = train.examples.lengths.reshape(-1, together).sum(axis=1).max() - (together * len(prefix) if shared else 0)
    fit = given - too_long
    measured, of = len(held_out.packing.examples) // together, len(held_out.examples) // together
    left_out = (
        f"{too_long:,} of {given:,} training {what} ({too_long / given:.0%}) are longer than "
        f"training.sequence_length {length}; the longest has {longest:,} tokens{' behind what all begin with' if shared else ''}"
    )
    if not fit or not measured or (too_long and fit < training.min_examples):
        raise BadInput(
            f"{left_out}. {fit:,} fit, and {measured:,} of {of:,} held-out ones; at least {training.min_examples:,} "
            "(training.min_examples) and 1 are asked for. Raise training.sequence_length, or set training.too_long: cut"
        )
    if too_long:
        log.warning("%s. They are left out", left_out)
    return Rows(train, row_order(len(train), training.epochs, training.seed), held_out)


def row_order(rows: int, epochs: float, seed: int) -> npt.NDArray[np.int32]:
    """Return the rows in the order of training: each pass shuffled differently, the last one cut where `epochs` ends."""
    order = array("i")
    total = max(1, round(rows * epochs))
    while len(order) < total:
        again = array("i", range(rows))
        random.Random(f"{seed}/{len(order)}").shuffle(again)  # noqa: S311
        order.extend(again)
    return np.array(order[:total], dtype=np.int32)
