"""The job `generate` as its own image runs it: with the Python of vLLM's environment, which has no Airflow."""

import os
import subprocess
from pathlib import Path

import pytest
from answered_intervals import parts_of

from nightshift.jobs import generate
from nightshift.jobs.contract import read_result
from nightshift.settings.serving import Vllm
from nightshift.settings.training import Training
from nightshift.storage.partition import partition_of, publish
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


@pytest.fixture
def fine_tuned(application, storage, tiny_models, tmp_path):
    """A model as a training with LoRA publishes it, with an adapter that says something else than its base model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from nightshift.training.base_model import base_model_digest
    from nightshift.training.load import as_trained
    from nightshift.training.task import Task
    from nightshift.training.weights import export

    tokenizer = AutoTokenizer.from_pretrained(tiny_models.random)
    torch.manual_seed(0)
    config = LlamaConfig(  # with heads of a size that vLLM knows
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id, max_position_embeddings=2048,
    )  # fmt: skip
    base, output = tmp_path / "base", tmp_path / "output"
    LlamaForCausalLM(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
    training = Training(method="lora", lora_rank=4, precision="fp32", engine="stock")
    model = as_trained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), training, 64)
    for weights in (weight for name, weight in model.named_parameters() if ".lora_B." in name):
        weights.data.normal_(0, 0.2)
    task = Task.model_construct(base_model=base, base_model_name=str(base), training=training, output=output)
    export(model, tokenizer, task, first=True)
    partition = partition_of(storage, application.name, "models", "lora")
    manifest = publish(
        partition, output, kind="model", application=application.name, inputs={"base_model": base_model_digest(base)},
        facts={"base_model": str(base)},
    )  # fmt: skip
    return partition, manifest


@pytest.mark.slow
@pytest.mark.nightly
def test_a_night_is_answered_with_an_adapter_although_the_merged_weights_are_gone(  # noqa: PLR0917
    night, fine_tuned, crown, vllm_python, progress, tmp_path
):
    partition, manifest = fine_tuned
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
