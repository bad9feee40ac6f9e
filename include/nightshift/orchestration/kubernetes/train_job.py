"""A job over several nodes, started by Kubeflow Trainer: a TrainJob, and a TrainingRuntime of its own with our pods.

The runtime holds the whole template, so that Trainer chooses no field of a pod; overrides and patches, which differ between
its releases 2.0 and 2.3, are not used. Trainer makes a JobSet of it, with the Service by which the nodes find each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from nightshift.orchestration.kubernetes.cluster import ignoring, is_gone
from nightshift.orchestration.kubernetes.cluster_job import REQUEST_SECONDS
from nightshift.orchestration.kubernetes.group_job import GroupJob
from nightshift.orchestration.kubernetes.kinds import RUNTIMES, TRAIN_JOBS
from nightshift.orchestration.kubernetes.train_manifests import owner_reference, runtime_manifest, train_job_manifest
from nightshift.settings.compute import Launcher


class TrainJobGroup(GroupJob):
    """Runs the job on the nodes of its profile by a TrainJob, which ends and is watched as a Job is."""

    launcher: ClassVar[Launcher] = "trainjob"

    def start(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Create the TrainingRuntime and then the TrainJob: Trainer refuses a TrainJob without its runtime."""
        self.offer(RUNTIMES, runtime_manifest(job))
        return self.offer(TRAIN_JOBS, train_job_manifest(job))

    def complete(self, job: Mapping[str, Any]) -> None:
        """Make the TrainJob, whose id is known only now, the owner of its runtime, so that both are deleted together."""
        owned = {"metadata": {"ownerReferences": [owner_reference(job)]}}
        with ignoring(is_gone):
            self.objects.patch_namespaced_custom_object(
                **RUNTIMES.objects_of(self.profile.namespace), name=job["metadata"]["name"], body=owned,
                _request_timeout=REQUEST_SECONDS,
            )  # fmt: skip

    def remove(self, name: str) -> None:
        """Delete the TrainJob, and the runtime that a worker may have left without an owner."""
        super().remove(name)
        self.delete(RUNTIMES, name)
