"""How long a task waits for what its job needs and what is down: storage, MLflow, a database, a model hub."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import NEVER_EXPIRE
from pydantic import BaseModel

KEY = "nightshift_outage"
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(minutes=15)


class Outage(BaseModel):
    """What a task remembers of an outage.

    :param try_number: the try that met it; the next has a patience of its own.
    :param began: when it was first met.
    :param looks: how often the job was to be started again.
    """

    try_number: int
    began: datetime
    looks: int = 0


def next_look(context: Any, patience: timedelta, now: datetime) -> timedelta | None:
    """Return how long to wait before the job is started again, and write that down; None: this try has waited enough.

    Each pause is twice as long as the one before, up to a quarter of an hour. The last one ends with the patience.
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
    # 2 ** 5 half minutes are longer than the longest pause already.
    return min(FIRST_PAUSE * 2 ** min(outage.looks, 5), LONGEST_PAUSE, left)
