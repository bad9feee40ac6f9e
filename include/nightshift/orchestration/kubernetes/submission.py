"""What a task remembers about the pods that it asked for, so that a retry finds them and a clear starts anew."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import NEVER_EXPIRE
from pydantic import BaseModel

from nightshift.jobs.contract import JobSpec, read_spec
from nightshift.orchestration.attempt import Attempt
from nightshift.orchestration.kubernetes.labels import airflow_id

KEY = "nightshift_submission"


class Submission(BaseModel):
    """One pod, or one group of pods, that a task asked the cluster for.

    It is written down before the pod exists, and its name never holds the number of the try: a retry must find what
    the try before it started. Airflow keeps the state of a task when the task is cleared; but a clear raises the
    tries that it may have, and a retry does not, so by `max_tries` one tells them apart.

    :param number: counts the submissions of the task, and makes their names differ.
    :param over: whether a task has already drawn its consequence from a failure of these pods.
    :param interruptions: how often the cluster took pods away since the task was started or cleared.
    :param waits_since: when a cluster that is down, full or forbids was first met; None: it answered since.
    """

    name: str
    number: int
    max_tries: int
    job: str
    spec_uri: str
    result_uri: str
    interruptions: int = 0
    over: bool = False
    waits_since: datetime | None = None

    @property
    def spec(self) -> JobSpec:
        """The spec that the pods were given.

        :raises BadInput: it is gone.
        """
        return read_spec(self.job, self.spec_uri)


def recorded(context: Any) -> Submission | None:
    """Return what the task remembers, of this or an earlier try."""
    stored = context["task_state_store"].get(KEY)
    return Submission.model_validate(stored) if stored else None


def record(submission: Submission, context: Any) -> Submission:
    """Write a submission down."""
    context["task_state_store"].set(KEY, submission.model_dump(mode="json"), retention=NEVER_EXPIRE)
    return submission


def submit(attempt: Attempt, before: Submission | None, context: Any) -> Submission:
    """Write down that the pods of an attempt are about to be asked for, after those of `before`."""
    number, ti = (before.number + 1 if before else 1), context["ti"]
    same_task = before is not None and before.max_tries == ti.max_tries
    return record(
        Submission(
            name=name_of(attempt.job, attempt.spec.application.name, ti, number),
            number=number,
            max_tries=ti.max_tries,
            job=attempt.job,
            spec_uri=attempt.spec_uri,
            result_uri=attempt.result_uri,
            interruptions=before.interruptions if before and same_task else 0,
            waits_since=before.waits_since if before and same_task else None,
        ),
        context,
    )


def waiting(submission: Submission, context: Any) -> Submission:
    """Write down that the cluster cannot be used now; the first time since it could counts."""
    if submission.waits_since:
        return submission
    return record(submission.model_copy(update={"waits_since": datetime.now(UTC)}), context)


def name_of(job: str, application: str, ti: Any, number: int) -> str:
    """Return the name of a task's pods: the same for the same task and number, at most 50 characters, a DNS label.

    Another Airflow, which may have the same DAGs and runs in the same namespace, gives other names.
    """
    identity = f"{airflow_id()}|{ti.dag_id}|{ti.run_id}|{ti.task_id}|{ti.map_index}"
    short = f"{job}-{application[:20]}".replace("_", "-").strip("-")
    return f"{short}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}-{number}"
