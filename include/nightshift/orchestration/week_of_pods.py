"""What the pods of an application used in seven days; each account is read once, and its sums are kept beside them."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ValidationError
from upath import UPath

from nightshift.ledger.pod_accounts import PodUsage, Used, total
from nightshift.storage.files import names_in, read_bytes, replace

WEEK = timedelta(days=7)

log = logging.getLogger(__name__)


class _Pod(BaseModel):
    ended: AwareDatetime
    used: Used


class _Read(BaseModel):
    """The sums of the accounts that were read, by day and name."""

    pods: dict[str, _Pod] = {}


def week_of_pods(storage: str, application: str, now: datetime) -> Used:
    """Return what the pods used that ended in the last seven days, by the accounts that tasks and the janitor keep.

    :raises OSError: storage cannot be read or written.
    """
    root = UPath(storage) / application / "usage"
    before, read = _before(root / "week.json"), _Read()
    for back in range(WEEK.days + 1):
        day = (now - timedelta(days=back)).date().isoformat()
        for name in names_in(root / day):
            if pod := before.pods.get(f"{day}/{name}") or _account(root / day / name):
                read.pods[f"{day}/{name}"] = pod
    if read != before:
        replace(root / "week.json", read.model_dump_json().encode())
    pods = [pod.used for pod in read.pods.values() if now - pod.ended <= WEEK]
    return Used(**{name: sum(getattr(used, name) for used in pods) for name in Used.model_fields})


def _before(path: UPath) -> _Read:
    try:
        return _Read.model_validate_json(read_bytes(path) or b"")
    except ValidationError:
        return _Read()


def _account(path: UPath) -> _Pod | None:
    try:
        pod = PodUsage.model_validate_json(read_bytes(path) or b"")
    except ValidationError as error:
        log.warning("%s is no account of a pod and is left out: %s", path, error)
        return None
    return _Pod(ended=pod.ended, used=total([pod]))
