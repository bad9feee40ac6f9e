"""The plan of an erasure, which is stored before anything changes, so that an erasure can continue after a kill."""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel
from upath import UPath

from nightshift.data.snapshot import TRAIN
from nightshift.storage.manifest import Manifest


class Change(BaseModel):
    """A partition that is rewritten; `path` is below the application's folder, as all paths of a plan.

    :param rows: name of a Parquet file -> indices of the rows, from 0, that it loses.
    :param shift: row numbers that the prompts of this partition lose; later numbers in the column `row` are lowered.
    :param pages: names of files that show a row: pages are replaced by a sentence, JSON files lose the rows.
    """

    path: str
    rows: dict[str, list[int]] = {}
    shift: list[int] = []
    pages: list[str] = []

    @property
    def kind(self) -> str:
        """The folder of the application that it is in."""
        return self.path.split("/", 1)[0]


class Plan(BaseModel):
    """What is rewritten, and what is deleted because it can be made again.

    :param deleted: folders.
    :param pages: of Great Expectations, which no manifest lists.
    :param swept: partitions with unlisted files of killed or replaced attempts.
    :param snapshots: those among `changes`.
    :param versions: partitions of versions whose prompt has a row as an example.
    """

    changes: list[Change] = []
    deleted: list[str] = []
    pages: list[str] = []
    swept: list[str] = []
    snapshots: list[str] = []
    versions: list[str] = []

    @property
    def trained(self) -> set[str]:
        """Snapshots with an erased row that models were trained on."""
        return {change.path for change in self.changes if change.kind == "snapshots" and TRAIN in change.rows}

    @property
    def rows(self) -> int:
        """Rows of examples and traffic."""
        sources = [change for change in self.changes if change.kind in {"examples", "traffic"}]
        return sum(len(places) for change in sources for places in change.rows.values())

    @property
    def rewritten_by_kind(self) -> dict[str, int]:
        """Numbers of rewritten partitions of each kind, and of pages."""
        pages = {"data_docs": len(self.pages)} if self.pages else {}
        return dict(sorted(Counter(change.kind for change in self.changes).items())) | pages

    @property
    def deleted_by_kind(self) -> dict[str, int]:
        """Numbers of deleted folders of each kind, and of partitions with unlisted files."""
        swept = {"unlisted files": len(self.swept)} if self.swept else {}
        return dict(sorted(Counter(path.split("/", 1)[0] for path in self.deleted).items())) | swept


def unlisted(partition: UPath, manifest: Manifest | None) -> list[str]:
    """Return the paths of the files of attempts in a partition that its manifest does not list."""
    partition.fs.invalidate_cache(partition.path)
    root = f"{partition.path.strip('/')}/"
    listed = {file.path for file in manifest.files} if manifest else set()
    found = {str(path): str(path).lstrip("/").removeprefix(root) for path in partition.fs.find(partition.path)}
    # Attempts write to folders. A path that equals its root is a file, not a partition.
    return [path for path, name in found.items() if "/" in name and name not in listed and name != path.lstrip("/")]
