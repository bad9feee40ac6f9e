"""Finding a base model by name: a prepared one (:mod:`built_in`), a Hugging Face id, a URI, or a local folder.

What is fetched or made lies in `$NIGHTSHIFT_CACHE/models` (default `~/.cache/nightshift/models`).
Weights are read as safetensors only: no pickles, and no code that comes with a model is ever run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path

from upath import UPath

from nightshift.errors import BadEnvironment, BadInput
from nightshift.training.built_in import BUILT_IN, PREPARED, prepared

# What loading a model needs, and nothing that could run.
MODEL_FILES = ["*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer.model"]


def cache_folder() -> Path:
    """The folder for what can be fetched again: `$NIGHTSHIFT_CACHE`, or `~/.cache/nightshift`."""
    return Path(os.environ.get("NIGHTSHIFT_CACHE") or Path.home() / ".cache" / "nightshift")


def resolve_base_model(name: str) -> Path:
    """Return a local folder with the model's safetensors, tokenizer, chat template and config.

    :raises BadInput: a folder or URI that is missing or holds no safetensors, or an id that the hub does not know.
    :raises BadEnvironment: the model must be fetched and cannot be.
    """
    if name in PREPARED:
        return prepared(name, cache_folder() / "models")
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
