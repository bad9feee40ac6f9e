"""The task of a job: the same name, arguments and result on every compute back end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from nightshift.orchestration.job_task import JobTask
from nightshift.settings.application import Application
from nightshift.settings.applications import BadApplication, load_compute
from nightshift.settings.compute import KubernetesCompute, LocalCompute

if TYPE_CHECKING:
    from airflow.sdk import XComArg
    from airflow.sdk.definitions.mappedoperator import MappedOperator


def job(name: str, app: Application, arguments: Mapping[str, Any], **kwargs: Any) -> JobTask:
    """Return the task of one job of an application, in the application's pool for it.

    Its task id is the job's name unless given.
    """
    operator, fixed = _task_of(name, app, kwargs)
    return operator(**fixed, arguments=arguments)


def mapped_job(name: str, app: Application, arguments: XComArg, **kwargs: Any) -> MappedOperator:
    """Return as many tasks of one job as an upstream task returns arguments for. As :func:`job`."""
    operator, fixed = _task_of(name, app, kwargs)
    return operator.partial(**fixed).expand(arguments=arguments)


def _task_of(name: str, app: Application, kwargs: Mapping[str, Any]) -> tuple[type[JobTask], dict[str, Any]]:
    profile = app.profile_of(name)
    fixed = {"task_id": name, "pool": app.pools.of(name), **workers_of(profile), **_limits(profile), **kwargs}
    return operator_of(name, profile), {**fixed, "application": app.name, "job": name, "compute": profile}


def workers_of(profile: str) -> dict[str, Any]:
    """Return the arguments that send a task to the workers of a local profile; empty for pods."""
    compute = _local(profile)
    placed = {"queue": compute.queue, "executor": compute.executor} if compute else {}
    return {key: value for key, value in placed.items() if value}


def _limits(profile: str) -> dict[str, Any]:
    """The time limit of a job of a local profile. The cluster enforces that of pods."""
    compute = _local(profile)
    return {"execution_timeout": timedelta(hours=compute.deadline_hours)} if compute else {}


def _local(profile: str) -> LocalCompute | None:
    try:
        compute = load_compute(profile)
    except BadApplication:
        return None
    return compute if isinstance(compute, LocalCompute) else None


def operator_of(job: str, profile: str) -> type[JobTask]:
    """Return the operator that runs a job on a compute profile, importing only the one that is used."""
    try:
        compute = load_compute(profile)
    except BadApplication:
        # The task fails with what is wrong with the profile; the DAGs stay visible.
        compute = None
    if not isinstance(compute, KubernetesCompute):
        from nightshift.orchestration.local_job import LocalJob

        return LocalJob
    if compute.nodes_of(job) > 1 and compute.launcher == "trainjob":
        from nightshift.orchestration.kubernetes.train_job import TrainJobGroup

        return TrainJobGroup
    if compute.nodes_of(job) > 1:
        from nightshift.orchestration.kubernetes.group_job import GroupJob

        return GroupJob
    from nightshift.orchestration.kubernetes.pod_job import PodJob

    return PodJob
