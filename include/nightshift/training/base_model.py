"""Finds a base model by name: a prepared one (:mod:`built_in`), a Hugging Face id, a URI, or a local folder.

What is fetched or made lies in `$NIGHTSHIFT_CACHE/models` (default `~/.cache/nightshift/models`).
Weights are read as safetensors only: no pickles, and no code that comes with a model is ever run. Who only counts tokens
fetches no weights.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

from upath import UPath

from nightshift.errors import BadEnvironment, BadInput
from nightshift.training.built_in import BUILT_IN, PREPARED, prepared

# What loading a model needs, and nothing that could run.
WEIGHTS = "*.safetensors"
TOKENIZER_FILES = ["*.json", "*.txt", "*.jinja", "tokenizer.model"]
POOLING = "1_Pooling/config.json"  # of a sentence embedding model
MODEL_FILES = [WEIGHTS, *TOKENIZER_FILES, POOLING]
OTHER_FOLDERS = "[!1]*/*"  # the same weights in other formats

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder for what can be fetched again: `$NIGHTSHIFT_CACHE`, or `~/.cache/nightshift`."""
    return Path(os.environ.get("NIGHTSHIFT_CACHE") or Path.home() / ".cache" / "nightshift")


def resolve_base_model(name: str) -> Path:
    """Return a local folder with the model's safetensors, tokenizer, chat template and config.

    :raises BadInput: a folder or URI that is missing or holds no safetensors, or an id that the hub does not know.
    :raises BadEnvironment: the model must be fetched and cannot be.
    """
    folder = _resolve(name, MODEL_FILES)
    if not (folder / "config.json").is_file() or not any(folder.glob(WEIGHTS)):
        raise BadInput(f"base_model {name!r}: {folder} holds no config.json with {WEIGHTS}; convert it to safetensors")
    return folder


def resolve_tokenizer(name: str) -> Path:
    """Return a local folder with the tokenizer, chat template and config of a base model, and perhaps its weights.

    :raises BadInput: a folder or URI that is missing, or an id that the hub does not know.
    :raises BadEnvironment: the files must be fetched and cannot be.
    """
    return _resolve(name, TOKENIZER_FILES)


def base_model_digest(folder: Path) -> str:
    """Return the SHA-256 (hex) over the names and contents of the files that loading the model reads.

    Files that are as they were are not read again: what they hashed to is kept in the cache folder.
    """
    paths = sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)})
    known = _known_digests(folder)
    digests = {}
    for path in paths:
        stat = path.stat()
        version = f"{path.name} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
        if version in known:
            digests[version] = known[version]
        else:
            digests[version] = _digest_of(path)
    if digests != known:
        _keep_digests(folder, digests)
    return _digest_of_names(paths, digests.values())


def tokenizer_digest(folder: Path) -> str:
    """Return the SHA-256 (hex) over the names and contents of the files that loading the tokenizer reads."""
    paths = sorted({path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)})
    return _digest_of_names(paths, map(_digest_of, paths))


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_names(paths: Iterable[Path], digests: Iterable[str]) -> str:
    lines = (f"{path.name} {digest}\n" for path, digest in zip(paths, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _known_digests(folder: Path) -> dict[str, str]:
    try:
        known = json.loads(_digests_file(folder).read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _keep_digests(folder: Path, digests: dict[str, str]) -> None:
    file = _digests_file(folder)
    work = file.with_suffix(f".{uuid.uuid4().hex}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        work.write_text(json.dumps(digests))
        work.replace(file)
    except OSError as error:
        log.info("the digests of %s are not kept, and made again next time: %s", folder, error)


def _digests_file(folder: Path) -> Path:
    return cache_folder() / "digests" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]}.json"


def _resolve(name: str, wanted: list[str]) -> Path:
    if name in PREPARED:
        return prepared(name, cache_folder() / "models")
    if "://" in name:
        return _from_storage(UPath(name), wanted)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        raise BadInput(f"base_model {name!r}: there is no such folder")
    return _from_hub(name, wanted)


def _from_storage(source: UPath, wanted: list[str]) -> Path:
    """A copy of the wanted files of a folder in an object store: of what it holds now, fetched once."""
    try:
        files = sorted(path for pattern in wanted for path in source.glob(pattern))
        infos = {_below(path, source): (path, path.fs.info(path.path)) for path in files}
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
                (work / name).parent.mkdir(exist_ok=True)
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


def _below(path: UPath, folder: UPath) -> str:
    return str(path.path).removeprefix(str(folder.path).rstrip("/") + "/")


def _from_hub(name: str, wanted: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=[OTHER_FOLDERS]))
        if WEIGHTS in wanted and not any(folder.glob(WEIGHTS)):
            # While the hub is away, what was fetched before counts as all, and that may be a tokenizer.
            _ask_hub(name)
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
    return folder


def _ask_hub(name: str) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        HfApi().model_info(name)
    except RepositoryNotFoundError:
        raise
    except Exception as error:  # of the hub's HTTP client, which is another with each version
        raise OSError(str(error)) from error
