"""Checkpoints of one training: published whole, resumed from only after their digests were checked."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upath import UPath

from nightshift.data.partition import MANIFEST, digest_of, fetch_folder, publish, read_manifest
from nightshift.errors import BadInput

# A second one, in case the newest turns out to be damaged.
KEPT = 2

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints under one address.

    DeepSpeed writes pickles. They are read back only when the manifest lists their digest and these very inputs.
    """

    def __init__(self, root: UPath, application: str, inputs: Mapping[str, Any]) -> None:
        self._root = root
        self._application = application
        self._inputs = dict(inputs)

    def save(self, folder: Path, step: int) -> None:
        """Publish the local `folder` (it is moved) as the checkpoint of `step`, and drop the oldest ones."""
        partition = self._root / f"step-{step:06}"
        publish(
            partition, folder, kind="checkpoint", application=self._application, inputs=self._inputs_at(step),
            counts={"step": step},
        )  # fmt: skip
        for old in self._newest_first()[KEPT:]:
            _drop(old)

    def newest(self, folder: Path) -> Path | None:
        """Return a local folder with the newest whole checkpoint (itself, or a copy in `folder`), or None."""
        for partition in self._newest_first():
            try:
                manifest = read_manifest(partition)
                if manifest is None:
                    continue
                if manifest.inputs_digest == digest_of(self._inputs_at(manifest.counts["step"])):
                    return fetch_folder(partition, manifest, folder / partition.name)
                log.warning("%s was made from other inputs and is not used", partition)
            except BadInput as error:
                log.warning("a checkpoint cannot be used, the one before it is tried: %s", error)
        return None

    def drop_all(self) -> None:
        """Remove every checkpoint: the model that they were for is published."""
        for partition in self._newest_first():
            _drop(partition)

    def _inputs_at(self, step: int) -> dict[str, Any]:
        return {**self._inputs, "step": step}

    def _newest_first(self) -> list[UPath]:
        if not self._root.exists():
            return []
        return sorted(
            (path for path in self._root.iterdir() if path.is_dir()), key=lambda path: path.name, reverse=True
        )


def history(checkpoint: Path) -> list[dict[str, Any]]:
    """Return the metrics up to a checkpoint: `{"step", "timestamp" (ms), "metrics"}` each, in order."""
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    return list(state["log_history"])


def _drop(partition: UPath) -> None:
    # Without its manifest nobody trusts the rest, wherever the removal is interrupted.
    manifest = partition / MANIFEST
    if manifest.exists():
        manifest.unlink()
    partition.fs.rm(partition.path, recursive=True)
