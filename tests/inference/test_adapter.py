"""A version that was fine-tuned with LoRA is fetched as its adapter, or refused where vLLM would answer otherwise."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from upath import UPath

from nightshift.errors import BadInput
from nightshift.inference.adapter import fetch_served
from nightshift.settings.application import Application
from nightshift.storage.application_version import Parts, open_version, publish_version
from nightshift.storage.files import scratch
from nightshift.storage.manifest import Parent
from nightshift.storage.partition import partition_of, publish
from nightshift.training.base_model import base_model_digest

SMALL = {"config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"}
MERGED = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json")
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


def application(**vllm):
    source = {"uri": "rows.jsonl", "columns": {"prompt": "text", "answer": "answer"}}
    return Application(name="app", sources=[source], inference={"engine": "vllm", "vllm": vllm})


@pytest.fixture
def trained(storage, wordless_model):
    """A function that publishes weights as a training does: the merged model, and its adapter unless `config` is None."""

    def publish_weights(name="one", config=(), layer=LAYER, base=str(wordless_model), started=None):
        folder = scratch(UPath(storage))
        (folder / "model").mkdir()
        for file in (*SMALL, *MERGED):
            (folder / "model" / file).write_text(f'{{"of": "{name}"}}')
        if config is not None:
            (folder / "adapter").mkdir()
            told = {"r": 4, "lora_alpha": 8, "base_model_name_or_path": base, **dict(config)}
            (folder / "adapter" / "adapter_config.json").write_text(json.dumps(told))
            tensors = {f"{layer}.lora_{side}.weight": np.zeros((4, 4), np.float32) for side in "AB"}
            save_file(tensors, folder / "adapter" / "adapter_model.safetensors")
        inputs = {"base_model": base_model_digest(wordless_model), "name": name}
        parents = [Parent(uri="memory://snapshot", digest="0" * 64), *([started] if started else [])]
        partition = partition_of(storage, "app", "models", name)
        manifest = publish(
            partition, folder, kind="model", application="app", parents=parents, facts={"base_model": base},
            inputs=inputs | ({"started_from": started.digest} if started else {}),
        )  # fmt: skip
        return Parent(uri=str(partition), digest=manifest.digest)

    return publish_weights


def version_of(weights, storage, **vllm):
    app = application(**vllm)
    at, made = publish_version(app, storage, Parts.of(app, weights))
    return open_version(str(at), made.digest, app)


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("storage", ["memory"], indirect=True)
def test_the_adapter_and_the_tokenizer_are_fetched_and_no_merged_weights(trained, storage, tmp_path, wordless_model):
    served = fetch_served(version_of(trained(), storage, adapters=True), tmp_path / "fetched")
    adapter = {"adapter_config.json", "adapter_model.safetensors"}
    fetched = {f"model/{name}" for name in SMALL} | {f"adapter/{name}" for name in adapter}
    assert files_in(tmp_path / "fetched") - {f"served/{name}" for name in SMALL | adapter} == fetched
    assert files_in(served) == SMALL | adapter
    config = json.loads((served / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == (str(wordless_model), 4)


def test_files_of_local_storage_are_not_copied(trained, storage, tmp_path):
    weights = trained()
    served = fetch_served(version_of(weights, storage, adapters=True), tmp_path / "fetched")
    assert all(name.startswith("served/") for name in files_in(tmp_path / "fetched"))
    assert (served / "tokenizer.json").resolve().is_relative_to(UPath(weights.uri).path)
    assert fetch_served(version_of(weights, storage), tmp_path / "whole").joinpath(MERGED[0]).is_file()


def test_an_adapter_on_a_trained_model_is_served_on_that(trained, storage, tmp_path):
    started = trained("sft")
    served = fetch_served(version_of(trained("dpo", started=started), storage, adapters=True), tmp_path)
    base = UPath(json.loads((served / "adapter_config.json").read_text())["base_model_name_or_path"])
    assert set(MERGED) <= {path.name for path in base.iterdir()}
    assert json.loads((base / MERGED[0]).read_text()) == {"of": "sft"}
    assert json.loads((served / "tokenizer.json").read_text()) == {"of": "dpo"}


def test_only_answers_of_an_unmerged_adapter_have_another_address(trained, storage):
    lora, full = trained("lora"), trained("full", config=None)
    assert version_of(lora, storage).application.answer_inputs == {}
    assert version_of(lora, storage, adapters=True).application.answer_inputs == {"adapters": True}
    assert version_of(full, storage, adapters=True).application.answer_inputs == {}
    assert version_of(lora, storage, adapters=True).digest == version_of(lora, storage).digest


def test_a_model_whose_weights_were_all_trained_is_served_whole(trained, storage, tmp_path):
    served = fetch_served(version_of(trained(config=None), storage, adapters=True), tmp_path)
    assert set(MERGED) <= {path.name for path in served.iterdir()}


@pytest.mark.parametrize(
    ("config", "layer", "said"),
    [
        ({"use_dora": True}, LAYER, "DoRA"),
        ({"modules_to_save": ["norm"]}, LAYER, r"trained whole \(norm\)"),
        ({"bias": "all"}, LAYER, "trained biases"),
        ({}, "base_model.model.lm_head", "the embeddings or the output layer"),
        ({}, "base_model.model.model.layers.0.mlp.experts.3.w1", "experts of a mixture"),
    ],
)
def test_an_adapter_that_vllm_cannot_serve_is_refused_before_the_base_model_is_fetched(  # noqa: PLR0917
    trained, storage, tmp_path, config, layer, said
):
    version = version_of(trained(config=config, layer=layer, base="/nowhere"), storage, adapters=True)
    with pytest.raises(BadInput, match=rf"{said}.*set inference\.vllm\.adapters: false"):
        fetch_served(version, tmp_path)


def test_an_adapter_is_not_put_on_a_base_model_that_has_changed(trained, storage, tmp_path, wordless_model):
    other = tmp_path / "other"
    other.mkdir()
    for path in wordless_model.iterdir():
        (other / path.name).write_bytes(path.read_bytes() + b" ")
    version = version_of(trained(base=str(other)), storage, adapters=True)
    with pytest.raises(BadInput, match=r"not the model any more.*set inference\.vllm\.adapters: false"):
        fetch_served(version, tmp_path / "fetched")
