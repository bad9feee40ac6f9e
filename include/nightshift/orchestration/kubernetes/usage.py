"""Accounts of pods: how long they ran, on how many GPUs, and what that cost."""

from __future__ import annotations

import logging
from typing import Any

from upath import UPath

from nightshift.ledger.pod_accounts import PodUsage, usage_address
from nightshift.orchestration.kubernetes.cluster import times_of
from nightshift.orchestration.kubernetes.labels import APPLICATION, DAG_ID, GPUS, JOB, PRICE, RESULT, RUN_ID, TASK_ID
from nightshift.storage.files import replace


def account(pod: Any, log: logging.Logger) -> None:
    """Record what an ended pod used. A pod that is recorded twice is counted once.

    A failing storage is logged: accounts fail no job.
    """
    times, labels, known = times_of(pod), pod.metadata.labels or {}, pod.metadata.annotations or {}
    application, result = labels.get(APPLICATION, ""), known.get(RESULT, "")
    storage, found, _ = result.partition(f"/{application}/results/")
    if times is None or not found:
        return
    used = PodUsage(
        pod=pod.metadata.name,
        uid=pod.metadata.uid,
        namespace=pod.metadata.namespace or "",
        node=pod.spec.node_name or "",
        job=labels[JOB],
        dag_id=known[DAG_ID],
        run_id=known[RUN_ID],
        task_id=known[TASK_ID],
        result_uri=result,
        started=times[0],
        ended=times[1],
        # The values at the pod's creation, even if the profile has changed since.
        gpus=int(known.get(GPUS, 0)),
        price_per_hour=float(known.get(PRICE, 0)),
    )
    try:
        replace(usage_address(UPath(storage), application, used), used.model_dump_json().encode())
    except Exception as error:  # each object store has errors of its own
        log.warning("the usage of pod %s could not be recorded: %s", pod.metadata.name, error)
