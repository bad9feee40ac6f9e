"""The scores of a published evaluation as one small file, which a release reads without heavy libraries."""

from __future__ import annotations

from pydantic import BaseModel
from upath import UPath

from nightshift.evaluation.estimates import Comparison
from nightshift.evaluation.gates import Decision
from nightshift.storage.manifest import Manifest
from nightshift.storage.partition import read_file

SCORES = "scores.json"


class Example(BaseModel):
    """A held-out example with the answers of two models; `other` is the champion's, or without one the base model's."""

    prompt: str
    wanted: str
    other: str
    candidate: str


class Examples(BaseModel):
    """Held-out examples of one kind, such as those that only the candidate gets right: their number, and a few of them."""

    title: str
    count: int
    few: list[Example]


class ScoreFile(BaseModel):
    """What `scores.json` holds."""

    application: str
    snapshot: str  # digest
    days: list[str]
    models: dict[str, str]  # role -> digest
    comparison: Comparison
    slices: dict[str, Comparison] = {}  # known and new to the champion, where there is one
    suites: dict[str, Comparison] = {}
    changes: list[str] | None = None  # parts in which the candidate differs from the champion; None without one
    examples: list[Examples] | None = None  # side by side, for approvers; None: written by an older version
    decision: Decision

    @property
    def parts(self) -> dict[str, Comparison]:
        """Slices and suites, as the gate takes them."""
        return self.slices | self.suites


def read_scores(partition: UPath, manifest: Manifest) -> ScoreFile:
    """Return the scores of a published evaluation.

    :raises BadInput: the file is missing, or not what the manifest says.
    """
    return ScoreFile.model_validate_json(read_file(partition, manifest, SCORES))
