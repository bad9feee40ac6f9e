"""A task's record of the pods that it created, so that a retry finds them and a cleared task starts new ones."""

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
    """One pod, or one group of pods, of a task.

    It is recorded before the pod exists, and its name never holds the number of the try: a retry must find the pods of the
    try before. Airflow keeps this record when the task is cleared; but a clear raises `max_tries` and a retry does not, which
    distinguishes them.

    :param number: counts the submissions of the task, and makes their names differ.
    :param over: whether the task has already handled a failure of these pods.
    :param interruptions: how often the cluster preempted pods since the task was started or cleared.
    :param waits_since: since when the cluster is down, full or refuses; None: it answers.
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
        """The spec of the pods.

        :raises BadInput: the spec is gone.
        """
        return read_spec(self.job, self.spec_uri)


def recorded(context: Any) -> Submission | None:
    """Return the task's submission, of this or an earlier try."""
    stored = context["task_state_store"].get(KEY)
    return Submission.model_validate(stored) if stored else None


def record(submission: Submission, context: Any) -> Submission:
    """Record a submission."""
    context["task_state_store"].set(KEY, submission.model_dump(mode="json"), retention=NEVER_EXPIRE)
    return submission


def submit(attempt: Attempt, before: Submission | None, context: Any) -> Submission:
    """Record that the pods of an attempt are about to be created, after those of `before`."""
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
    """Record that the cluster cannot be used, since the first time of this outage."""
    if submission.waits_since:
        return submission
    return record(submission.model_copy(update={"waits_since": datetime.now(UTC)}), context)


def name_of(job: str, application: str, ti: Any, number: int) -> str:
    """Return the name of a task's pods: the same for the same task and number, at most 50 characters, a DNS label.

    The names of another Airflow with the same DAGs and runs in the same namespace differ.
    """
    identity = f"{airflow_id()}|{ti.dag_id}|{ti.run_id}|{ti.task_id}|{ti.map_index}"
    short = f"{job}-{application[:20]}".replace("_", "-").strip("-")
    return f"{short}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}-{number}"
