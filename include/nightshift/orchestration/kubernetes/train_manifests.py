"""The manifests of a TrainJob, made from the equivalent Job, so that both launchers run the same pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nightshift.orchestration.kubernetes.kinds import TRAIN_JOBS, nodes_of
from nightshift.orchestration.kubernetes.manifests import TRAINER_NODE

API = f"{TRAIN_JOBS.group}/{TRAIN_JOBS.version}"
# This label marks the replicated job whose pods `trainer.numNodes` counts.
ANCESTOR = "trainer.kubeflow.org/trainjob-ancestor-step"
# Fields that the owner of a Job sets: when it may start, and when it is deleted.
NOT_OF_A_CHILD = {"ttlSecondsAfterFinished", "suspend"}


def runtime_manifest(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the TrainingRuntime of one TrainJob: a JobSet of a single Job.

    It has no failure policy: the inner Job replaces lost nodes up to its own limit; when it gives up, or a node ends with a
    hopeless exit code, the TrainJob fails. A failure policy would retry hopeless failures as well.

    :param job: the indexed Job (manifests.job_manifest).
    """
    spec = {key: value for key, value in job["spec"].items() if key not in NOT_OF_A_CHILD}
    child = {"metadata": {"labels": {ANCESTOR: "trainer"}}, "spec": spec}
    return {
        "apiVersion": API,
        "kind": "TrainingRuntime",
        "metadata": job["metadata"],
        "spec": {
            "template": {"spec": {"replicatedJobs": [{"name": TRAINER_NODE, "replicas": 1, "template": child}]}},
        },
    }


def train_job_manifest(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the TrainJob that runs the runtime of the same name, suspended if a queue admits it."""
    return {
        "apiVersion": API,
        "kind": "TrainJob",
        "metadata": job["metadata"],
        "spec": {
            "runtimeRef": {
                "apiGroup": TRAIN_JOBS.group,
                "kind": "TrainingRuntime",
                "name": job["metadata"]["name"],
            },
            "trainer": {"numNodes": nodes_of(job)},
            "suspend": job["spec"]["suspend"],
        },
    }


def owner_reference(train_job: Mapping[str, Any]) -> dict[str, str]:
    """Return the reference that makes a TrainJob the owner of an object."""
    known = train_job["metadata"]
    return {"apiVersion": API, "kind": "TrainJob", "name": known["name"], "uid": known["uid"]}
