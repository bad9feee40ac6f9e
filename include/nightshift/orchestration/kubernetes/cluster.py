"""Errors of a cluster and endings of pods as messages for the task's log, with whether waiting can help."""

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

# Statuses of an API server (or its proxy) that is busy or restarting.
BUSY = {408, 409, 429, 500, 502, 503, 504}
# RBAC's refusal; admission (limits, policies, quotas) answers 403 with other texts.
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
    """Return the cause of an error of the Kubernetes client; None: the cluster is not at fault.

    :param doing: the requested action, as in "create the pod x".
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
    message = _message(error)
    if error.status == 403 and "exceeded quota" in message:
        return Trouble(f"namespace {compute.namespace} is full: {message}", True)
    if error.status == 403 and "violates PodSecurity" in message:
        return Trouble(f"{where} refuses to {doing}: {message}; the profile or its template asks for too much", False)
    if error.status == 403 and "looking up service account" in message:
        return Trouble(
            f"{where} cannot {doing}: {message}; install the chart deploy/helm/nightshift there, which creates it", True
        )
    if error.status == 403 and "is being terminated" in message:
        return Trouble(f"namespace {compute.namespace} is being deleted and accepts no new objects: {message}", True)
    if error.status == 401 or (error.status == 403 and NO_RIGHT.search(message)):
        value = "trainJobs" if TRAIN_JOBS.group in message else "airflow.release"
        return Trouble(
            f"{where} does not allow Airflow to {doing}: {message}; the chart deploy/helm/nightshift gives the "
            f"right in the namespace {compute.namespace} (its value {value}), to the accounts of Airflow's parts",
            True,
        )
    if error.status == 404 and compute.launcher == "trainjob" and "page not found" in str(error.body):
        # For a known kind, the API server's 404 names the missing object instead.
        return Trouble(
            f"{where} has no TrainJob ({TRAIN_JOBS.group}): install Kubeflow Trainer, or use `launcher: job`", False
        )
    if error.status == 404:
        return Trouble(f"{where} cannot {doing}: {message}; is there a namespace {compute.namespace}?", True)
    if error.status in BUSY or not error.status:
        return Trouble(f"{where} is busy or broken and could not {doing}: {error.status} {message}", True)
    return Trouble(f"{where} refuses to {doing}: {error.status} {message}", False)


def exists_already(error: Any) -> bool:
    """Whether an object of this name exists already; a 409 may also mean a busy quota."""
    return bool(error.status == 409 and '"AlreadyExists"' in str(error.body))


def is_gone(error: Any) -> bool:
    """Whether a cluster has nothing of this name."""
    return bool(error.status == 404)


@contextmanager
def ignoring(is_fine: Callable[[Any], bool]) -> Iterator[None]:
    """Suppress API errors for which `is_fine` is true; the rest of the block is then skipped."""
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
    :param preempted: it was preempted, evicted or asked to stop: no fault of the job.
    :param hopeless: by the job's exit code a retry cannot help.
    :param outage: by the job's exit code something that it needs is missing or down.
    """

    text: str
    ok: bool = False
    preempted: bool = False
    hopeless: bool = False
    outage: bool = False


def ending_of(pod: Any, job: str) -> Ending:  # noqa: PLR0911  (one a cause)
    """Return how a pod (of the Kubernetes client) ended; a pod that still waits counts as failed to start."""
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
        message = (disruption.message if disruption else None) or status.message or "no message"
        return Ending(f"{job}: pod {name} was taken off its node ({why}: {message.strip()})", preempted=True)
    if status.reason == "DeadlineExceeded":
        return Ending(f"{job}: pod {name} ran longer than its profile's deadline_hours and was ended", hopeless=True)
    if terminated is None:
        waiting = state.waiting if state else None
        why = f"{waiting.reason}: {waiting.message}" if waiting else f"{status.reason}: {status.message}"
        return Ending(f"{job}: pod {name} did not start: {why}")
    code = terminated.exit_code
    if terminated.reason == "OOMKilled":
        return Ending(
            f"{job}: pod {name} used more than its memory (OOMKilled); raise memory_gb, or reduce the job's load"
        )
    if code == ExitCode.PREEMPTED:
        return Ending(f"{job}: pod {name} was asked to stop and saved what it had (exit code 75)", preempted=True)
    kind = f"killed by signal {code - 128}" if code > 128 else meaning(code)
    last = f"; end of its log: {terminated.message.strip()[-500:]}" if terminated.message else ""
    return Ending(
        f"{job}: pod {name} ended with exit code {code}: {kind}{last}",
        hopeless=code == ExitCode.BAD_INPUT,
        outage=code == ExitCode.BAD_ENVIRONMENT,
    )


def times_of(pod: Any) -> tuple[datetime, datetime] | None:
    """Return when the container of a pod started and ended; None until it has ended."""
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
    """The text of the innermost wrapped error."""
    inner = getattr(error, "reason", None) or error.__cause__ or error.__context__
    return _innermost(inner) if isinstance(inner, BaseException) and inner is not error else f"{error}"
