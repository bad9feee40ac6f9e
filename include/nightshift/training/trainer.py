"""Hugging Face's Trainer on packed rows: loss over answers, stops between steps, checkpoints as partitions."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch
import torch.distributed as dist
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from nightshift.errors import BadInput
from nightshift.settings.training import Training
from nightshift.training.answer_model import AnswerModel
from nightshift.training.best import BestWeights, lowest
from nightshift.training.checkpoints import Checkpoints
from nightshift.training.deepspeed_config import deepspeed_config
from nightshift.training.elastic import repair_optimizer
from nightshift.training.frozen import FrozenLayers, pays
from nightshift.training.gpu_use import gpu_numbers
from nightshift.training.packing import NOT_LEARNED, Packed
from nightshift.training.row_model import RowModel
from nightshift.training.saving import Saving, save_only_what_is_trained
from nightshift.training.schedules import rate
from nightshift.training.task import OnMetrics, OnRows, Rows
from nightshift.training.weights import put_weights, trained_weights

log = logging.getLogger(__name__)

LOGGED = ("loss", "learning_rate", "grad_norm", "reward_margin", "reward_accuracy")


def training_arguments(training: Training, world: int, folder: Path, *, universal: bool = False) -> TrainingArguments:
    """Return the Trainer's arguments. They must exist before the model is loaded: ZeRO-3 partitions it while loading.

    :param world: processes on all nodes.
    :param folder: where each process writes its part of a checkpoint.
    :param universal: the checkpoint to resume from was rewritten for any number of processes.
    """
    accumulation = training.rows_per_step // (training.rows_per_batch * world)
    return TrainingArguments(
        output_dir=str(folder),
        deepspeed=deepspeed_config(training, accumulation, universal=universal),
        use_cpu=not torch.cuda.is_available(),
        bf16=training.precision == "bf16",
        fp16=training.precision == "fp16",
        # The rows come in the order of all epochs already.
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        per_device_train_batch_size=training.rows_per_batch,
        gradient_accumulation_steps=accumulation,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        max_grad_norm=training.gradient_clipping,
        optim="adamw_torch_fused",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        seed=training.seed,
    )


class PackedTrainer(Trainer):
    """Trains a model on the rows of a task, with either engine.

    :param best: where the weights of the lowest held-out loss are kept, for early stopping.
    :param on_metrics: called on the first process with step, steps in all, and numbers (`loss` in nats per answer token,
        `learning_rate`, `grad_norm`, `tokens_per_second`, `step_seconds`, `memory_gb`, `held_out_loss`).
    :param on_rows: called with rows and rows in all while rows are read before the first step.
    :param stopping: when set, training ends after the running step with a checkpoint.
    """

    lr_scheduler: Any
    measured: tuple[str, ...] = ("held_out_loss",)

    def __init__(
        self,
        model: RowModel,
        arguments: TrainingArguments,
        training: Training,
        rows: Rows,
        pad: int,
        *,
        checkpoints: Checkpoints,
        best: BestWeights,
        on_metrics: OnMetrics,
        on_rows: OnRows,
        stopping: threading.Event,
    ) -> None:
        self.rows = rows
        self.world = arguments.world_size
        self.pad = pad
        self.row_model = model
        self.frozen = self._run_frozen_layers(model, training, on_rows)
        order = _for_all(rows.order, training.rows_per_batch, self.world)
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=order,
            data_collator=partial(self.batch, rows.train),
            compute_loss_func=self._loss,
        )
        steps = np.arange(0, len(order), training.rows_per_step)
        # The last number is of row -1, which is empty.
        self.tokens_of_step = np.add.reduceat(np.append(rows.train.tokens, 0)[order], steps)
        self.squares_of_step = np.add.reduceat(np.append(rows.train.squares, 0)[order], steps)
        self.best = best
        self.training = training
        self.on_metrics = on_metrics
        self.stopped = False
        self.step_seconds = 0.0
        self.remove_callback(PrinterCallback)
        self.add_callback(_Steps(self, checkpoints, stopping))

    def _run_frozen_layers(self, model: RowModel, training: Training, on_rows: OnRows) -> FrozenLayers | None:
        started, packed = time.perf_counter(), [self.rows.train, self.rows.held_out]
        frozen = None
        if (
            isinstance(model, AnswerModel)
            and self.world == 1
            and pays(training, packed, model.model.config.get_text_config().hidden_size)
        ):
            log.info("running the layers that are not trained once over %d rows", sum(map(len, packed)))
            frozen = FrozenLayers(model, training.trained_layers, packed, self.pad, on_rows)
        self.frozen_seconds = time.perf_counter() - started
        return frozen

    def batch(self, packed: Packed, rows: Iterable[int]) -> dict[str, Any]:
        """Return what the model takes for a batch of rows, by number, with `labels`."""
        return {**self.row_model.batch(packed, rows, self.pad), **(self.frozen.of(packed, rows) if self.frozen else {})}

    def _loss(self, output: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
        """Mean over the answer tokens of the whole step: the Trainer counts them over batches and processes."""
        return self.row_model.summed_loss(output, labels) / num_items_in_batch

    def create_optimizer(self, *arguments: Any, **keywords: Any) -> torch.optim.Optimizer:
        """Create the optimiser, and remember how its groups of parameters differ."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*arguments, **keywords)
        self.weight_decays = [group["weight_decay"] for group in optimizer.param_groups if group["params"]]
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LambdaLR:
        """Warm up, then go as the settings say."""
        if self.lr_scheduler is None:
            schedule, warmup = self.training.learning_rate_schedule, self.training.warmup_share
            shape = partial(rate, schedule=schedule, warmup=warmup, steps=num_training_steps)
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, shape)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def evaluate(self, *_unused: Any, **_ignored: Any) -> dict[str, float]:
        """Measure and log the loss on the held-out rows; with early stopping, decide what follows from it."""
        loss = self._held_out_loss()
        if self.training.early_stopping:
            self._judge()
        return {"eval_loss": loss}

    def _held_out_loss(self) -> float:
        """Return and log the loss on the held-out rows, in nats per answer token."""
        engine, training = self.model_wrapped, self.training
        engine.eval()
        held_out = _for_all(np.arange(len(self.rows.held_out)), training.rows_per_batch, self.world)
        totals = torch.zeros(1 + len(self.measured), dtype=torch.float64)
        first, stride = self.args.process_index * training.rows_per_batch, self.world * training.rows_per_batch
        with torch.no_grad():
            for start in range(first, len(held_out), stride):
                some = held_out[start : start + training.rows_per_batch]
                batch = self._prepare_inputs(self.batch(self.rows.held_out, some))
                labels = batch.pop("labels")
                totals += torch.tensor(self.sums(engine(**batch), labels), dtype=torch.float64)
        if self.world > 1:
            totals = totals.to(self.args.device)
            dist.all_reduce(totals)
        means = dict(zip(self.measured, (totals[1:] / totals[0]).tolist(), strict=True))
        self.log(means)
        return means["held_out_loss"]

    def sums(self, output: torch.Tensor, labels: torch.Tensor) -> list[float]:
        """Return what the numbers of `measured` are means over, and their sums, of a batch of held-out rows."""
        return [(labels != NOT_LEARNED).sum().item(), self.row_model.summed_loss(output, labels).item()]

    def _judge(self) -> None:
        """Keep the weights if no held-out loss was lower, and end where too many in a row were not."""
        step, since = lowest(self.state.log_history)
        if since == 0:
            weights = trained_weights(self.row_model, first=self.args.process_index == 0)
            if self.args.process_index == 0:
                self.best.publish(weights, step)
        elif since >= self.training.early_stopping:
            log.info("no held-out loss was lower than that of step %d since then; training ends", step)
            self.control.should_training_stop = True
        self.control.should_evaluate = False  # the Trainer would, once more, where its epoch ends

    def finish(self) -> float:
        """Return the last held-out loss; with early stopping, after the weights of the lowest one are back in the model."""
        last = next((entry for entry in reversed(self.state.log_history) if "held_out_loss" in entry["metrics"]), None)
        measured = last is not None and last["step"] == self.state.global_step
        loss: float = last["metrics"]["held_out_loss"] if last and measured else self._held_out_loss()
        step, since = lowest(self.state.log_history)
        if not self.training.early_stopping or since == 0:
            return loss
        put_weights(self.row_model, self.best.fetch(step) if self.args.process_index == 0 else {})
        return self._held_out_loss()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Pass on the numbers of a step; they stay in the Trainer's history, and so in its checkpoints."""
        step = self.state.global_step
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise BadInput(
                    f"the loss is {logs['loss']} at step {step}: training diverged; lower training.learning_rate "
                    f"(it is {self.training.learning_rate:g})"
                )
            metrics = {
                **{key: float(value) for key, value in logs.items() if key in LOGGED},
                "step_seconds": self.step_seconds,
                "tokens_per_second": float(self.tokens_of_step[step - 1] / self.step_seconds),
                "memory_gb": psutil.Process().memory_info().rss / 1e9,
                **gpu_numbers(
                    self.row_model.model,
                    int(self.tokens_of_step[step - 1]),
                    int(self.squares_of_step[step - 1]),
                    self.step_seconds,
                    self.world,
                ),
            }
        elif "held_out_loss" in logs:
            metrics = dict(logs)
        else:
            return
        self.state.log_history.append({"step": step, "timestamp": int(time.time() * 1000), "metrics": metrics})
        if self.args.process_index == 0:
            self.on_metrics(step, self.state.max_steps, metrics)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write nothing: a DeepSpeed checkpoint holds the weights, and the finished model is exported once."""


class _Steps(TrainerCallback):
    """Decides after each step whether to measure, save or stop, and publishes what was saved."""

    def __init__(self, trainer: PackedTrainer, checkpoints: Checkpoints, stopping: threading.Event) -> None:
        self._trainer = trainer
        args = trainer.args
        self._saving = Saving(
            checkpoints, rank=args.process_index, local_rank=args.local_process_index, world=trainer.world, device=args.device
        )  # fmt: skip
        self._stopping = stopping
        self._started = 0.0

    def on_train_begin(
        self,
        _args: TrainingArguments,
        _state: TrainerState,
        _control: TrainerControl,
        *,
        optimizer: Any,
        **_ignored: Any,
    ) -> None:
        trainer = self._trainer
        repair_optimizer(optimizer, trainer.weight_decays)
        save_only_what_is_trained(trainer.model_wrapped)
        if trainer.world == 1 and trainer.training.zero_stage == 0:
            # DeepSpeed would copy all gradients into one tensor and back to average them with nobody's.
            trainer.model_wrapped.enable_backward_allreduce = False
        trainer.row_model.check(trainer.model_wrapped)

    def on_step_begin(self, *_unused: Any, **_ignored: Any) -> None:
        self._started = time.perf_counter()

    def on_step_end(
        self, _args: TrainingArguments, state: TrainerState, control: TrainerControl, **_ignored: Any
    ) -> None:
        trainer = self._trainer
        trainer.step_seconds = time.perf_counter() - self._started
        if state.global_step >= state.max_steps:
            return
        training = trainer.training
        trainer.stopped = self._saving.look(self._stopping.is_set())
        control.should_evaluate = state.global_step % training.evaluate_steps == 0 and not trainer.stopped
        control.should_save = state.global_step % training.checkpoint_steps == 0 or trainer.stopped
        control.should_training_stop = trainer.stopped
        if control.should_save:
            self._saving.wait()  # so that no more than one lies on this disk

    def on_save(self, args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_ignored: Any) -> None:
        """Upload it while training goes on; once it is published, no older weights than its best ones are needed."""
        measured = any("held_out_loss" in entry["metrics"] for entry in state.log_history)
        best, drop_older = lowest(state.log_history)[0] if measured else 0, self._trainer.best.drop
        self._saving.begin(
            Path(args.output_dir) / f"checkpoint-{state.global_step}", state.global_step,
            then=partial(drop_older, before=best) if self._trainer.training.early_stopping else None,
        )  # fmt: skip

    def on_train_end(self, *_unused: Any, **_ignored: Any) -> None:
        self._saving.wait()


def _for_all(rows: npt.NDArray[Any], at_once: int, world: int) -> npt.NDArray[Any]:
    """Add empty rows (-1) until each process gets equally many; else the sampler would train on some rows twice."""
    missing = -len(rows) % (at_once * world) if world > 1 else 0
    return np.pad(rows, (0, missing), constant_values=-1)
