"""The job `generate` as its own image runs it: with the Python of vLLM's environment, which has no Airflow."""

import os
import subprocess
from pathlib import Path

import pytest
from answered_nights import parts_of
from training_runs import finish, model_of, start

from nightshift.jobs import generate
from nightshift.jobs.contract import read_result
from nightshift.settings.serving import Vllm
from nightshift.verdict import Verdict

ROOT = Path(__file__).parents[2]


COLUMNS = ("row", "digest", "response", "tokens", "finish_reason")


def answered_by_vllm(vllm_python, spec, folder):
    """The result of the job in vLLM's environment, in fp32."""
    (folder / "spec.json").write_text(spec.model_dump_json())
    program = (
        "import sys, torch\nfrom nightshift.inference import vllm_engine\n"
        "vllm_engine.fast_dtype = lambda: torch.float32\n"
        "from nightshift.cli import main\nsys.exit(main())"
    )
    files = ["--spec", str(folder / "spec.json"), "--result", str(folder / "result.json")]
    run = subprocess.run(
        [vllm_python, "-c", program, "generate", *files],
        env={**os.environ, **generate.ENVIRONMENT, "PYTHONPATH": str(ROOT / "include"), "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-5000:]
    return generate.Result.model_validate(read_result("generate", spec, str(folder / "result.json")).result)


def answered_by_transformers(spec, progress):
    """The same by the engine `transformers`, in fp32."""
    import torch

    from nightshift.inference import model

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model, "fast_dtype", lambda: torch.float32)
        return generate.run(spec, progress)


def rows_of(result):
    return [{name: row[name] for name in COLUMNS} for _, part in parts_of(result).values() for row in part]


def with_vllm(application, **settings):
    inference = application.inference.model_copy(update={"engine": "vllm", "vllm": Vllm(**settings)})
    return application.model_copy(update={"inference": inference})


@pytest.mark.slow
@pytest.mark.nightly
def test_a_night_is_answered_by_vllm_as_by_transformers(night, champion, vllm_python, progress, tmp_path):
    from nightshift.training.base_model import resolve_base_model

    champion(folder=resolve_base_model("smollm2-135m-instruct"))
    asked = {**night, "application": with_vllm(night["application"]), "storage": (tmp_path / "other").as_uri()}
    by_vllm = answered_by_vllm(vllm_python, generate.Spec(**asked), tmp_path)
    assert by_vllm.verdict is Verdict.PASS
    by_transformers = answered_by_transformers(generate.Spec(**night), progress)
    assert by_vllm.rows == by_transformers.rows == 25
    rows = rows_of(by_vllm)
    assert rows == rows_of(by_transformers)
    assert sum(row["tokens"] for row in rows) > 100


@pytest.mark.slow
@pytest.mark.nightly
def test_a_night_is_answered_with_an_adapter_although_the_merged_weights_are_gone(  # noqa: PLR0917
    night, trainings, crown, vllm_python, progress, tmp_path
):
    base = larger_heads(trainings().base_model, tmp_path / "base")
    spec = trainings(method="lora", lora_rank=4, precision="fp32", epochs=6, learning_rate=1e-2)
    finish(start(spec.model_copy(update={"base_model": base}), tmp_path / "train"), tmp_path / "train", 69)
    partition, manifest, _ = model_of(spec)
    crown(partition, manifest)
    merged = rows_of(answered_by_transformers(generate.Spec(**night), progress))
    for file in manifest.files:
        if file.name.startswith("model/") and file.name.endswith(".safetensors"):
            (partition / file.path).unlink()
    asked = {**night, "application": with_vllm(night["application"], adapters=True)}
    result = answered_by_vllm(vllm_python, generate.Spec(**asked), tmp_path)
    assert (result.verdict, result.rows) == (Verdict.PASS, 25)
    assert rows_of(result) == merged
    assert len({row["response"] for row in merged}) > 1


def larger_heads(folder, target):
    """A random model with the tokenizer of another, and heads of a size that vLLM knows."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id, max_position_embeddings=2048,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(target)
    tokenizer.save_pretrained(target)
    return str(target)
