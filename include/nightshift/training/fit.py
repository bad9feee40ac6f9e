"""One training from start to end, in this process: rows, model, DeepSpeed, checkpoints, and the model that comes out."""

from __future__ import annotations

import json
import threading

from transformers import AutoTokenizer, set_seed
from upath import UPath

from nightshift.errors import Preempted
from nightshift.settings.training import Recipe
from nightshift.training.best import BestWeights
from nightshift.training.checkpoints import Checkpoints
from nightshift.training.communication import connect
from nightshift.training.deepspeed_config import avoid_compiler, run_as_one_process
from nightshift.training.elastic import is_universal
from nightshift.training.engine import row_model, with_engine
from nightshift.training.kto import KtoTrainer
from nightshift.training.load import load_model
from nightshift.training.preference import PreferenceTrainer
from nightshift.training.task import Fitted, OnMetrics, OnRows, Task, read_rows
from nightshift.training.tokens import filler
from nightshift.training.trainer import PackedTrainer, training_arguments
from nightshift.training.weights import export

TRAINERS: dict[Recipe, type[PackedTrainer]] = {"sft": PackedTrainer, "dpo": PreferenceTrainer, "kto": KtoTrainer}


def fit(
    task: Task, on_metrics: OnMetrics, stopping: threading.Event, on_rows: OnRows = lambda done, of: None
) -> Fitted:
    """Train, and write the model into the task's `output` folder (on the first process).

    :raises Preempted: `stopping` was set; a checkpoint was published.
    :raises BadInput: the rows, the model or the settings do not allow a training, or it diverges.
    :raises BadEnvironment: the processes cannot talk to each other.
    """
    run_as_one_process()
    avoid_compiler()
    connect()
    task = task.model_copy(update={"training": with_engine(task.training)})
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
    model = load_model(task.base_model, training, rows.train.longest)
    embeddings = model.get_input_embeddings()
    trainer = TRAINERS[training.recipe](
        row_model(model, training, rows.train.longest),
        arguments,
        training,
        rows,
        # An adapter to the embeddings wraps them; with ZeRO-3 their weight has no rows here.
        pad=filler(tokenizer, getattr(embeddings, "base_layer", embeddings).num_embeddings),
        checkpoints=Checkpoints(
            UPath(task.checkpoints), task.application, task.inputs, training.model_dump(mode="json")
        ),
        best=BestWeights(UPath(f"{task.checkpoints}-best"), task.application, task.inputs, task.work),
        on_metrics=on_metrics,
        on_rows=on_rows,
        stopping=stopping,
    )
    trainer.train(resume_from_checkpoint=str(task.resume_from) if task.resume_from else None)
    if trainer.stopped:
        raise Preempted(f"stopped after step {trainer.state.global_step}; the next try goes on from there")
    held_out_loss = trainer.finish()
    if trainer.frozen:
        trainer.frozen.put_back()
    export(model, tokenizer, task, first=arguments.process_index == 0)
    if arguments.process_index == 0:
        (task.output / "deepspeed.json").write_text(json.dumps(trainer.accelerator.deepspeed_config, indent=1))
    return Fitted(
        steps=trainer.state.global_step,
        train_examples=len(rows.train.packing.examples) // training.together,
        too_long=rows.train.packing.too_long,
        train_tokens=int(trainer.tokens_of_step.sum()),
        seconds=trainer.frozen_seconds
        + sum(entry["metrics"].get("step_seconds", 0.0) for entry in trainer.state.log_history),
        held_out_loss=held_out_loss,
        held_out_accuracy=trainer.held_out_accuracy if isinstance(trainer, PreferenceTrainer) else None,
        processes=task.layout.world,
    )
