"""The job `usage`: what the pods of an application used and cost, by the times of their nodes, into MLflow."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from pydantic import AwareDatetime, BaseModel, Field, ValidationError
from upath import UPath

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress

log = logging.getLogger(__name__)


class PodUsage(BaseModel):
    """One pod that ended.

    :param uid: the cluster's id of the pod: two pods of one name are two.
    :param result_uri: where the job left its result, if it did.
    :param price_per_hour: of the whole pod, as the compute profile says.
    """

    pod: str
    uid: str
    job: str
    dag_id: str
    run_id: str
    task_id: str
    result_uri: str = ""
    started: AwareDatetime
    ended: AwareDatetime
    gpus: int
    price_per_hour: float

    @property
    def hours(self) -> float:
        """How long its container ran."""
        return max(0.0, (self.ended - self.started).total_seconds() / 3600)


class Used(BaseModel):
    """Sums over pods; `cost` in the currency of the compute profiles' prices."""

    pods: int = 0
    pod_hours: float = 0.0
    gpu_hours: float = 0.0
    cost: float = 0.0


class Spec(JobSpec):
    """Over how many days, up to now, the accounts are read."""

    days: int = Field(8, ge=1, le=366)


class Result(JobResult):
    """What the pods that ended in these days used; `runs` counts their DAG runs."""

    runs: int
    used: Used


def usage_address(storage: UPath, application: str, used: PodUsage) -> UPath:
    """Return where the account of a pod lies: in the folder of the day (UTC) on which it ended."""
    day = used.ended.astimezone(UTC).date().isoformat()
    return storage / application / "usage" / day / f"{used.pod}-{used.uid[:8]}.json"


def total(pods: Sequence[PodUsage]) -> Used:
    """Return what pods used together."""
    return Used(
        pods=len(pods),
        pod_hours=sum(pod.hours for pod in pods),
        gpu_hours=sum(pod.hours * pod.gpus for pod in pods),
        cost=sum(pod.hours * pod.price_per_hour for pod in pods),
    )


def run(spec: Spec, progress: Progress) -> Result:
    """Log pods, hours, GPU-hours and cost of each DAG run, and of each training to the training's own run.

    :raises BadEnvironment: MLflow cannot be reached; the accounts are kept, and the next run logs them.
    """
    by_run: dict[tuple[str, str], list[PodUsage]] = defaultdict(list)
    for pod in _accounts(spec):
        by_run[pod.dag_id, pod.run_id].append(pod)
    for number, ((dag_id, run_id), pods) in enumerate(sorted(by_run.items()), start=1):
        _log(spec.application.name, dag_id, run_id, pods)
        progress.report(number, len(by_run), "DAG runs")
    return Result(runs=len(by_run), used=total([pod for pods in by_run.values() for pod in pods]))


def _accounts(spec: Spec) -> Iterator[PodUsage]:
    root, today = UPath(spec.storage) / spec.application.name / "usage", datetime.now(UTC).date()
    for back in range(spec.days + 1):
        day = root / (today - timedelta(days=back)).isoformat()
        for path in sorted(day.iterdir(), key=str) if day.exists() else []:
            try:
                yield PodUsage.model_validate_json(path.read_bytes())
            except ValidationError as error:
                log.warning("%s is no account of a pod and is left out: %s", path, error)


def _log(application: str, dag_id: str, run_id: str, pods: list[PodUsage]) -> None:
    from nightshift.data.partition import digest_of
    from nightshift.registry.tracking import TrackingRun, reachable

    run = TrackingRun(
        application,
        key=f"usage-{digest_of([dag_id, run_id])[:16]}",
        name=f"usage {dag_id.removeprefix(f'{application}_')} {run_id}",
        tags={"nightshift.job": "usage", "nightshift.dag_id": dag_id, "nightshift.run_id": run_id},
    )
    by_job: dict[str, list[PodUsage]] = defaultdict(list)
    for pod in pods:
        by_job[pod.job].append(pod)
    run.metrics(
        {
            **total(pods).model_dump(),
            **{
                f"{job}/{name}": value for job, own in by_job.items() for name, value in total(own).model_dump().items()
            },
        }
    )
    run.finish()
    for training in filter(None, {_training_run(pod) for pod in by_job.get("train", [])}):
        numbers = {f"usage/{name}": value for name, value in total(by_job["train"]).model_dump().items()}
        with reachable():
            for name, value in numbers.items():
                run.client.log_metric(training, name, value)


def _training_run(pod: PodUsage) -> str | None:
    """The MLflow run of the training that a pod ran, if its result is there."""
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads(UPath(pod.result_uri).read_bytes())["result"]["run_id"])
    return None
