"""How long a task waits out an outage of storage, MLflow, a database or a model hub that its job needs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import NEVER_EXPIRE
from pydantic import BaseModel

KEY = "nightshift_outage"
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(minutes=15)


class Outage(BaseModel):
    """A task's record of an outage, kept while it waits.

    :param try_number: the try that met it; the next try starts its own record.
    :param began: when it was first met.
    :param looks: how often the job was started again.
    """

    try_number: int
    began: datetime
    looks: int = 0


def next_look(context: Any, patience: timedelta, now: datetime) -> timedelta | None:
    """Record an attempt and return how long to wait before the next one; None: this try has waited for all of `patience`.

    Each pause is twice as long as the one before, up to 15 minutes. The last one ends when `patience` is over.
    """
    store, number = context["task_state_store"], context["ti"].try_number
    stored = store.get(KEY)
    outage = Outage.model_validate(stored) if stored else None
    if outage is None or outage.try_number != number:
        outage = Outage(try_number=number, began=now)
    left = outage.began + patience - now
    if left <= timedelta():
        return None
    looked = outage.model_copy(update={"looks": outage.looks + 1})
    store.set(KEY, looked.model_dump(mode="json"), retention=NEVER_EXPIRE)
    # 2 ** 5 half minutes exceed the longest pause already.
    return min(FIRST_PAUSE * 2 ** min(outage.looks, 5), LONGEST_PAUSE, left)
