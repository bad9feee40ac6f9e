"""Finds pods, Jobs and Services without a live task in a namespace, records what they used, reports and later deletes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

from nightshift.orchestration.attempt import storage_uri
from nightshift.orchestration.kubernetes.cluster import ignoring, is_gone, times_of
from nightshift.orchestration.kubernetes.kinds import RUNTIMES, TRAIN_JOBS, Kind
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
from nightshift.orchestration.kubernetes.suspects import Suspects
from nightshift.orchestration.kubernetes.usage import account
from nightshift.settings.compute import KubernetesCompute

# A task that is being started, cleared or moved briefly has no state.
GRACE = timedelta(minutes=10)
# Two looks this far apart must find an object without a task before it is deleted: one wrong answer deletes no training.
AGAIN = timedelta(minutes=5)
# How long an ended pod is kept for people to inspect.
KEPT = timedelta(hours=24)
LIVE = {
    "scheduled", "queued", "running", "deferred", "restarting", "awaiting_input", "up_for_retry", "up_for_reschedule",
}  # fmt: skip

Fate = Literal["keep", "report", "delete"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Leftover:
    """A pod, Job, TrainJob, runtime or Service of ours, with the task that asked for it.

    :param uid: the cluster's id; an object created later under the same name has another.
    :param ended: when it ended, or None while it is active.
    """

    kind: str
    name: str
    uid: str
    created: datetime
    ended: datetime | None
    task: tuple[str, str, str, int]  # DAG, run, task, map index


def fate_of(thing: Leftover, state: str | None, suspected: datetime | None, now: datetime) -> Fate:
    """Return whether to keep, report or delete an object whose task is in a state (None: there is no such task instance).

    :param suspected: when an earlier look first found it without a live task; None: no earlier look did.
    """
    if thing.ended:
        return "delete" if now - thing.ended > KEPT else "keep"
    if state in LIVE:
        return "keep"
    confirmed = suspected is not None and now - suspected >= AGAIN
    return "delete" if confirmed and now - thing.created > GRACE else "report"


def judged(
    things: Iterable[Leftover],
    state_of: Callable[[str, str, str, int], str | None],
    suspected: Mapping[str, datetime],
    now: datetime,
) -> tuple[list[tuple[Leftover, Fate, str | None]], dict[str, datetime]]:
    """Return the fate of each object with the state of its task, and the suspects for the next look.

    :param suspected: when earlier looks first found things without a live task, by uid.
    """
    found: list[tuple[Leftover, Fate, str | None]] = []
    suspects = {}
    for thing in things:
        state = state_of(*thing.task)
        fate = fate_of(thing, state, suspected.get(thing.uid), now)
        found.append((thing, fate, state))
        if not thing.ended and fate != "keep":
            suspects[thing.uid] = suspected.get(thing.uid, now)
    return found, suspects


def sweep(
    compute: KubernetesCompute, state_of: Callable[[str, str, str, int], str | None], *, delete: bool
) -> dict[str, list[str]]:
    """Return what was kept, reported and deleted in the namespace of a profile, as texts, `kind name: task is state`.

    Only objects that this Airflow created are looked at. An active one is deleted by the second look that finds it without a
    live task. The usage of pods that ended unobserved is recorded.

    :param state_of: the state of a task instance by DAG, run, task and map index.
    :param delete: False: only report, and do not count as a look.
    """  # fmt: skip
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
    from kubernetes.client import BatchV1Api, CoreV1Api, CustomObjectsApi

    client = KubernetesHook(conn_id=compute.connection).get_conn()
    core, batch, custom, namespace = CoreV1Api(client), BatchV1Api(client), CustomObjectsApi(client), compute.namespace
    select = {"label_selector": ",".join(f"{key}={value}" for key, value in {**OURS, OWNER: airflow_id()}.items())}
    pods = core.list_namespaced_pod(namespace, **select).items
    groups = {
        "Job": batch.list_namespaced_job(namespace, **select).items,
        "TrainJob": _listed(custom, TRAIN_JOBS, namespace, select),
    }
    theirs = {
        "Service": core.list_namespaced_service(namespace, **select).items,
        "TrainingRuntime": _listed(custom, RUNTIMES, namespace, select),
    }
    for pod in pods:
        if times_of(pod):
            account(pod, log)
    told: dict[str, list[str]] = {"keep": [], "report": [], "delete": []}
    removals = {
        "Pod": core.delete_namespaced_pod,
        "Job": lambda name, space: batch.delete_namespaced_job(name, space, propagation_policy="Background"),
        "Service": core.delete_namespaced_service,
        "TrainJob": partial(_delete, custom, TRAIN_JOBS),
        "TrainingRuntime": partial(_delete, custom, RUNTIMES),
    }
    suspects = Suspects(storage_uri(), compute.name)
    found, suspected = judged(_leftovers(pods, groups, theirs), state_of, suspects.read(), datetime.now(UTC))
    if delete:
        suspects.keep(suspected)
    for thing, fate, state in found:
        dag, run, task, _ = thing.task
        told[fate].append(f"{thing.kind} {thing.name}: {task} of {dag} in {run} is {state or 'gone'}")
        if fate == "delete" and delete:
            with ignoring(is_gone):
                removals[thing.kind](thing.name, namespace)
    return told


def _listed(custom: Any, kind: Kind, namespace: str, select: dict[str, str]) -> list[Any]:
    """All objects of a kind, shaped as the client's own classes; none if the cluster does not have the kind."""
    # Without the right to list them (the chart's value trainJobs) this Airflow cannot have started any.
    with ignoring(lambda error: error.status in {403, 404}):
        found = custom.list_namespaced_custom_object(**kind.objects_of(namespace), **select)["items"]
        return [_shaped(one) for one in found]
    return []


