"""What an erasure will do, written down before it does anything: whoever goes on after a kill goes on from this."""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel
from upath import UPath

from nightshift.data.snapshot import TRAIN
from nightshift.storage.manifest import Manifest


class Change(BaseModel):
    """A partition that is rewritten; `path` is below the application's folder, as all paths of a plan.

    :param rows: name of a Parquet file -> places of the rows, from 0, that it loses.
    :param shift: numbers of rows that the prompts of this partition lose: those in the column `row` after them move up.
    :param pages: names of files that show a row: a page becomes a sentence, of JSON the shown rows go.
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
    :param swept: partitions with files that no manifest lists, which an attempt left that was killed or replaced.
    :param snapshots: those of `changes`.
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
        """Snapshots with a row that models of them were trained on."""
        return {change.path for change in self.changes if change.kind == "snapshots" and TRAIN in change.rows}

    @property
    def rows(self) -> int:
        """Rows of examples and traffic."""
        sources = [change for change in self.changes if change.kind in {"examples", "traffic"}]
        return sum(len(places) for change in sources for places in change.rows.values())

    @property
    def rewritten_by_kind(self) -> dict[str, int]:
        """How many partitions of each kind, and pages."""
        pages = {"data_docs": len(self.pages)} if self.pages else {}
        return dict(sorted(Counter(change.kind for change in self.changes).items())) | pages

    @property
    def deleted_by_kind(self) -> dict[str, int]:
        """How many folders of each kind, and partitions with files that no manifest lists."""
        swept = {"unlisted files": len(self.swept)} if self.swept else {}
        return dict(sorted(Counter(path.split("/", 1)[0] for path in self.deleted).items())) | swept


def unlisted(partition: UPath, manifest: Manifest | None) -> list[str]:
    """Return the paths of the files of attempts in a partition that its manifest does not list."""
    partition.fs.invalidate_cache(partition.path)
    root = f"{partition.path.strip('/')}/"
    listed = {file.path for file in manifest.files} if manifest else set()
    found = {str(path): str(path).lstrip("/").removeprefix(root) for path in partition.fs.find(partition.path)}
    # An attempt has a folder. A path that keeps its beginning is that of a file, which is no partition.
    return [path for path, name in found.items() if "/" in name and name not in listed and name != path.lstrip("/")]
