"""A partition is visible when its manifest is: files first, `manifest.json` last.

Files carry names that no other attempt uses, so two writers of one partition never touch each other's files, and
whoever writes the manifest first wins. Readers trust only what a manifest lists.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Container, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upath import UPath

from nightshift.code_version import code_version
from nightshift.errors import BadEnvironment, BadInput
from nightshift.settings.interval import Interval
from nightshift.storage.arrivals import announce
from nightshift.storage.erasures import came_since
from nightshift.storage.files import create, is_local, local_copy, put, read_bytes, replace, sha256_of
from nightshift.storage.manifest import MANIFEST, DataFile, Manifest, Parent, digest_of, read_manifest, require_manifest

# Kinds that decisions and pages look for: how many folders they lie below the application's.
ANNOUNCED = {"examples": 2, "interactions": 2, "drift": 3, "bias": 3}


def find(partition: UPath, inputs: Mapping[str, Any]) -> Manifest | None:
    """Return the manifest of a partition that was already made from these inputs, or None."""
    manifest = read_manifest(partition)
    return manifest if manifest and manifest.inputs_digest == digest_of(inputs) else None


def publish(
    partition: UPath,
    content: Path | list[DataFile],
    *,
    kind: str,
    application: str,
    inputs: Mapping[str, Any],
    interval: Interval | None = None,
    rows: Mapping[str, int] | None = None,
    counts: Mapping[str, int] | None = None,
    facts: Mapping[str, Any] | None = None,
    parents: list[Parent] | None = None,
    logs: Container[str] = (),
    replacing: bool = True,
) -> Manifest:
    """Move every file of a local folder into `partition`, then make them visible by the manifest.

    A partition that another attempt made from the same inputs in the meantime stays, and its manifest is returned.
    One made from other inputs is replaced whole; its files stay for readers that hold its manifest.

    :param content: the folder; or what :func:`upload` returned for all files of one attempt, whoever uploaded them.
    :param replacing: False: one made from other inputs stays, too, and its manifest is returned.
    :param rows: rows by file name, for files that hold rows.
    :param logs: names of files that differ between attempts and do not count in the digest.
    """
    files = content if isinstance(content, list) else upload(partition, content, attempt_name(), rows=rows, logs=logs)
    manifest = Manifest.model_validate(
        {
            "kind": kind,
            "application": application,
            "interval": interval,
            "inputs": dict(inputs),
            "inputs_digest": digest_of(inputs),
            "files": [file.model_dump() for file in files],
            "counts": dict(counts or {}),
            "facts": dict(facts or {}),
            "parents": parents or [],
            "code_version": code_version(),
            "created": datetime.now(UTC),
        }
    )
    written = _announced(partition, manifest)
    if not create(partition / MANIFEST, written):
        winner = require_manifest(partition)
        if winner.inputs_digest == manifest.inputs_digest or not replacing:
            # A client repeats a request whose answer was lost: then the manifest that is there may be this one.
            for attempt in _attempts(files) - _attempts(winner.files):
                with suppress(FileNotFoundError):
                    partition.fs.rm((partition / attempt).path, recursive=True)
            manifest = winner
        else:
            replace(partition / MANIFEST, written)
    # Only now: either this finds the erasure, or the erasure finds the partition. The split map holds no rows, and no gap.
    if kind != "similarity" and came_since(partition):
        if _attempts(files) & _attempts(manifest.files):
            drop(partition)
        raise BadEnvironment(
            f"{partition}: rows were erased while this was made; the next try begins with what is left"
        )
    return manifest


def attempt_name() -> str:
    """Return a name for the files of one attempt that no other attempt uses."""
    return uuid.uuid4().hex[:12]


def upload(
    partition: UPath,
    folder: Path,
    attempt: str,
    *,
    rows: Mapping[str, int] | None = None,
    logs: Container[str] = (),
) -> list[DataFile]:
    """Move every file of the local `folder` into `partition`, where nobody sees it before a manifest lists it."""
    files = []
    for source in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = source.relative_to(folder).as_posix()
        size, digest = source.stat().st_size, sha256_of(source)
        put(source, partition / attempt / name)
        files.append(
            DataFile(
                name=name,
                path=f"{attempt}/{name}",
                sha256=digest,
                bytes=size,
                rows=(rows or {}).get(name),
                log=name in logs,
            )
        )
    shutil.rmtree(folder)
    return files


def rewrite(partition: UPath, manifest: Manifest) -> None:
    """Put a manifest in the place of the one of a partition whose files were rewritten without some rows."""
    replace(partition / MANIFEST, _announced(partition, manifest))


def _announced(partition: UPath, manifest: Manifest) -> bytes:
    """Return a manifest as its file holds it, after saying that it is about to be written where somebody looks for it."""
    # A version from before there were erasures reads every manifest that needs none of these.
    content = manifest.model_dump_json(
        indent=1, exclude=None if manifest.erasure else {"erasure", "published"}
    ).encode()
    if depth := ANNOUNCED.get(manifest.kind):
        announce(partition.parents[depth - 1], "/".join([*partition.parts[-depth:], MANIFEST]), content)
    return content


def _attempts(files: list[DataFile]) -> set[str]:
    return {file.path.split("/", 1)[0] for file in files}


def fetch(partition: UPath, manifest: Manifest, name: str, folder: Path) -> Path:
    """Return a local path of one file of a partition, checked against its digest.

    :raises BadInput: the file is missing, or not what the manifest says.
    :raises BadEnvironment: the partition was written again since its manifest was read.
    """
    file = manifest.file(name)
    source = partition / file.path
    target = folder / Path(name).parent
    target.mkdir(parents=True, exist_ok=True)
    try:
        path = local_copy(source, target)
        digest = sha256_of(path)
    except FileNotFoundError as error:
        raise _gone(partition, manifest, source) from error
    _require_same(source, digest, file)
    return path


def read_file(partition: UPath, manifest: Manifest, name: str) -> bytes:
    """Return the content of one small file of a partition, checked against its digest. Nothing is written anywhere.

    :raises BadInput: the file is missing, or not what the manifest says.
    :raises BadEnvironment: the partition was written again since its manifest was read.
    """
    file = manifest.file(name)
    source = partition / file.path
    content = read_bytes(source)
    if content is None:
        raise _gone(partition, manifest, source)
    _require_same(source, hashlib.sha256(content).hexdigest(), file)
    return content


def _gone(partition: UPath, manifest: Manifest, source: UPath) -> BadInput | BadEnvironment:
    if came_since(partition) or read_manifest(partition) not in (None, manifest):
        return BadEnvironment(f"{partition} was written again while it was read; the next try reads what it holds now")
    return BadInput(f"{source}: the manifest lists this file, but it is gone")


def _require_same(source: UPath, digest: str, file: DataFile) -> None:
    if digest != file.sha256:
        raise BadInput(f"{source}: SHA-256 is {digest[:12]}…, the manifest says {file.sha256[:12]}…")


def drop(partition: UPath) -> None:
    """Remove a partition. Without its manifest nobody trusts the rest, wherever the removal is interrupted."""
    with suppress(FileNotFoundError):  # another process drops it at the same time
        manifest = partition / MANIFEST
        if manifest.exists():
            manifest.unlink()
        partition.fs.rm(partition.path, recursive=True)


def fetch_folder(partition: UPath, manifest: Manifest, folder: Path) -> Path:
    """Return a local folder with all files of a partition under the names they were written as, each checked.

    Where storage is local, it is the partition's own: nothing may be written there.
    """
    paths = [fetch(partition, manifest, file.name, folder) for file in manifest.files]
    if not is_local(partition):
        return folder
    first = manifest.files[0]
    return Path(str(paths[0]).removesuffix(first.name))


def partition_of(storage: str, application: str, *parts: str) -> UPath:
    """Return the address of a partition: `<storage>/<application>/<part>/…`."""
    return UPath(storage).joinpath(application, *parts)
