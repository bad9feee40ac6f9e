"""Checkpoints of one training: published whole, resumed from only after their digests were checked."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upath import UPath

from nightshift.errors import BadInput
from nightshift.storage.manifest import DataFile, digest_of, read_manifest
from nightshift.storage.partition import drop, fetch_folder, publish, upload

# A second one, in case the newest turns out to be damaged.
KEPT = 2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this machine, its digests checked.

    :param processes: how many wrote it, on all nodes.
    :param training: the settings of the training that it belongs to, with what was decided.
    """

    folder: Path
    step: int
    processes: int
    training: dict[str, Any]


class Checkpoints:
    """The checkpoints under one address.

    DeepSpeed writes pickles. They are read back only when the manifest lists their digest and these very inputs.

    :param training: the settings of the training that writes them.
    """

    def __init__(
        self, root: UPath, application: str, inputs: Mapping[str, Any], training: Mapping[str, Any] | None = None
    ) -> None:
        self._root = root
        self._application = application
        self._inputs = dict(inputs)
        self._training = dict(training or {})

    def upload(self, folder: Path, step: int, attempt: str) -> list[DataFile]:
        """Move what one node wrote at `step` (the local `folder`) into storage, where nobody sees it yet.

        :param attempt: the same on all nodes, and used by no other attempt (:func:`partition.attempt_name`).
        """
        return upload(self._at(step), folder, attempt)

    def publish(self, files: list[DataFile], step: int, processes: int) -> None:
        """Make what all nodes uploaded at `step` a checkpoint of so many processes, and drop the oldest ones."""
        publish(
            self._at(step),
            files,
            kind="checkpoint",
            application=self._application,
            inputs=self._inputs_at(step),
            counts={"step": step},
            facts={"processes": processes, "training": self._training},
        )
        for old in self._newest_first()[KEPT:]:
            drop(old)

    def newest(self, folder: Path) -> Checkpoint | None:
        """Return the newest whole checkpoint, where it lies or as a copy in `folder`, or None."""
        for partition in self._newest_first():
            try:
                manifest = read_manifest(partition)
                if manifest is None:
                    continue
                if manifest.inputs_digest == digest_of(self._inputs_at(manifest.counts["step"])):
                    local = fetch_folder(partition, manifest, folder / partition.name)
                    facts = manifest.facts
                    return Checkpoint(local, manifest.counts["step"], facts["processes"], facts.get("training", {}))
                log.warning("%s was made from other inputs and is not used", partition)
            except BadInput as error:
                log.warning("a checkpoint cannot be used, the one before it is tried: %s", error)
        return None

    def drop_all(self) -> None:
        """Remove every checkpoint: the model that they were for is published."""
        for partition in self._newest_first():
            drop(partition)

    def _at(self, step: int) -> UPath:
        return self._root / f"step-{step:06}"

    def _inputs_at(self, step: int) -> dict[str, Any]:
        return {**self._inputs, "step": step}

    def _newest_first(self) -> list[UPath]:
        # Training processes save and drop checkpoints, too: what an object store's client remembers may be gone.
        self._root.fs.invalidate_cache(self._root.path)
        if not self._root.exists():
            return []
        return sorted(
            (path for path in self._root.iterdir() if path.is_dir()), key=lambda path: path.name, reverse=True
        )


def history(checkpoint: Path) -> list[dict[str, Any]]:
    """Return the metrics up to a checkpoint: `{"step", "timestamp" (ms), "metrics"}` each, in order."""
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    return list(state["log_history"])
