"""What Nightshift asks of storage, by URI: list, read, create once, replace whole, and put a local file.

Local files, `s3://`, `gs://`, `abfs://` and `memory://` create atomically (hard link, `If-None-Match`,
`ifGenerationMatch`, `overwrite=False`, one process). Other fsspec back ends (ftp, sftp, http, hdfs, …) check and
then write, which two writers can both pass: :func:`create` refuses them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from upath import UPath

from nightshift.errors import BadEnvironment

Item = TypeVar("Item")
Found = TypeVar("Found")

REMOTE_READERS = 16
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


# Else the clients first ask how large a file is, of a listing that they keep: what was written since would not be there.
READ_ARGUMENTS: dict[str, dict[str, Any]] = {
    "s3": {"max_concurrency": 1},
    "s3a": {"max_concurrency": 1},
    "gs": {"concurrency": 1},
    "gcs": {"concurrency": 1},
}


def default_storage() -> str:
    """The storage URI of this process: `$NIGHTSHIFT_STORAGE`, or a folder in the user's home."""
    return os.environ.get("NIGHTSHIFT_STORAGE") or uri_of(Path.home() / ".nightshift" / "storage")


def uri_of(folder: Path) -> str:
    """Return the storage URI of a folder. Nothing in it is quoted: what reads such URIs takes `%20` for part of a name."""
    return f"file://{folder}"


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
    except OSError as error:
        # Google Cloud looks whether its caller may replace files before it looks whether there is one.
        if not str(error).startswith("Forbidden") or read_bytes(path) is None:
            raise
        return False
    return True


def replace(path: UPath, content: bytes) -> None:
    """Write `path`, so that a reader sees the old or the new content and never a part."""
    if is_local(path):
        _write_beside(path, content).replace(path.path)
    else:
        path.fs.pipe_file(path.path, content)


def read_bytes(path: UPath) -> bytes | None:
    """Return what a file holds, past the storage client's cache; None where there is none."""
    try:
        return bytes(path.fs.cat_file(path.path, **READ_ARGUMENTS.get(path.protocol, {})))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def readers(place: UPath) -> int:
    """Return how many threads read at once: many where each answer takes its time; on a disk they only wait for Python."""
    return 1 if is_local(place) else REMOTE_READERS


def read_each(place: UPath, read: Callable[[Item], Found], items: Sequence[Item]) -> list[Found]:
    """Return what `read` gives for each item, in order."""
    if readers(place) == 1 or len(items) < 2:
        return [read(item) for item in items]
    with ThreadPoolExecutor(min(len(items), REMOTE_READERS), "nightshift-read") as pool:
        return list(pool.map(read, items))


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
    """Return a new empty local folder, on the disk of `storage` where that is local (so that :func:`put` renames).

    Only this user can read it, because raw data of customers passes through. This process, and those that it forks,
    hold a lock on it; the first call of a process removes the folders beside that nobody holds any more, which a
    killed process left. (Where several machines share a disk, its locks must hold across them, as those of NFS do.)

    :raises BadEnvironment: another user's folder is in the way.
    """
    if is_local(storage):
        root, prefix = Path(storage.path) / ".scratch", ""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if root.stat().st_uid == os.getuid():
            root.chmod(0o700)
    else:
        root, prefix = Path(tempfile.gettempdir()), f"nightshift-{os.getuid()}-"
    if root not in _swept:
        _swept.add(root)
        _sweep(root, prefix)
    for folder in tuple(_held):  # other threads may do the same
        if not folder.exists() and (gone := _held.pop(folder, None)) is not None:
            os.close(gone)
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        except PermissionError as error:
            raise BadEnvironment(f"{root} cannot be written by this user: {error.strerror}") from error
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        with suppress(OSError):  # a file system without locks: nothing is swept there
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            _held[folder] = lock
            return folder
        os.close(lock)  # somebody swept it between the two


@contextmanager
def scratch_folder(storage: UPath) -> Iterator[Path]:
    """Give a :func:`scratch` folder to a block, and remove it with what is left in it when the block ends."""
    folder = scratch(storage)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_held: dict[Path, int] = {}
_swept: set[Path] = set()


def _sweep(root: Path, prefix: str) -> None:
    """Remove the scratch folders that no living process holds."""
    for folder in root.glob(f"{prefix}*"):
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.getuid():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


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


def names_in(folder: UPath) -> list[str]:
    """Return the names in a folder, in order, past the storage client's cache; none where there is no folder."""
    folder.fs.invalidate_cache(folder.path)
    try:
        found = folder.fs.ls(folder.path, detail=False)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = (str(path).rstrip("/").rpartition("/")[2] for path in found)
    return sorted(name for name in names if name and not name.startswith("."))
