"""What a cluster says, in words for the person who reads the task's log, and whether waiting can help."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nightshift.errors import ExitCode, meaning
from nightshift.orchestration.kubernetes.kinds import TRAIN_JOBS
from nightshift.orchestration.kubernetes.manifests import CONTAINERS
from nightshift.settings.compute import KubernetesCompute

# What an API server answers that is busy, restarting or behind a proxy that is.
BUSY = {408, 409, 429, 500, 502, 503, 504}
# How RBAC refuses; admission (limits, policies, quotas) answers 403 in other words.
NO_RIGHT = re.compile(r"cannot \w+ resource")


@dataclass(frozen=True)
class Trouble:
    """Why a request to the cluster did not succeed.

    :param text: what is wrong and what to do.
    :param passes: whether the same request may succeed later without anybody changing the profile.
    """

    text: str
    passes: bool


def trouble(error: Exception, compute: KubernetesCompute, doing: str) -> Trouble | None:  # noqa: PLR0911  (one a cause)
    """Return what an error of the Kubernetes client means; None: it is not one of the cluster's.

    :param doing: what was asked for, as in "create the pod x".
    """
    from kubernetes.client.exceptions import ApiException
    from kubernetes.config import ConfigException
    from urllib3.exceptions import HTTPError

    where = f"the cluster of connection {compute.connection!r}"
    if isinstance(error, ConfigException):
        return Trouble(f"{where} is not known: {error}; give the connection a kubeconfig, or run Airflow inside", False)
    if isinstance(error, HTTPError | OSError):
        return Trouble(f"{where} cannot be reached to {doing}: {_innermost(error)}", True)
    if not isinstance(error, ApiException):
        return None
    said = _message(error)
    if error.status == 403 and "exceeded quota" in said:
        return Trouble(f"namespace {compute.namespace} is full: {said}", True)
    if error.status == 403 and "violates PodSecurity" in said:
        return Trouble(f"{where} refuses to {doing}: {said}; the profile or its template asks for too much", False)
    if error.status == 403 and "looking up service account" in said:
        return Trouble(
            f"{where} cannot {doing}: {said}; install the chart deploy/helm/nightshift there, which makes it", True
        )
    if error.status == 403 and "is being terminated" in said:
        return Trouble(f"namespace {compute.namespace} is being deleted, and takes nothing any more: {said}", True)
    if error.status == 401 or (error.status == 403 and NO_RIGHT.search(said)):
        value = "trainJobs" if TRAIN_JOBS.group in said else "airflow.release"
        return Trouble(
            f"{where} does not allow Airflow to {doing}: {said}; the chart deploy/helm/nightshift gives the "
            f"right in the namespace {compute.namespace} (its value {value}), to the accounts of Airflow's parts",
            True,
        )
    if error.status == 404 and compute.launcher == "trainjob" and "page not found" in str(error.body):
        # Of a kind that it knows, an API server says what is not found.
        return Trouble(
            f"{where} has no TrainJob ({TRAIN_JOBS.group}): install Kubeflow Trainer, or use `launcher: job`", False
        )
    if error.status == 404:
        return Trouble(f"{where} cannot {doing}: {said}; is there a namespace {compute.namespace}?", True)
    if error.status in BUSY or not error.status:
        return Trouble(f"{where} is busy or broken and could not {doing}: {error.status} {said}", True)
    return Trouble(f"{where} refuses to {doing}: {error.status} {said}", False)


def exists_already(error: Any) -> bool:
    """Whether a cluster made nothing because there is something of this name; a 409 may also mean a busy quota."""
    return bool(error.status == 409 and '"AlreadyExists"' in str(error.body))


def is_gone(error: Any) -> bool:
    """Whether a cluster has nothing of this name."""
    return bool(error.status == 404)


@contextmanager
def ignoring(is_fine: Callable[[Any], bool]) -> Iterator[None]:
    """Within this block an answer of the cluster that is fine ends the block, and is no error."""
    from kubernetes.client.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        if not is_fine(error):
            raise


@dataclass(frozen=True)
class Ending:
    """How a pod ended.

    :param text: for the log, with exit code and reason.
    :param ok: its container ended with 0.
    :param taken_away: it was preempted, evicted or asked to stop: no fault of the job.
    :param hopeless: the job said that a retry cannot help.
    :param outage: the job said that something which it needs is missing or down.
    """

    text: str
    ok: bool = False
    taken_away: bool = False
    hopeless: bool = False
    outage: bool = False


def ending_of(pod: Any, job: str) -> Ending:  # noqa: PLR0911  (one a cause)
    """Return how a pod (of the Kubernetes client) ended; one that still waits failed to start."""
    name, status = pod.metadata.name, pod.status
    state = next((one.state for one in status.container_statuses or [] if one.name in CONTAINERS.values()), None)
    terminated = state.terminated if state else None
    disruption = next(
        (one for one in status.conditions or [] if one.type == "DisruptionTarget" and one.status == "True"), None
    )
    if terminated and terminated.exit_code == ExitCode.OK:
        return Ending(f"pod {name} succeeded", ok=True)
    if disruption or status.reason in {"Evicted", "Preempting", "Shutdown", "NodeLost", "Terminated"}:
        why = disruption.reason if disruption else status.reason
        said = (disruption.message if disruption else None) or status.message or "no message"
        return Ending(f"{job}: pod {name} was taken off its node ({why}: {said.strip()})", taken_away=True)
    if status.reason == "DeadlineExceeded":
        return Ending(f"{job}: pod {name} ran longer than its profile's deadline_hours and was ended", hopeless=True)
    if terminated is None:
        waiting = state.waiting if state else None
        why = f"{waiting.reason}: {waiting.message}" if waiting else f"{status.reason}: {status.message}"
        return Ending(f"{job}: pod {name} did not start: {why}")
    code = terminated.exit_code
    if terminated.reason == "OOMKilled":
        return Ending(
            f"{job}: pod {name} used more than its memory (OOMKilled); raise memory_gb, or give it less to do"
        )
    if code == ExitCode.PREEMPTED:
        return Ending(f"{job}: pod {name} was asked to stop and saved what it had (exit code 75)", taken_away=True)
    kind = f"killed by signal {code - 128}" if code > 128 else meaning(code)
    last = f"; its last words: {terminated.message.strip()[-500:]}" if terminated.message else ""
    return Ending(
        f"{job}: pod {name} ended with exit code {code}: {kind}{last}",
        hopeless=code == ExitCode.BAD_INPUT,
        outage=code == ExitCode.BAD_ENVIRONMENT,
    )


def times_of(pod: Any) -> tuple[datetime, datetime] | None:
    """Return when the container of a pod started and ended; None while it has not done both."""
    for one in pod.status.container_statuses or []:
        if one.name in CONTAINERS.values() and one.state.terminated and one.state.terminated.started_at:
            return one.state.terminated.started_at, one.state.terminated.finished_at
    return None


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason or error.body or error)


def _innermost(error: BaseException) -> str:
    """The text of what went wrong, out of what it was wrapped in."""
    inner = getattr(error, "reason", None) or error.__cause__ or error.__context__
    return _innermost(inner) if isinstance(inner, BaseException) and inner is not error else f"{error}"
