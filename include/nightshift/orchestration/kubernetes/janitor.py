"""What is left in a namespace and belongs to no task any more: found, told, accounted for, and deleted after a while."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from nightshift.computing import KubernetesCompute
from nightshift.orchestration.kubernetes.cluster import times_of
from nightshift.orchestration.kubernetes.labels import (
    DAG_ID,
    GROUP,
    MAP_INDEX,
    OURS,
    OWNER,
    RUN_ID,
    TASK_ID,
    airflow_id,
)
from nightshift.orchestration.kubernetes.usage import account

# A task that is being started, cleared or moved has no state for a moment.
GRACE = timedelta(minutes=10)
# How long people may look at a pod that ended.
KEPT = timedelta(hours=24)
LIVE = {
    "scheduled",
    "queued",
    "running",
    "deferred",
    "restarting",
    "awaiting_input",
    "up_for_retry",
    "up_for_reschedule",
}

Fate = Literal["keep", "report", "delete"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Leftover:
    """A pod, Job or Service of ours, with the task that asked for it.

    :param ended: when it ended, or None while it is active.
    """

    kind: str
    name: str
    created: datetime
    ended: datetime | None
    task: tuple[str, str, str, int]  # DAG, run, task, map index


def fate_of(thing: Leftover, state: str | None, now: datetime) -> Fate:
    """Return what happens to something whose task is in a state (None: there is no such task instance)."""
    if thing.ended:
        return "delete" if now - thing.ended > KEPT else "keep"
    if state in LIVE:
        return "keep"
    return "delete" if now - thing.created > GRACE else "report"


def sweep(
    compute: KubernetesCompute, state_of: Callable[[str, str, str, int], str | None], *, delete: bool
) -> dict[str, list[str]]:
    """Return what was kept, reported and deleted in the namespace of a profile, as texts, `kind name: task is state`.

    Only what this Airflow asked for is looked at. What pods used that ended with nobody looking is written down.

    :param state_of: the state of a task instance by DAG, run, task and map index.
    :param delete: False: only tell.
    """  # fmt: skip
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
    from kubernetes.client import BatchV1Api, CoreV1Api

    client = KubernetesHook(conn_id=compute.connection).get_conn()
    core, batch, namespace = CoreV1Api(client), BatchV1Api(client), compute.namespace
    select = {"label_selector": ",".join(f"{key}={value}" for key, value in {**OURS, OWNER: airflow_id()}.items())}
    pods = core.list_namespaced_pod(namespace, **select).items
    jobs = batch.list_namespaced_job(namespace, **select).items
    services = core.list_namespaced_service(namespace, **select).items
    for pod in pods:
        if times_of(pod):
            account(pod, compute, log)
    told: dict[str, list[str]] = {"keep": [], "report": [], "delete": []}
    removals = {
        "Pod": core.delete_namespaced_pod,
        "Job": lambda name, space: batch.delete_namespaced_job(name, space, propagation_policy="Background"),
        "Service": core.delete_namespaced_service,
    }
    for thing in _leftovers(pods, jobs, services):
        state = state_of(*thing.task)
        fate = fate_of(thing, state, datetime.now(UTC))
        dag, run, task, _ = thing.task
        told[fate].append(f"{thing.kind} {thing.name}: {task} of {dag} in {run} is {state or 'gone'}")
        if fate == "delete" and delete:
            _remove(removals[thing.kind], thing.name, namespace)
    return told


def _leftovers(pods: list[Any], jobs: list[Any], services: list[Any]) -> Iterable[Leftover]:
    names = {job.metadata.name for job in jobs}
    for job in jobs:
        over = [
            one for one in job.status.conditions or [] if one.type in {"Complete", "Failed"} and one.status == "True"
        ]
        yield _leftover("Job", job, over[0].last_transition_time if over else None)
    for pod in pods:
        # Those of a Job go where it goes.
        if pod.metadata.labels.get(GROUP) not in names:
            times = times_of(pod)
            ended = times[1] if times else pod.metadata.creation_timestamp
            yield _leftover("Pod", pod, ended if pod.status.phase in {"Succeeded", "Failed"} else None)
    for service in services:
        if service.metadata.name not in names:
            yield _leftover("Service", service, None)


def _leftover(kind: str, thing: Any, ended: datetime | None) -> Leftover:
    known = thing.metadata.annotations or {}
    return Leftover(
        kind=kind,
        name=thing.metadata.name,
        created=thing.metadata.creation_timestamp,
        ended=ended,
        task=(known.get(DAG_ID, ""), known.get(RUN_ID, ""), known.get(TASK_ID, ""), int(known.get(MAP_INDEX, -1))),
    )


def _remove(removal: Callable[[str, str], Any], name: str, namespace: str) -> None:
    from kubernetes.client.exceptions import ApiException

    try:
        removal(name, namespace)
    except ApiException as error:
        if error.status != 404:
            raise
