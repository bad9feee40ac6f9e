"""The four things Nightshift asks of storage, by URI: read, create once, replace whole, and put a local file.

Local files, `s3://`, `gs://`, `abfs://` and `memory://` create atomically (hard link, `If-None-Match`,
`ifGenerationMatch`, `overwrite=False`, one process). Other fsspec back ends (ftp, sftp, http, hdfs, …) check and
then write, which two writers can both pass: :func:`create` refuses them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

from upath import UPath

from nightshift.errors import BadEnvironment

LOCAL = {"", "file", "local"}
CREATE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "s3": {"mode": "create"},
    "s3a": {"mode": "create"},
    "gs": {"mode": "create"},
    "gcs": {"mode": "create"},
    "memory": {"mode": "create"},
    "abfs": {"overwrite": False},
    "abfss": {"overwrite": False},
    "az": {"overwrite": False},
}


def default_storage() -> str:
    """The storage URI of this process: `$NIGHTSHIFT_STORAGE`, or a folder in the user's home."""
    return os.environ.get("NIGHTSHIFT_STORAGE") or (Path.home() / ".nightshift" / "storage").as_uri()


def is_local(path: UPath) -> bool:
    """Whether `path` is a file of this machine."""
    return path.protocol in LOCAL


def create(path: UPath, content: bytes) -> bool:
    """Write `path` unless it exists, atomically; return whether this call wrote it.

    :raises BadEnvironment: the back end cannot create atomically.
    """
    if is_local(path):
        temporary = _write_beside(path, content)
        try:
            os.link(temporary, path.path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True
    if path.protocol not in CREATE_ARGUMENTS:
        raise BadEnvironment(
            f"{path}: storage of kind {path.protocol!r} cannot create a file atomically; "
            f"use one of file, {', '.join(CREATE_ARGUMENTS)}"
        )
    try:
        path.fs.pipe_file(path.path, content, **CREATE_ARGUMENTS[path.protocol])
    except FileExistsError:
        return False
    return True


def replace(path: UPath, content: bytes) -> None:
    """Write `path`, so that a reader sees the old or the new content and never a part."""
    if is_local(path):
        _write_beside(path, content).replace(path.path)
    else:
        path.fs.pipe_file(path.path, content)


def put(source: Path, target: UPath) -> None:
    """Move the local file `source` to `target` (a rename where both are on one disk, else a copy)."""
    if is_local(target):
        Path(target.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target.path)
    else:
        target.fs.put_file(str(source), target.path)


def local_copy(path: UPath, folder: Path) -> Path:
    """Return a local path with the content of `path`: itself, or a copy in `folder`."""
    if is_local(path):
        return Path(path.path)
    target = folder / path.name
    path.fs.get_file(path.path, str(target))
    return target


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a local file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def scratch(storage: UPath) -> Path:
    """Return a new empty local folder, on the disk of `storage` where that is local (so that :func:`put` renames)."""
    root = Path(storage.path) / ".scratch" if is_local(storage) else Path(tempfile.gettempdir()) / "nightshift"
    folder = root / uuid.uuid4().hex
    folder.mkdir(parents=True)
    return folder


def _write_beside(path: UPath, content: bytes) -> Path:
    """Write `content` to a new file beside the local `path`, on disk before this returns."""
    target = Path(path.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return temporary
