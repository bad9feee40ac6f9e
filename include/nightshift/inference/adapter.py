"""The local model folder of a version: its whole model, or its LoRA adapter beside the base model (`inference.vllm.adapters`).

The folder of an adapter has the form in which adapters are published: `adapter_config.json`, which names the base model, the
adapter's weights, and tokenizer, chat template and generation config of the trained model. Merged weights are not fetched.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from upath import UPath

from nightshift.errors import BadInput
from nightshift.storage.application_version import ADAPTER, ApplicationVersion
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import fetch
from nightshift.training.base_model import base_model_digest, resolve_base_model

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MERGED = (".safetensors", ".safetensors.index.json")
INSTEAD = "set inference.vllm.adapters: false, and the merged model answers"


def fetch_served(version: ApplicationVersion, folder: Path) -> Path:
    """Return a local model folder to answer with; nothing may be written there.

    :param folder: for local copies; no version was fetched into it before.
    :raises BadInput: files of the version are gone or damaged, vLLM cannot serve its adapter, or the base model is another one
        by now.
    :raises BadEnvironment: the base model cannot be fetched.
    """
    if not version.application.inference.vllm.adapters:
        return version.fetch(folder)
    partition = UPath(version.parts.weights.uri)
    names = [file.name for file in version.weights.files]
    small = [name for name in names if name.startswith("model/") and not name.endswith(MERGED)]
    paths = [fetch(partition, version.weights, name, folder) for name in [*small, ADAPTER, f"adapter/{WEIGHTS}"]]
    adapter = paths[-1].parent
    config = json.loads((adapter / CONFIG).read_bytes())
    if what := _unserved(config, adapter / WEIGHTS):
        raise BadInput(f"{partition}: vLLM cannot serve an adapter with {what}; {INSTEAD}")
    base = _base_model(version, folder / "base")
    served = folder / "served"
    served.mkdir(parents=True)
    for path in paths:
        if path.name != CONFIG:
            (served / path.name).symlink_to(path.resolve())
    (served / CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": str(base)}), encoding="utf-8")
    return served


def _unserved(config: dict[str, Any], weights: Path) -> str | None:
    """What of an adapter vLLM would refuse once the base model is loaded, or serve otherwise than it was merged."""
    from safetensors import safe_open

    if config.get("use_dora"):
        return "DoRA (training.dora)"
    if config.get("modules_to_save"):
        return f"layers that were trained whole ({', '.join(config['modules_to_save'])})"
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        return "trained biases"
    with safe_open(weights, framework="numpy") as file:
        names = " ".join(file.keys())
    # Merged into embeddings that are also the output layer it changes both; vLLM would change one.
    if "lora_embedding_" in names or ".lm_head." in names:
        return "changes to the embeddings or the output layer (training.lora_targets)"
    return "changes to the experts of a mixture (training.lora_targets)" if ".experts." in names else None


def _base_model(version: ApplicationVersion, folder: Path) -> Path:
    """A local folder with the model that the version's adapter was trained on."""
    inputs = version.weights.inputs
    if started := inputs.get("started_from"):  # the merged model of another version
        parent = next(parent for parent in version.weights.parents if parent.digest == started)
        partition, manifest = UPath(parent.uri), require_manifest(UPath(parent.uri), parent.digest)
        names = [file.name for file in manifest.files if file.name.startswith("model/")]
        paths = [fetch(partition, manifest, name, folder) for name in names]
        return paths[0].parent
    base = resolve_base_model(version.base_model)
    if base_model_digest(base) != inputs.get("base_model"):
        raise BadInput(
            f"{version.base_model} is not the model any more that {version.name} was trained from; {INSTEAD}"
        )
    return base
