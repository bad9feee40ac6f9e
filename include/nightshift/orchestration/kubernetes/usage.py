"""What pods used: how long they really ran, on how many GPUs, and what that cost."""

from __future__ import annotations

import logging
from typing import Any

from upath import UPath

from nightshift.computing import KubernetesCompute
from nightshift.data.storage import replace
from nightshift.errors import JobError
from nightshift.jobs.usage import PodUsage, usage_address
from nightshift.orchestration.kubernetes.cluster import times_of
from nightshift.orchestration.kubernetes.submission import Submission


def account(pod: Any, submission: Submission, compute: KubernetesCompute, log: logging.Logger) -> None:
    """Write down what a pod that ended used. A pod that is written down twice is counted once.

    Storage that cannot be written is logged: accounts fail no job.
    """
    times = times_of(pod)
    if times is None:
        return
    try:
        spec = submission.spec
        used = usage_of(pod, submission.job, compute)
        replace(usage_address(UPath(spec.storage), spec.application.name, used), used.model_dump_json().encode())
    except (JobError, OSError) as error:
        log.warning("what pod %s used is not written down: %s", pod.metadata.name, error)


def usage_of(pod: Any, job: str, compute: KubernetesCompute) -> PodUsage:
    """Return what a pod that ended used, by the times that its node reports."""
    started, ended = times_of(pod)  # type: ignore[misc]
    annotations = pod.metadata.annotations or {}
    return PodUsage(
        pod=pod.metadata.name,
        uid=pod.metadata.uid,
        job=job,
        dag_id=annotations.get("nightshift/dag-id", ""),
        run_id=annotations.get("nightshift/run-id", ""),
        task_id=annotations.get("nightshift/task-id", ""),
        result_uri=annotations.get("nightshift/result", ""),
        started=started,
        ended=ended,
        gpus=compute.gpus_of(job),
        price_per_hour=compute.price_per_hour,
    )
