"""One training from start to end, in this process: rows, model, DeepSpeed, checkpoints, and the model that comes out."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from upath import UPath

from nightshift.errors import BadInput, Preempted
from nightshift.settings.training import Training
from nightshift.training.answer_model import AnswerModel
from nightshift.training.attention import attention_for
from nightshift.training.checkpoints import Checkpoints
from nightshift.training.communication import connect
from nightshift.training.deepspeed_config import avoid_compiler, be_alone
from nightshift.training.elastic import is_universal
from nightshift.training.task import Fitted, OnMetrics, OnRows, Task, read_rows
from nightshift.training.trainer import PackedTrainer, training_arguments


def fit(
    task: Task, on_metrics: OnMetrics, stopping: threading.Event, on_rows: OnRows = lambda done, of: None
) -> Fitted:
    """Train, and write the model into the task's `output` folder (on the first process).

    :raises Preempted: `stopping` was set; a checkpoint was published.
    :raises BadInput: the rows, the model or the settings do not allow a training, or it diverges.
    :raises BadEnvironment: the processes cannot talk to each other.
    """
    be_alone()
    avoid_compiler()
    connect()
    training = task.training
    arguments = training_arguments(
        training,
        task.layout.world,
        task.work / "checkpoints",
        universal=task.resume_from is not None and is_universal(task.resume_from),
    )
    tokenizer = AutoTokenizer.from_pretrained(task.base_model, trust_remote_code=False)
    rows = read_rows(task)
    set_seed(training.seed)
    length = len(rows.train.prefix) + rows.train.length
    model = load_model(task.base_model, training, length)
    trainer = PackedTrainer(
        AnswerModel(model, length),
        arguments,
        training,
        rows,
        pad=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
        checkpoints=Checkpoints(UPath(task.checkpoints), task.application, task.inputs),
        on_metrics=on_metrics,
        on_rows=on_rows,
        stopping=stopping,
    )
    trainer.train(resume_from_checkpoint=str(task.resume_from) if task.resume_from else None)
    if trainer.stopped:
        raise Preempted(f"stopped after step {trainer.state.global_step}; the next try goes on from there")
    held_out_loss = trainer.evaluate()["eval_loss"]
    if trainer.frozen:
        trainer.frozen.put_back()
    with _whole(model, training):
        if arguments.process_index == 0:
            export(model, tokenizer, task)
            (task.output / "deepspeed.json").write_text(json.dumps(trainer.accelerator.deepspeed_config, indent=1))
    return Fitted(
        steps=trainer.state.global_step,
        train_examples=len(rows.train.packing.examples),
        too_long=rows.train.packing.too_long,
        train_tokens=int(trainer.tokens_of_step.sum()),
        seconds=trainer.frozen_seconds
        + sum(entry["metrics"].get("step_seconds", 0.0) for entry in trainer.state.log_history),
        held_out_loss=held_out_loss,
        processes=task.layout.world,
    )


def load_model(folder: Path, training: Training, length: int) -> Any:
    """Return the base model in the precision of the training; what is not trained needs no gradient.

    :param length: tokens of a row.
    :raises BadInput: the model has fewer layers than shall be trained, or none that can be told apart.
    """
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16 if training.precision == "bf16" else torch.float32,
        attn_implementation=attention_for(length),
        use_safetensors=True,
        trust_remote_code=False,
    )
    layers = getattr(model.get_decoder(), "layers", torch.nn.ModuleList())
    trained = training.trained_layers
    if trained > len(layers):
        raise BadInput(f"training.trained_layers is {trained}, but {model.config.model_type} has {len(layers)} layers")
    if training.method == "lora":
        from peft import LoraConfig, get_peft_model

        adapter = LoraConfig(
            task_type="CAUSAL_LM",
            r=training.lora_rank,
            lora_alpha=2 * training.lora_rank,
            lora_dropout=0.0,
            target_modules=_linear_names(model, layers[-trained:]) if trained else "all-linear",
        )
        return get_peft_model(model, adapter, autocast_adapter_dtype=False)
    if trained:
        model.requires_grad_(False)
        layers[-trained:].requires_grad_(True)
    return model


def _linear_names(model: torch.nn.Module, part: torch.nn.Module) -> list[str]:
    inside = set(part.modules())
    return [name for name, module in model.named_modules() if module in inside and isinstance(module, torch.nn.Linear)]


def export(model: Any, tokenizer: Any, task: Task) -> None:
    """Write `model` (merged safetensors, tokenizer, config), `adapter` (LoRA only)."""
    if task.training.method == "lora":
        model.peft_config["default"].base_model_name_or_path = task.base_model_name
        model.save_pretrained(task.output / "adapter", save_embedding_layers=False)
        model = model.merge_and_unload()
    model.save_pretrained(task.output / "model")
    tokenizer.save_pretrained(task.output / "model")


def _whole(model: Any, training: Training) -> contextlib.AbstractContextManager[None]:
    """Within this block each process holds all parameters, which ZeRO-3 spreads over them."""
    if training.zero_stage < 3:
        return contextlib.nullcontext()
    import deepspeed

    gathered: contextlib.AbstractContextManager[None] = deepspeed.zero.GatheredParameters(list(model.parameters()))
    return gathered
