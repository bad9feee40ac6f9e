"""What one training is asked to do, in a form that a second process can read, and its rows in the order of training."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.errors import BadInput
from nightshift.settings.application import Model, Prompt, Training
from nightshift.training.layout import Layout
from nightshift.training.packing import Packed, common_prefix, pack
from nightshift.training.tokens import tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The held-out loss is measured on this many examples, the first by digest; judging the model is another job's.
HELD_OUT_EXAMPLES = 128

# Called on the first process with step, steps in all, and the numbers of the step.
OnMetrics = Callable[[int, int, Mapping[str, float]], None]
# Called before the first step with how many of how many rows went through the layers that are not trained.
OnRows = Callable[[int, int], None]

log = logging.getLogger(__name__)


class Task(Model):
    """One training. All paths are local: the processes of one node share a disk, nodes do not.

    :param training: `precision` is decided, and `rows_per_batch` is what one process really takes at once.
    :param base_model_name: what the user called the model; it is written into an adapter's config.
    :param resume_from: a checkpoint folder whose digests were checked.
    :param work: an empty folder for what only this training needs.
    :param output: an empty folder, in which `model`, `adapter` (LoRA only) and `deepspeed.json` appear.
    :param checkpoints: URI under which checkpoints are published, with the `inputs` that they belong to.
    """

    application: str
    base_model: Path
    base_model_name: str
    train: Path
    held_out: Path
    prompt: Prompt
    training: Training
    layout: Layout = Layout()
    checkpoints: str
    inputs: dict[str, Any]
    work: Path
    output: Path
    resume_from: Path | None = None


class Fitted(Model):
    """What a training did.

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

    @property
    def tokens_per_second(self) -> float:
        """Tokens of examples that one second of training took in."""
        return self.train_tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Rows:
    """Packed training rows with the order in which they are trained on, and packed held-out rows."""

    train: Packed
    order: list[int]
    held_out: Packed


def read_rows(task: Task, tokenizer: PreTrainedTokenizerBase) -> Rows:
    """Tokenize and pack the snapshot of a task. The same task gives the same rows in the same order.

    :raises BadInput: nothing to train on or to measure with, or nothing that fits in a row.
    """
    columns = ["digest", "messages"]
    train = tokenize(_read(task.train, columns).to_pylist(), tokenizer, task.prompt)
    held_out_table = _read(task.held_out, columns).sort_by("digest").slice(0, HELD_OUT_EXAMPLES)
    held_out = tokenize(held_out_table.to_pylist(), tokenizer, task.prompt)
    if not train or not held_out:
        raise BadInput(f"the snapshot has {len(train)} training and {len(held_out)} held-out examples; both are needed")
    prefix, length = common_prefix([*train, *held_out]), task.training.sequence_length
    packed, measured = pack(train, prefix, length), pack(held_out, prefix, length)
    if packed.too_long:
        log.warning(
            "%d of %d training examples are longer than training.sequence_length %d and are left out",
            packed.too_long, len(train), length,
        )  # fmt: skip
    if not packed.rows or not measured.rows:
        raise BadInput(
            f"no example fits in training.sequence_length {length}; the shortest has {min(map(len, train))} tokens"
        )
    return Rows(packed, row_order(len(packed.rows), task.training.epochs, task.training.seed), measured)


def row_order(rows: int, epochs: float, seed: int) -> list[int]:
    """Return the rows in the order of training: each pass shuffled anew, the last one cut where `epochs` ends."""
    order: list[int] = []
    total = max(1, round(rows * epochs))
    while len(order) < total:
        again = list(range(rows))
        random.Random(f"{seed}/{len(order)}").shuffle(again)  # noqa: S311
        order += again
    return order[:total]


def _read(path: Path, columns: list[str]) -> pa.Table:
    return pq.read_table(path, columns=columns)
