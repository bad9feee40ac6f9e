"""Trains, stops, resumes and generates on one GPU, with random weights of three sizes, and writes a table.

Needs no network and no model: `python scripts/gpu_check.py build/gpu_check.md`, with the requirements of training beside the
machine's own torch. It takes a few minutes; every size is a process of its own. `--sizes tiny` runs it anywhere.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "include"))

import numpy as np

STEPS, STOP_AFTER, NEW_TOKENS = 12, 6, 32
WIDE = {"num_key_value_heads": 8, "vocab_size": 128_256}
# Of a Llama: its shape, how it is trained, and tokens of a row.
SIZES: dict[str, tuple[dict[str, int], dict[str, Any], int]] = {
    "tiny": (
        {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 1000},
        {}, 128,
    ),
    "135M": (
        {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
         "num_key_value_heads": 3, "vocab_size": 49_152},
        {}, 4096,
    ),
    "1B": (
        {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, **WIDE},
        {"learning_rate": 1e-5}, 4096,
    ),
    "8B": (
        {"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32, **WIDE},
        {"method": "lora", "gradient_checkpointing": "full"}, 8192,
    ),
}  # fmt: skip


def main() -> None:
    """Check the sizes one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["135M", "1B", "8B"])
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        given.report.write_text(json.dumps(check(given.sizes[0])))
        return
    lines, failed = [], False
    with tempfile.TemporaryDirectory() as folder:
        for size in given.sizes:
            found, began = Path(folder) / size, time.monotonic()
            process = subprocess.run([sys.executable, __file__, str(found), "--sizes", size, "--alone"], check=False)
            numbers = json.loads(found.read_text()) if process.returncode == 0 else {"error": process.returncode}
            failed |= process.returncode != 0
            numbers["seconds in all"] = time.monotonic() - began
            told = ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in numbers.items()
            )
            lines.append(f"- **{size}**: {told}")
            print(lines[-1], flush=True)
    given.report.parent.mkdir(parents=True, exist_ok=True)
    given.report.write_text("\n".join(lines) + "\n")
    sys.exit(failed)


def check(size: str) -> dict[str, Any]:
    """Return what one size of model took: straight, stopped and resumed, and generating."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, set_seed

    shape, settings, length = SIZES[size]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        set_seed(0)
        config = AutoConfig.for_model(
            "llama", **shape, max_position_embeddings=length, bos_token_id=None, eos_token_id=0, pad_token_id=0
        )
        with torch.device(device):
            AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder / "base")
        torch.cuda.empty_cache()
        save_tokenizer(folder / "base")
        first = train(folder, "stopped", settings, length, stop_after=STOP_AFTER)
        second = train(folder, "stopped", settings, length)
        losses = [numbers["loss"] for numbers in (*first, *second)]
        assert len(losses) == STEPS, f"{len(losses)} steps in place of {STEPS}"  # noqa: S101
        model = (
            AutoModelForCausalLM.from_pretrained(folder / "stopped" / "model", dtype=torch.bfloat16).to(device).eval()
        )
        prompts = torch.randint(0, shape["vocab_size"], (8, 64), device=device)
        began = time.perf_counter()
        answers = model.generate(prompts, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False)
        made = answers[:, prompts.shape[1] :].numel()
        return {
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "first loss": losses[0],
            "last loss": losses[-1],
            **{key: value for key, value in second[-1].items() if key not in {"loss", "learning_rate"}},
            "generated tokens per second": made / (time.perf_counter() - began),
        }


def train(
    folder: Path, name: str, settings: dict[str, Any], length: int, stop_after: int = 0
) -> list[dict[str, float]]:
    """Train on random tokens from the newest checkpoint on, and return the numbers of each step."""
    from upath import UPath

    from nightshift.errors import Preempted
    from nightshift.settings.training import Training
    from nightshift.training.checkpoints import Checkpoints
    from nightshift.training.fit import fit
    from nightshift.training.precision import decided
    from nightshift.training.task import Task

    work, output = folder / f"work-{stop_after}", folder / name
    work.mkdir()
    output.mkdir(exist_ok=True)
    root = str(folder / "checkpoints")
    checkpoint = Checkpoints(UPath(root), "check", {}).newest(work)
    training = Training(
        engine="stock", sequence_length=length, rows_per_step=2, rows_per_batch=1, min_examples=1, evaluate_steps=1000,
        checkpoint_steps=1000, **settings,
    )  # fmt: skip
    task = Task(
        application="check", base_model=folder / "base", base_model_name="random", tokens=tokens(folder, length),
        training=decided(training), checkpoints=root, inputs={}, work=work, output=output,
        resume_from=checkpoint.folder if checkpoint else None,
    )  # fmt: skip
    steps, stopping = [], threading.Event()

    def on_metrics(step: int, _steps: int, numbers: Any) -> None:
        if "loss" in numbers:
            steps.append(dict(numbers))
        if step + 1 == stop_after:
            stopping.set()

    try:
        fit(task, on_metrics, stopping)
    except Preempted:
        assert stop_after  # noqa: S101
    return steps


def tokens(folder: Path, length: int) -> Any:
    """Write random examples that fill two rows a step: a long one and some short ones in each."""
    from nightshift.training.token_files import LEARNED, TokenFiles, write_part

    random, parts = np.random.default_rng(0), {}
    for name, rows in {"train": 2 * STEPS, "held_out": 1}.items():
        sizes = [size for _ in range(rows) for size in (length // 2, length // 4, length // 4)]
        examples = [random.integers(0, 900, size, dtype=np.uint32) for size in sizes]
        for example in examples:
            example[len(example) // 2 :] |= LEARNED
        parts[name] = folder / name
        parts[name].mkdir(exist_ok=True)
        write_part(parts[name], examples)
    return TokenFiles(train=[parts["train"]], held_out=[parts["held_out"]], prefix=[])


def save_tokenizer(folder: Path) -> None:
    """Write a tokenizer of bytes: the random model needs one to be saved with."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    PreTrainedTokenizerFast(tokenizer_object=plain, pad_token=letters[0]).save_pretrained(folder)


if __name__ == "__main__":
    main()
