"""The job `usage`: what the pods of an application used and cost, by the times of their nodes, into MLflow."""

from __future__ import annotations

import hashlib
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

# Its pods are accounted for, but a run of MLflow every hour that shows what showing costs helps nobody.
OWN_DAG = "nightshift_usage"
ACCOUNTS = "nightshift.accounts"

log = logging.getLogger(__name__)


class PodUsage(BaseModel):
    """One pod that ended.

    :param uid: the cluster's id of the pod: two pods of one name are two.
    :param node: where it ran; empty, as its namespace, in accounts that an earlier version wrote.
    :param result_uri: where the job left its result, if it did.
    :param price_per_hour: of the whole pod, as the compute profile says.
    """

    pod: str
    uid: str
    namespace: str = ""
    node: str = ""
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
    def run_key(self) -> str:
        """What the accounts of one DAG run have in common."""
        return run_key(self.dag_id, self.run_id)

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
    """Runs with a pod that ended in the last `days` days are looked at, up to `longest` days back."""

    days: int = Field(2, ge=1, le=366)
    longest: int = Field(31, ge=1, le=366)


class Result(JobResult):
    """What the pods of these DAG runs used; `runs` counts them, `logged` those whose accounts are new."""

    runs: int
    logged: int
    used: Used


def run_key(dag_id: str, run_id: str) -> str:
    """Return what the names of the accounts of one DAG run begin with."""
    return hashlib.sha256(f"{dag_id}|{run_id}".encode()).hexdigest()[:12]


def usage_address(storage: UPath, application: str, used: PodUsage) -> UPath:
    """Return where the account of a pod lies: in the folder of the day (UTC) on which it ended, by its DAG run."""
    day = used.ended.astimezone(UTC).date().isoformat()
    return storage / application / "usage" / day / f"{used.run_key}-{used.pod}-{used.uid[:8]}.json"


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
    by_run: dict[str, list[PodUsage]] = defaultdict(list)
    for pod in _accounts(spec):
        by_run[pod.run_key].append(pod)
    logged = 0
    for number, (_, pods) in enumerate(sorted(by_run.items()), start=1):
        logged += _log(spec.application.name, pods)
        progress.report(number, len(by_run), "DAG runs")
    return Result(runs=len(by_run), logged=logged, used=total([pod for pods in by_run.values() for pod in pods]))


def _accounts(spec: Spec) -> Iterator[PodUsage]:
    """The accounts of every run that has one of the last days, also those of the days before."""
    root, today = UPath(spec.storage) / spec.application.name / "usage", datetime.now(UTC).date()
    runs: set[str] = set()
    for back in range(spec.longest + 1):
        day = root / (today - timedelta(days=back)).isoformat()
        for path in sorted(day.iterdir(), key=str) if day.exists() else []:
            key = path.name.partition("-")[0]
            if back > spec.days and key not in runs:
                continue
            runs.add(key)
            try:
                yield PodUsage.model_validate_json(path.read_bytes())
            except ValidationError as error:
                log.warning("%s is no account of a pod and is left out: %s", path, error)


def _log(application: str, pods: list[PodUsage]) -> bool:
    """Show what the pods of one DAG run used, unless that is shown already."""
    from nightshift.registry.tracking import TrackingRun, reachable

    dag_id, run_id = pods[0].dag_id, pods[0].run_id
    if dag_id == OWN_DAG:
        return False
    run = TrackingRun(
        application,
        key=f"usage-{pods[0].run_key}",
        name=f"usage {dag_id.removeprefix(f'{application}_')} {run_id}",
        tags={"nightshift.job": "usage", "nightshift.dag_id": dag_id, "nightshift.run_id": run_id},
    )
    accounts = hashlib.sha256(" ".join(sorted(pod.uid for pod in pods)).encode()).hexdigest()[:16]
    with reachable():
        if run.client.get_run(run.run_id).data.tags.get(ACCOUNTS) == accounts:
            return False
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
    for training in filter(None, {_training_run(pod) for pod in by_job.get("train", [])}):
        numbers = {f"usage/{name}": value for name, value in total(by_job["train"]).model_dump().items()}
        with reachable():
            for name, value in numbers.items():
                run.client.log_metric(training, name, value)
    # The last thing: whoever is killed before logs it again.
    run.tags({ACCOUNTS: accounts})
    run.finish()
    return True


def _training_run(pod: PodUsage) -> str | None:
    """The MLflow run of the training that a pod ran, if its result is there."""
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads(UPath(pod.result_uri).read_bytes())["result"]["run_id"])
    return None
