"""The manifest of a partition: its files with their digests, its inputs and parents, and the digest of its content."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from upath import UPath

from nightshift.errors import BadInput
from nightshift.settings.interval import Interval
from nightshift.storage.files import read_bytes

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1


class DataFile(BaseModel):
    """One file of a partition; `path` is relative to the partition, `name` is what it was called when written.

    A `log` tells how the rest was made (times, speeds), and is no part of what the partition holds.
    """

    name: str
    path: str
    sha256: str
    bytes: int
    rows: int | None = None
    log: bool = False


class Parent(BaseModel):
    """A partition that this one was made from."""

    uri: str
    digest: str


class Manifest(BaseModel):
    """What a partition holds and what it was made from."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal[
        "examples", "snapshot", "checkpoint", "model", "answers", "evaluation", "traffic", "responses", "interactions",
        "reference", "profile", "drift", "bias", "shadow", "watch", "replay", "probes", "scores", "similarity",
        "tokens", "staged", "version", "search", "evidence", "index", "feedback", "gathered", "corrections",
        "review_sample",
    ]  # fmt: skip
    schema_version: int = SCHEMA_VERSION
    application: str
    interval: Interval | None = None
    inputs: dict[str, Any]
    inputs_digest: str
    files: list[DataFile]
    counts: dict[str, int] = {}
    facts: dict[str, Any] = {}
    parents: list[Parent] = []
    code_version: str
    created: datetime
    erasure: int = 0  # number of the newest erasure that took rows out of it
    published: str | None = None  # its digest before the first one, by which what was made from it goes on to name it

    @property
    def digest(self) -> str:
        """SHA-256 of what was published: the same for every attempt that wrote the same content."""
        if self.published:
            return self.published
        content = self.model_dump(mode="json", include={"kind", "application", "inputs_digest", "counts"})
        content["files"] = sorted([file.name, file.sha256] for file in self.files if not file.log)
        return digest_of(content)

    def file(self, name: str) -> DataFile:
        """Return the file that was written as `name`.

        :raises BadInput: the partition has no such file.
        """
        for file in self.files:
            if file.name == name:
                return file
        raise BadInput(
            f"the {self.kind} manifest lists no file {name!r}; it lists {[file.name for file in self.files]}"
        )


def digest_of(value: Any) -> str:
    """Return the SHA-256 (hex) of a JSON value in its canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_manifest(partition: UPath) -> Manifest | None:
    """Return the manifest of a partition, or None where there is none yet.

    :raises BadInput: the manifest cannot be read, or another version of Nightshift wrote it.
    """
    content = read_bytes(partition / MANIFEST)
    return None if content is None else manifest_of(partition / MANIFEST, content)


def manifest_of(path: UPath, content: bytes) -> Manifest:
    """Return the manifest that a file holds.

    :raises BadInput: it is none, or another version of Nightshift wrote it.
    """
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise BadInput(f"{path}: not a manifest: {error}") from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise BadInput(f"{path} has schema version {manifest.schema_version}, this code reads {SCHEMA_VERSION}")
    return manifest


def require_manifest(partition: UPath, digest: str | None = None) -> Manifest:
    """Return the manifest of a partition that must exist, and hold the content `digest` where one is given.

    :raises BadInput: there is none, or it holds something else by now.
    """
    manifest = read_manifest(partition)
    if manifest is None:
        raise BadInput(f"{partition}: nothing is published there (no {MANIFEST})")
    if digest and manifest.digest != digest:
        raise BadInput(f"{partition}: holds {manifest.digest[:12]} now, {digest[:12]} was asked for")
    return manifest
