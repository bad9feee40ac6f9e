"""The task that shows in MLflow what the pods of an application used and cost, by the accounts that lie in storage."""

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
from nightshift.orchestration.deciding import OUTLASTING, deciding, mlflow

if TYPE_CHECKING:
    from nightshift.registry.rest import Mlflow

DAYS, LONGEST = 2, 31  # runs with a pod that ended in the last two days are looked at, up to a month back
ACCOUNTS = "nightshift.accounts"  # tag: which accounts a run of MLflow shows

log = logging.getLogger(__name__)


@task(**OUTLASTING)
def usage(application: str, **context: Any) -> dict[str, Any]:
    """Log pods, hours, GPU-hours and cost of each DAG run, and of each training to the training's own run; count storage daily.

    :return: `runs` with pods, those of them that are `logged` now because their accounts are new, and what they `used`.
    """
    with deciding(application, context) as (app, ledger), mlflow() as server:
        if stored := count_storage(ledger.home, datetime.now(UTC)):
            log.info("%d files with %.1f GB are in storage", stored.files, stored.bytes / 1e9)
        runs = pods_of_runs(storage_uri(), app.name, datetime.now(UTC).date(), days=DAYS, longest=LONGEST)
        logged = sum(_log(server, app.name, pods) for pods in runs)
        used = total([pod for pods in runs for pod in pods])
        log.info("%d runs, %d of them logged now: %s", len(runs), logged, used)
        return {"runs": len(runs), "logged": logged, "used": used.model_dump()}


def _log(server: Mlflow, application: str, pods: list[PodUsage]) -> bool:
    """Show what the pods of one DAG run used, unless that is shown already."""
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
    # Its last step names the accounts: whoever is killed before logs them again.
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
