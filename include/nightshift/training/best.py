"""The weights with the lowest held-out loss so far, kept until the training ends, without optimizer states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from upath import UPath

from nightshift.storage.files import names_in
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import drop, fetch_folder, publish

FILE = "weights.safetensors"


def lowest(history: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Return the step of the lowest held-out loss, and how many were measured after it; the first of equals counts.

    :param history: `{"step", "metrics"}` each, in order; at least one of the metrics is a `held_out_loss`.
    """
    losses = [
        (entry["metrics"]["held_out_loss"], entry["step"]) for entry in history if "held_out_loss" in entry["metrics"]
    ]
    best = min(range(len(losses)), key=lambda number: losses[number][0])
    return losses[best][1], len(losses) - best - 1


class BestWeights:
    """Trained weights under one address, by step.

    :param work: a local folder for copies.
    """

    def __init__(self, root: UPath, application: str, inputs: Mapping[str, Any], work: Path) -> None:
        self._root = root
        self._work = work
        self._application = application
        self._inputs = dict(inputs)

    def publish(self, weights: dict[str, torch.Tensor], step: int) -> None:
        """Keep the weights of a step. Those before stay until :meth:`drop`: a checkpoint may lead back to them."""
        from safetensors.torch import save_file

        folder = self._work / "best"
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / FILE)
        publish(
            self._at(step), folder, kind="checkpoint", application=self._application,
            inputs={**self._inputs, "step": step}, counts={"step": step},
        )  # fmt: skip

    def fetch(self, step: int) -> dict[str, torch.Tensor]:
        """Return the weights of a step."""
        from safetensors.torch import load_file

        partition = self._at(step)
        return load_file(fetch_folder(partition, require_manifest(partition), self._work / "best") / FILE)

    def drop(self, before: int | None = None) -> None:
        """Remove the weights of all steps, or of those before one."""
        for name in names_in(self._root):
            if before is None or name < self._at(before).name:
                drop(self._root / name)

    def _at(self, step: int) -> UPath:
        return self._root / f"step-{step:06}"
