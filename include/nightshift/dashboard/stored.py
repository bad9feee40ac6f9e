"""Reads an application's storage for pages: small files by address, and listings that bypass the clients' caches.

A page reads hundreds of small files, so local files are read without the layers of fsspec (a fifth of the time), and files at
an address that their inputs determine are cached, because they never change.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from upath import UPath

from nightshift.errors import BadInput
from nightshift.storage.files import is_local, read_bytes
from nightshift.storage.manifest import MANIFEST, Manifest

SomeModel = TypeVar("SomeModel", bound=BaseModel)
ABSENT = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True)
class Store:
    """What one application has in storage, and the time zone in which people name its intervals. Stores of one place are equal.

    :raises OSError: storage cannot be reached or read; object stores have errors of their own (every method).
    """

    storage: str
    application: str
    zone: tzinfo = UTC
    place: UPath = field(init=False, compare=False, repr=False)
    root: str = field(init=False, compare=False, repr=False)  # of the place, in its file system

    def __post_init__(self) -> None:
        place = UPath(self.storage).joinpath(self.application)
        object.__setattr__(self, "place", place)
        object.__setattr__(self, "root", str(place.path).rstrip("/"))

    def names(self, *parts: str) -> list[str]:
        """Return the names in a folder, in order; empty if the folder does not exist."""
        try:
            if is_local(self.place):
                found = os.listdir(self._path(parts))  # noqa: PTH208  (iterdir makes a Path of each)
            else:
                self.place.fs.invalidate_cache(self._path(parts))
                listed = self.place.fs.ls(self._path(parts), detail=False)
                found = [str(path).rstrip("/").rpartition("/")[2] for path in listed]
        except ABSENT:
            return []
        return sorted(name for name in found if name and not name.startswith("."))

    def newest(self, folder: str) -> tuple[str, ...]:
        """Return interval and address of the newest partition in a folder, or (). It may be incomplete."""
        for interval in reversed(self.names(folder)):
            if addresses := self.names(folder, interval):
                return interval, addresses[-1]
        return ()

    def read(self, *parts: str) -> bytes | None:
        """Return the content of a file, or None if it does not exist."""
        if not is_local(self.place):
            return read_bytes(self.place.joinpath(*parts))
        try:
            with open(self._path(parts), "rb") as file:  # noqa: PTH123  (a Path costs more than the reading)
                return file.read()
        except (*ABSENT, IsADirectoryError):
            return None

    def model(self, model: type[SomeModel], *parts: str) -> SomeModel | None:
        """Return a parsed JSON file, or None if it does not exist.

        :raises BadInput: the file is invalid.
        """
        content = self.read(*parts)
        if content is None:
            return None
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            raise BadInput(
                f"{self.address(*parts)} cannot be read: {error.error_count()} errors, first {_first(error)}"
            ) from error

    def manifest(self, *parts: str) -> Manifest | None:
        """Return the manifest of a partition, or None if nothing is published."""
        return self.model(Manifest, *parts, MANIFEST)

    def address(self, *parts: str) -> str:
        """Return the URI of a file or folder."""
        return "/".join((str(self.place), *parts))

    def parts_of(self, uri: str) -> tuple[str, ...]:
        """Return the path parts of a job's URI below this application, also after storage moved; ("",) for foreign URIs."""
        _, found, below = uri.rpartition(f"/{self.application}/")
        return tuple(below.split("/")) if found else ("",)

    def _path(self, parts: tuple[str, ...]) -> str:
        return "/".join((self.root, *parts))


def _first(error: ValidationError) -> dict[str, Any]:
    one = error.errors(include_input=False, include_url=False)[0]
    return {"where": ".".join(map(str, one["loc"])), "what": one["msg"]}
