"""Anchors of the audit log: its count and its head, kept elsewhere, for example as files at a URI."""

from __future__ import annotations

import re
from typing import Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from upath import UPath

from nightshift.storage.files import create, names_in


class Anchor(BaseModel):
    """How long the log was at some moment, and the hash of its last entry.

    :param chain: the hash of its first entry.
    :param previous: the count of the anchor before in the same place, so that one that is taken away is missed.
    :param public_key: of the key that signed all this (:mod:`nightshift.audit.signature`); empty: nobody did.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    chain: str
    storage: str
    count: int
    head: str
    previous: int = 0
    anchored: AwareDatetime
    public_key: str = ""
    signature: str = ""
    place: str = Field("", exclude=True)

    def is_of(self, chain: str, storage: str) -> bool:
        """Whether it is of a log, or of another that lay in the same storage."""
        return self.chain == chain or self.storage == storage

    def __str__(self) -> str:
        return f"entry {self.count} was anchored in {self.place} at {self.anchored:%Y-%m-%d %H:%M:%S} UTC"


def anchor_in(content: bytes | str, place: str) -> Anchor | None:
    """Return the anchor that a place keeps as this; None: it is none."""
    try:
        return Anchor.model_validate_json(content).model_copy(update={"place": place})
    except ValidationError:
        return None


class Witness(Protocol):
    """A place that keeps anchors: hourly or whenever there is something new, all of them or the newest only."""

    name: str
    hourly: bool
    keeps_all: bool

    def every(self) -> tuple[list[Anchor], list[str]]:
        """Return all anchors, of whatever log, and what is wrong with others."""

    def newest(self, chain: str, storage: str) -> Anchor | None:
        """Return the newest anchor of a log, or of another that lay in the same storage."""

    def keep(self, anchor: Anchor) -> None:
        """Add an anchor; where there is one of the same entry, that stays."""


class AnchorFiles:
    """Anchors as files `<uri>/<log>/<count>.json`, each created once; a bucket with object lock keeps them from everybody."""

    hourly = True  # every ten minutes would be 52,000 files a year, which nobody may ever remove
    keeps_all = True

    def __init__(self, uri: str) -> None:
        self.name = re.sub(r"//[^/@\s]*@", "//", uri)
        self._uri = uri

    def every(self) -> tuple[list[Anchor], list[str]]:
        """Return all anchors, of whatever log, and what is wrong with others."""
        found, wrong = [], []
        files = [path for log in self._logs() for path in self._files(log)]
        # Object stores are asked for many at once.
        contents = self._folder.fs.cat_ranges([path.path for path in files], None, None)
        for path, content in zip(files, contents, strict=True):
            if isinstance(content, Exception):
                raise content
            if anchor := anchor_in(content, self.name):
                found.append(anchor)
            else:
                wrong.append(f"{path} was edited: it is no anchor any more")
        return found, wrong

    def newest(self, chain: str, storage: str) -> Anchor | None:
        """Return the newest anchor of a log, or of another that lay in the same storage."""
        last = [next(filter(None, map(self._read, reversed(self._files(log)))), None) for log in self._logs()]
        mine = [anchor for anchor in last if anchor and anchor.is_of(chain, storage)]
        return max(mine, key=lambda anchor: anchor.anchored, default=None)

    def keep(self, anchor: Anchor) -> None:
        """Add an anchor; where there is one of the same entry, that stays.

        :raises BadEnvironment: the place cannot create files atomically.
        """
        create(
            self._folder / anchor.chain[:16] / f"{anchor.count:012d}.json", anchor.model_dump_json(indent=1).encode()
        )

    @property
    def _folder(self) -> UPath:
        return UPath(self._uri)  # not before it is asked: one that is no storage is an error of this place alone

    def _logs(self) -> list[UPath]:
        return [self._folder / name for name in names_in(self._folder) if re.fullmatch(r"[0-9a-f]{16}", name)]

    def _files(self, log: UPath) -> list[UPath]:
        return [log / name for name in names_in(log) if re.fullmatch(r"\d{12}\.json", name)]

    def _read(self, path: UPath) -> Anchor | None:
        return anchor_in(path.fs.cat_file(path.path), self.name)
