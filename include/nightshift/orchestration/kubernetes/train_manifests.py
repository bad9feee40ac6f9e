"""The manifests of a TrainJob: made from the Job that would run the same pods, so that both are one and the same group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nightshift.orchestration.kubernetes.kinds import TRAIN_JOBS, nodes_of
from nightshift.orchestration.kubernetes.manifests import TRAINER_NODE

API = f"{TRAIN_JOBS.group}/{TRAIN_JOBS.version}"
# By this label Trainer knows the replicated job whose pods `trainer.numNodes` counts.
ANCESTOR = "trainer.kubeflow.org/trainjob-ancestor-step"
# What the owner of a Job decides: when it may start, and when it goes.
NOT_OF_A_CHILD = {"ttlSecondsAfterFinished", "suspend"}


def runtime_manifest(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the TrainingRuntime of one TrainJob: a JobSet of a single Job.

    It has no failure policy: the Job inside replaces the nodes that are lost, up to its own limit, and when it gives up,
    or a node says that nothing can help, the whole TrainJob has failed. A policy would repeat the hopeless as well.

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
    """Return the TrainJob that runs the runtime of the same name; a queue, if any, lets it go."""
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
    """Return what makes a TrainJob of the cluster the owner of something."""
    known = train_job["metadata"]
    return {"apiVersion": API, "kind": "TrainJob", "name": known["name"], "uid": known["uid"]}
