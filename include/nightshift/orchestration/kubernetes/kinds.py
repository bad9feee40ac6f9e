"""The kinds that start a group of pods, Job and Kubeflow Trainer's TrainJob: their APIs, and how to read their state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nightshift.settings.compute import Launcher


class Kind(NamedTuple):
    """Where an API server keeps the objects of a kind."""

    group: str
    version: str
    plural: str

    def objects_of(self, namespace: str) -> dict[str, str]:
        """Return the arguments with which the generic client (CustomObjectsApi) finds objects of this kind."""
        return {**self._asdict(), "namespace": namespace}


JOBS = Kind("batch", "v1", "jobs")
TRAIN_JOBS = Kind("trainer.kubeflow.org", "v1alpha1", "trainjobs")
RUNTIMES = Kind("trainer.kubeflow.org", "v1alpha1", "trainingruntimes")
KINDS: dict[Launcher, Kind] = {"job": JOBS, "trainjob": TRAIN_JOBS}


def condition(thing: Mapping[str, Any], *types: str) -> dict[str, Any] | None:
    """Return the first condition of one of the types that holds. Both kinds end with `Complete` or `Failed`."""
    known = thing.get("status", {}).get("conditions") or []
    return next((one for one in known if one["type"] in types and one["status"] == "True"), None)


def nodes_of(thing: Mapping[str, Any]) -> int:
    """Return the number of pods of its spec."""
    spec = thing["spec"]
    return int(spec["completions"] if "completions" in spec else spec["trainer"]["numNodes"])
