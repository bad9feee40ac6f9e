"""The task that logs in MLflow what the pods of an application used and cost, from the accounts in storage."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import task
from upath import UPath

from nightshift.ledger.pod_accounts import PodUsage, pods_of_runs, total
from nightshift.ledger.spending import count_storage
from nightshift.orchestration.attempt import storage_uri
from nightshift.orchestration.ledger_task import LEDGER_TASK_ARGUMENTS, ledger_task, mlflow

if TYPE_CHECKING:
    from nightshift.registry.rest import Mlflow

DAYS, LONGEST = 2, 31  # runs with a pod that ended in the last 2 days are read, up to 31 days back
ACCOUNTS = "nightshift.accounts"  # tag: which accounts a run of MLflow shows

log = logging.getLogger(__name__)


@task(**LEDGER_TASK_ARGUMENTS)
def usage(application: str, **context: Any) -> dict[str, Any]:
    """Log pods, hours, GPU-hours and cost per DAG run, and per training in the training's own run; measure storage daily.

    :return: the number of `runs` with pods and of runs `logged` now because of new accounts, and what they `used`.
    """
    with ledger_task(application, context) as (app, ledger), mlflow() as server:
        if stored := count_storage(ledger.home, datetime.now(UTC)):
            log.info("%d files with %.1f GB are in storage", stored.files, stored.bytes / 1e9)
        runs = pods_of_runs(storage_uri(), app.name, datetime.now(UTC).date(), days=DAYS, longest=LONGEST)
        logged = sum(_log(server, app.name, pods) for pods in runs)
        used = total([pod for pods in runs for pod in pods])
        log.info("%d runs, %d of them logged now: %s", len(runs), logged, used)
        return {"runs": len(runs), "logged": logged, "used": used.model_dump()}


def _log(server: Mlflow, application: str, pods: list[PodUsage]) -> bool:
    """Log what the pods of one DAG run used, unless it is logged already."""
    first = pods[0]
    key, accounts = f"usage-{first.run_key}", _digest(pods)
    known = server.run_of(application, key)
    if known and known.finished and known.tags.get(ACCOUNTS) == accounts:
        return False
    by_job: dict[str, list[PodUsage]] = defaultdict(list)
    for pod in pods:
        by_job[pod.job].append(pod)
    for training in filter(None, {_training_run(pod) for pod in by_job["train"]}):
        used = total(by_job["train"]).model_dump()
        server.log_metrics(training, {f"usage/{name}": value for name, value in used.items()})
    numbers = {f"{job}/{name}": value for job, own in by_job.items() for name, value in total(own).model_dump().items()}
    # The tag with the accounts comes last: a task that is killed before logs them again.
    server.show(
        application,
        key,
        f"usage {first.dag_id.removeprefix(f'{application}_')} {first.run_id}",
        {
            "nightshift.job": "usage",
            "nightshift.dag_id": first.dag_id,
            "nightshift.run_id": first.run_id,
            ACCOUNTS: accounts,
        },
        {**total(pods).model_dump(), **numbers},
    )
    return True


def _digest(pods: list[PodUsage]) -> str:
    return hashlib.sha256(" ".join(sorted(pod.uid for pod in pods)).encode()).hexdigest()[:16]


def _training_run(pod: PodUsage) -> str | None:
    """The MLflow run of the training that a pod ran, if its result is there."""
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads(UPath(pod.result_uri).read_bytes())["result"]["run_id"])
    return None
