"""How fast a night is answered: ours against Transformers' `generate`, the same model, machine and prompts, in fp32.

Run as a program, this file is one of the measurements: `python test_inference_speed.py ours|one_by_one|batches_of_8`.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "include" / "nightshift" / "samples" / "banking77"
REPORT = Path(os.environ.get("NIGHTSHIFT_BENCHMARKS") or ROOT / "build" / "benchmarks")
PROMPTS = int(os.environ.get("NIGHTSHIFT_BENCHMARK_PROMPTS", "64"))
NEW_TOKENS = 48
SYSTEM = "You answer customers of a bank in one or two sentences."
ALTERNATIVES = ("one_by_one", "batches_of_8")


def prompts_of(tokenizer):
    """Messages of the sample in order of arrival, every fourth a long one (several messages in one), as tokens."""
    import pandas

    from nightshift.settings.prompt import Prompt
    from nightshift.training.chat_template import ChatTemplate
    from nightshift.training.tokens import prompt_ids

    texts = pandas.read_csv(SAMPLE / "2026-11-02.csv")["text"].tolist()
    rows = []
    for number in range(PROMPTS):
        length = 6 + number * 7 % 19 if number % 4 == 3 else 1
        text = "\n".join(texts[number * 11 % 900 :][:length])
        rows.append({"messages": [{"role": "user", "content": text}]})
    return list(prompt_ids(rows, ChatTemplate(tokenizer, Prompt(system=SYSTEM))))


def ours(loaded, prompts):
    from nightshift.inference.transformers_engine import TransformersEngine
    from nightshift.settings.policies import Inference

    engine = TransformersEngine(loaded, max_new_tokens=NEW_TOKENS, batch_tokens=Inference().batch_tokens)
    return [answer.tokens for answer in engine.generate(prompts)]


def one_by_one(loaded, prompts):
    return padded(loaded, prompts, 1)


def batches_of_8(loaded, prompts):
    return padded(loaded, prompts, 8)


def padded(loaded, prompts, size):
    """Transformers' own `generate` with its own attention, in order of arrival, padded at the left."""
    import torch

    loaded.model.set_attn_implementation("sdpa")
    loaded.tokenizer.padding_side = "left"
    answers = []
    for start in range(0, len(prompts), size):
        batch = loaded.tokenizer.pad({"input_ids": prompts[start : start + size]}, return_tensors="pt")
        with torch.inference_mode():
            output = loaded.model.generate(
                **batch, do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=sorted(loaded.end_tokens),
                pad_token_id=loaded.pad_token,
            )  # fmt: skip
        for row in output[:, batch["input_ids"].shape[1] :].tolist():
            end = next((at for at, token in enumerate(row) if token in loaded.end_tokens), len(row))
            answers.append(row[:end])
    return answers


def measure(who, target):
    """Answer the prompts in this process and write answers and times to the file `target`."""
    import torch

    from nightshift.inference.model import load
    from nightshift.training.base_model import resolve_base_model

    loaded = load(resolve_base_model("smollm2-135m-instruct"))
    loaded.model.float()
    prompts = prompts_of(loaded.tokenizer)
    answer = {"ours": ours, "one_by_one": one_by_one, "batches_of_8": batches_of_8}[who]
    answer(loaded, prompts[:8])  # the first pass of a process allocates
    cpu, wall = time.process_time(), time.perf_counter()
    answers = answer(loaded, prompts)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    numbers = {"cpu_seconds": cpu, "wall_seconds": wall, "threads": torch.get_num_threads(), "answers": answers}
    lengths = sorted(len(prompt) for prompt in prompts)
    numbers["prompt_tokens"] = {"shortest": lengths[0], "median": lengths[len(lengths) // 2], "longest": lengths[-1]}
    Path(target).write_text(json.dumps(numbers))


@pytest.mark.benchmark
def test_a_night_of_mixed_lengths_is_answered_three_times_as_fast_and_word_by_word_the_same(tmp_path):
    from nightshift.jobs.generate import ENVIRONMENT

    results = {}
    for who in (*ALTERNATIVES, "ours"):
        # All get the same allocator and thread settings.
        environment = {**os.environ, **ENVIRONMENT, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, __file__, who, str(tmp_path / f"{who}.json")]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr[-3000:]
        results[who] = json.loads((tmp_path / f"{who}.json").read_text())
    answers = {who: result.pop("answers") for who, result in results.items()}
    tokens = sum(len(answer) for answer in answers["ours"])
    ratios = {who: results[who]["cpu_seconds"] / results["ours"]["cpu_seconds"] for who in ALTERNATIVES}
    lengths = results["ours"]["prompt_tokens"]
    lines = [
        f"{PROMPTS} prompts of {lengths['shortest']} to {lengths['longest']} tokens (median {lengths['median']}), at most "
        f"{NEW_TOKENS} new tokens ({tokens} in all), SmolLM2-135M, fp32, {results['ours']['threads']} thread(s)",
        "",
        "| | Nightshift | `generate`, one by one | `generate`, batches of 8 in order of arrival |",
        "| --- | --- | --- | --- |",
    ]
    order = ("ours", *ALTERNATIVES)
    for name, value in {
        "tokens per CPU-second": lambda result: tokens / result["cpu_seconds"],
        "tokens per second": lambda result: tokens / result["wall_seconds"],
        "CPU-seconds": lambda result: result["cpu_seconds"],
    }.items():
        lines.append(f"| {name} | {' | '.join(f'{value(results[who]):,.3g}' for who in order)} |")
    lines.append(f"| **times as fast as** | | **{ratios['one_by_one']:.2f}** | **{ratios['batches_of_8']:.2f}** |")
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "inference_speed.md").write_text("\n".join(lines) + "\n")
    (REPORT / "inference_speed.json").write_text(json.dumps({**results, "tokens": tokens, "ratios": ratios}, indent=1))
    print("\n".join(lines))
    assert answers["ours"] == answers["one_by_one"]
    assert ratios["one_by_one"] >= 3


if __name__ == "__main__":
    measure(*sys.argv[1:])
