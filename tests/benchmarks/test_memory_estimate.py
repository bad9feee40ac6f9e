"""The memory that is estimated before a training against what it then takes: peak resident memory of a process of its own.

Random weights of 63 million parameters, random examples, a few steps; both engines, all weights and an adapter.
Run as a program, this file is one of the trainings: `python test_memory_estimate.py FOLDER SETTINGS`.
"""

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

REPORT = Path(os.environ.get("NIGHTSHIFT_BENCHMARKS") or Path(__file__).parents[2] / "build" / "benchmarks")
MODEL = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 8,
         "num_key_value_heads": 4, "vocab_size": 49_152, "tie_word_embeddings": True}  # fmt: skip
EXAMPLE, LEARNED_SHARE, STEPS = 100, 0.4, 4
WITHIN = 0.15
SETTINGS = [
    {"engine": "short_rows", "sequence_length": 256, "rows_per_step": 4, "rows_per_batch": 4},
    {"engine": "short_rows", "sequence_length": 256, "rows_per_step": 4, "rows_per_batch": 4, "method": "lora"},
    {"engine": "short_rows", "sequence_length": 256, "rows_per_step": 4, "rows_per_batch": 1, "zero_stage": 2},
    {"engine": "stock", "sequence_length": 1024, "rows_per_step": 2, "rows_per_batch": 1, "gradient_checkpointing": "none"},
    {"engine": "stock", "sequence_length": 2048, "rows_per_step": 1, "rows_per_batch": 1, "method": "lora",
     "gradient_checkpointing": "full"},
]  # fmt: skip


def write_model(folder):
    """Write a random model with a tokenizer, which nothing is asked of."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**MODEL)).to(torch.bfloat16).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"end": 0}, unk_token="end")), pad_token="end"
    ).save_pretrained(folder)


def training_of(settings):
    from nightshift.settings.training import Training

    return Training(precision="bf16", evaluate_steps=10_000, checkpoint_steps=10_000, min_examples=1, **settings)


def train(folder, settings):
    """Train on random examples, and write the peak memory of this process (bytes)."""
    from nightshift.training.fit import fit
    from nightshift.training.task import Task
    from nightshift.training.token_files import LEARNED, TokenFiles, write_part

    random, training = np.random.default_rng(0), training_of(settings)

    def examples(count):
        for length in random.integers(EXAMPLE // 2, EXAMPLE * 3 // 2, count):
            tokens = random.integers(10, 40_000, length).astype(np.uint32)
            tokens[round((1 - LEARNED_SHARE) * length) :] |= LEARNED
            yield tokens

    parts = {"train": STEPS * training.rows_per_step * training.sequence_length // EXAMPLE, "held_out": 4}
    for name, count in parts.items():
        (folder / name).mkdir(parents=True)
        write_part(folder / name, examples(count))
    for name in ("work", "output"):
        (folder / name).mkdir()
    task = Task(
        application="app", base_model=folder.parent / "model", base_model_name="random",
        tokens=TokenFiles(train=[folder / "train"], held_out=[folder / "held_out"], prefix=[]), training=training,
        checkpoints=(folder / "checkpoints").as_uri(), inputs={}, work=folder / "work", output=folder / "output",
    )  # fmt: skip
    fit(task, lambda *_: None, threading.Event())
    (folder / "peak").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def estimated(model, settings):
    from nightshift.training.memory import PaperModel

    training = training_of(settings)
    accumulation = training.rows_per_step // training.rows_per_batch
    memory = PaperModel(model, LEARNED_SHARE).memory(training, 1, accumulation, gpu=False)
    return memory.total + memory.export


@pytest.mark.benchmark
def test_a_training_takes_what_was_estimated_within_fifteen_percent(tmp_path):
    from nightshift.jobs.train import ENVIRONMENT

    write_model(tmp_path / "model")
    lines, wrong = ["| training | estimated | measured | error |", "| --- | --- | --- | --- |"], []
    for number, settings in enumerate(SETTINGS):
        folder = tmp_path / f"{number}"
        command = [sys.executable, __file__, str(folder), json.dumps(settings)]
        environment = {**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": "1"}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr[-3000:]
        before, after = estimated(tmp_path / "model", settings), int((folder / "peak").read_text())
        error = before / after - 1
        named = ", ".join(f"{name} {value}" for name, value in settings.items())
        lines.append(f"| {named} | {before / 1e9:.2f} GB | {after / 1e9:.2f} GB | {error:+.0%} |")
        wrong += [named] if abs(error) > WITHIN else []
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "memory_estimate.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    assert not wrong


if __name__ == "__main__":
    train(Path(sys.argv[1]), json.loads(sys.argv[2]))
