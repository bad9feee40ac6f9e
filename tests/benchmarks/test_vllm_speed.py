"""How fast vLLM's build for processors answers a night, against our engine: same model, machine and prompts, in fp32."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from answer_night import NEW_TOKENS

ROOT = Path(__file__).parents[2]
REPORT = Path(os.environ.get("NIGHTSHIFT_BENCHMARKS") or ROOT / "build" / "benchmarks")


@pytest.mark.nightly
@pytest.mark.benchmark
def test_vllm_answers_word_by_word_the_same_and_faster(tmp_path, vllm_python):
    from test_inference_speed import prompts_of
    from transformers import AutoTokenizer

    from nightshift.jobs.generate import ENVIRONMENT
    from nightshift.training.base_model import resolve_base_model

    folder = resolve_base_model("smollm2-135m-instruct")
    prompts = prompts_of(AutoTokenizer.from_pretrained(folder))
    (tmp_path / "prompts.json").write_text(json.dumps({"model": str(folder), "prompts": prompts}))
    results = {}
    for who, python in {"transformers": sys.executable, "vllm": vllm_python}.items():
        # Both get the same allocator and thread settings.
        paths = {"PYTHONPATH": str(ROOT / "include"), "HF_HUB_OFFLINE": "1"}
        program = Path(__file__).with_name("answer_night.py")
        command = [python, program, who, tmp_path / "prompts.json", tmp_path / f"{who}.json"]
        environment = {**os.environ, **ENVIRONMENT, **paths}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr[-3000:]
        results[who] = json.loads((tmp_path / f"{who}.json").read_text())
    answers = {who: result.pop("answers") for who, result in results.items()}
    tokens = sum(len(answer) for answer in answers["vllm"])
    ratio = results["transformers"]["cpu_seconds"] / results["vllm"]["cpu_seconds"]
    order = ("transformers", "vllm")
    lines = [
        f"{len(prompts)} prompts, at most {NEW_TOKENS} new tokens ({tokens} in all), SmolLM2-135M, fp32, "
        f"{results['vllm']['threads']} thread(s)",
        "",
        "| | engine `transformers` | engine `vllm` |",
        "| --- | --- | --- |",
    ]
    for name, value in {
        "tokens per CPU-second": lambda result: tokens / result["cpu_seconds"],
        "tokens per second": lambda result: tokens / result["wall_seconds"],
        "seconds to start": lambda result: result["start_seconds"],
    }.items():
        lines.append(f"| {name} | {' | '.join(f'{value(results[who]):,.3g}' for who in order)} |")
    lines.append(f"| **times as fast** (CPU-seconds) | | **{ratio:.2f}** |")
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "vllm_speed.md").write_text("\n".join(lines) + "\n")
    (REPORT / "vllm_speed.json").write_text(json.dumps({**results, "tokens": tokens, "ratio": ratio}, indent=1))
    print("\n".join(lines))
    assert answers["vllm"] == answers["transformers"]
    assert ratio >= 1