def _shaped(thing: dict[str, Any]) -> Any:
    known = thing["metadata"]
    return SimpleNamespace(
        metadata=SimpleNamespace(
            name=known["name"],
            uid=known["uid"],
            annotations=known.get("annotations"),
            creation_timestamp=datetime.fromisoformat(known["creationTimestamp"]),
        ),
        status=SimpleNamespace(
            conditions=[
                SimpleNamespace(
                    type=one["type"],
                    status=one["status"],
                    last_transition_time=datetime.fromisoformat(one["lastTransitionTime"]),
                )
                for one in thing.get("status", {}).get("conditions", [])
            ]
        ),
    )


def _delete(custom: Any, kind: Kind, name: str, namespace: str) -> None:
    custom.delete_namespaced_custom_object(**kind.objects_of(namespace), name=name, propagation_policy="Background")


def _leftovers(pods: list[Any], groups: dict[str, list[Any]], theirs: dict[str, list[Any]]) -> Iterable[Leftover]:
    names = {group.metadata.name for found in groups.values() for group in found}
    for kind, group in ((kind, one) for kind, found in groups.items() for one in found):
        over = [
            one for one in group.status.conditions or [] if one.type in {"Complete", "Failed"} and one.status == "True"
        ]
        yield _leftover(kind, group, over[0].last_transition_time if over else None)
    for pod in pods:
        # Pods of a group are deleted with it.
        if pod.metadata.labels.get(GROUP) not in names:
            times = times_of(pod)
            ended = times[1] if times else pod.metadata.creation_timestamp
            yield _leftover("Pod", pod, ended if pod.status.phase in {"Succeeded", "Failed"} else None)
    for kind, thing in ((kind, one) for kind, found in theirs.items() for one in found):
        if thing.metadata.name not in names:
            yield _leftover(kind, thing, None)


def _leftover(kind: str, thing: Any, ended: datetime | None) -> Leftover:
    known = thing.metadata.annotations or {}
    return Leftover(
        kind=kind,
        name=thing.metadata.name,
        uid=thing.metadata.uid,
        created=thing.metadata.creation_timestamp,
        ended=ended,
        task=(known.get(DAG_ID, ""), known.get(RUN_ID, ""), known.get(TASK_ID, ""), int(known.get(MAP_INDEX, -1))),
    )
