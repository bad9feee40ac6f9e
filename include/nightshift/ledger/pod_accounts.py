"""The accounts of pods, one file for each pod that ended: what it used and cost, by the times of its node.

<storage>/<app>/usage/<day>/<DAG run>-<pod>-<uid>.json
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, date, timedelta

from pydantic import AwareDatetime, BaseModel, ValidationError
from upath import UPath

from nightshift.storage.files import names_in, read_bytes

log = logging.getLogger(__name__)


class PodUsage(BaseModel):
    """One pod that ended.

    :param uid: the cluster's id of the pod, which distinguishes pods of the same name.
    :param node: where it ran; empty, like its namespace, in accounts of older versions.
    :param result_uri: where the job writes its result.
    :param price_per_hour: of the whole pod, from the compute profile.
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
        """The common prefix of the accounts of one DAG run."""
        return run_key(self.dag_id, self.run_id)

    @property
    def hours(self) -> float:
        """Hours that its container ran."""
        return max(0.0, (self.ended - self.started).total_seconds() / 3600)


class Used(BaseModel):
    """Sums over pods; `cost` in the currency of the compute profiles' prices."""

    pods: int = 0
    pod_hours: float = 0.0
    gpu_hours: float = 0.0
    cost: float = 0.0


def run_key(dag_id: str, run_id: str) -> str:
    """Return the prefix of the file names of a DAG run's accounts."""
    return hashlib.sha256(f"{dag_id}|{run_id}".encode()).hexdigest()[:12]


def usage_address(storage: UPath, application: str, used: PodUsage) -> UPath:
    """Return the path of a pod's account: in the folder of the day (UTC) on which it ended, prefixed by its DAG run."""
    day = used.ended.astimezone(UTC).date().isoformat()
    return storage / application / "usage" / day / f"{used.run_key}-{used.pod}-{used.uid[:8]}.json"


def total(pods: Sequence[PodUsage]) -> Used:
    """Return the sums over pods."""
    return Used(
        pods=len(pods),
        pod_hours=sum(pod.hours for pod in pods),
        gpu_hours=sum(pod.hours * pod.gpus for pod in pods),
        cost=sum(pod.hours * pod.price_per_hour for pod in pods),
    )


def pods_of_runs(storage: str, application: str, today: date, *, days: int, longest: int) -> list[list[PodUsage]]:
    """Return all accounts, up to `longest` days old, of every DAG run with an account of the last `days` days."""
    runs: dict[str, list[PodUsage]] = defaultdict(list)
    for back in range(longest + 1):
        for path in accounts_of(UPath(storage) / application, today - timedelta(days=back)):
            key = path.name.partition("-")[0]
            if back > days and key not in runs:
                continue
            pods = runs[key]
            if pod := read_account(path):
                pods.append(pod)
    return [pods for _, pods in sorted(runs.items()) if pods]


def pods_of_run(storage: str, application: str, key: str, first: date, last: date) -> list[PodUsage]:
    """Return the accounts of one DAG run.

    :param key: from :func:`run_key`.
    """
    days = (first + timedelta(days=after) for after in range((last - first).days + 1))
    found = (path for day in days for path in accounts_of(UPath(storage) / application, day))
    return [pod for path in found if path.name.startswith(f"{key}-") and (pod := read_account(path))]


def accounts_of(home: UPath, day: date) -> Iterator[UPath]:
    """Return the accounts of the pods that ended on one day.

    :param home: the application's folder.
    """
    folder = home / "usage" / day.isoformat()
    return (folder / name for name in names_in(folder))


def read_account(path: UPath) -> PodUsage | None:
    """Return the account of a pod; None if the file is not an account."""
    try:
        return PodUsage.model_validate_json(read_bytes(path) or b"")
    except ValidationError as error:
        log.warning("%s is not an account of a pod, skipping it: %s", path, error)
        return None
