"""A job in pods: the common part of a single pod and a group of pods."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from nightshift.errors import BadInput, JobError, is_outage
from nightshift.orchestration.attempt import Attempt
from nightshift.orchestration.job_task import EnvironmentDown, JobFailed, JobTask, as_airflow
from nightshift.orchestration.kubernetes.cluster import Ending, trouble
from nightshift.orchestration.kubernetes.submission import Submission, record, recorded, submit, waiting
from nightshift.orchestration.links import LINKS, PODS
from nightshift.settings.applications import load_compute
from nightshift.settings.compute import KubernetesCompute

LOOK_AGAIN = timedelta(seconds=30)
REQUEST_SECONDS = (5, 20)  # to connect, and to answer
MOST_INTERRUPTIONS = 100


class ClusterJob(JobTask):
    """A task whose job runs in pods, which outlive the worker that created them.

    A try goes on with the pods of the try before. If the cluster is down, full or refuses, the task waits without a worker
    for as long as the profile allows.
    """

    operator_extra_links = (*LINKS, PODS)

    @abstractmethod
    def goes_on(self, submission: Submission) -> bool:
        """Return whether the pods of an earlier try still run, or ended without their result being handled yet."""

    @abstractmethod
    def create(self, attempt: Attempt, submission: Submission, context: Any) -> None:
        """Create the pods, unless they exist already."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete the pods, if they exist."""

    @abstractmethod
    def watch(self, submission: Submission, context: Any) -> Any:
        """Leave the worker until the pods ended."""

    @cached_property
    def profile(self) -> KubernetesCompute:
        """The compute profile, read now."""
        try:
            compute = load_compute(self.compute)
        except JobError as error:
            raise as_airflow(error) from error
        if not isinstance(compute, KubernetesCompute):
            raise AirflowFailException(f"compute profile {self.compute!r} is no longer one of Kubernetes")
        return compute

    @cached_property
    def cluster(self) -> KubernetesHook:
        """The cluster of the profile's connection."""
        return KubernetesHook(conn_id=self.profile.connection)

    def execute(self, context: Any) -> Any:
        """Create the pods, or find those of an earlier try, and wait for them.

        :raises AirflowFailException: the profile or the arguments are wrong; no retry can help.
        :raises JobFailed: the cluster could not be used for longer than the profile allows.
        """
        before = recorded(context)
        with self.in_reach("look for the pods of this task", before, context):
            submission = self._found(before, context)
        if submission is None:
            with self.waiting_out_outages(context):
                attempt = self.prepared(context)
            self.submission = submission = submit(attempt, before, context)
            with self.in_reach(f"create {submission.name}", submission, context):
                self.create(attempt, submission, context)
            self.log.info("asked the cluster for %s in namespace %s", submission.name, self.profile.namespace)
        self.submission = submission
        if submission.waits_since:
            submission = record(submission.model_copy(update={"waits_since": None}), context)
        with self.in_reach(f"look at {submission.name}", submission, context):
            return self.watch(submission, context)

    def _found(self, before: Submission | None, context: Any) -> Submission | None:
        if before is None:
            return None
        if before.max_tries != context["ti"].max_tries:
            self.log.info("the task was cleared: dropping %s and starting the job again", before.name)
            self.remove(before.name)
            return None
        if not self.goes_on(before):
            return None
        self.log.info("continuing with %s, which an earlier try created", before.name)
        return before

    @contextmanager
    def in_reach(self, doing: str, submission: Submission | None, context: Any) -> Iterator[None]:
        """Explain an error of the cluster in this block, and wait if waiting can help."""
        try:
            yield
        except TaskDeferred:
            raise
        except EnvironmentDown as error:
            self.wait_for_end(error, context)
        except BadInput as error:
            raise as_airflow(error) from error
        except Exception as error:
            found = trouble(error, self.profile, doing)
            if found is None:
                raise
            if not found.passes:
                raise AirflowFailException(found.text) from error
            self.wait(found.text, submission, context)

    def wait(self, why: str, submission: Submission | None, context: Any) -> None:
        """Leave the worker for 30 seconds, then try again.

        :raises JobFailed: the task has waited for as long as the profile allows.
        """
        # Without a submission the wait is not recorded: the task has only begun.
        since = waiting(submission, context).waits_since if submission else None
        waited = datetime.now(UTC) - since if since else timedelta()
        if submission and waited > timedelta(minutes=self.profile.schedule_minutes):
            # The next try waits anew.
            record(submission.model_copy(update={"waits_since": None}), context)
            raise JobFailed(f"{why}; waited {waited.total_seconds() / 60:.0f} minutes")
        self.log.warning(
            "%s; looking again every %d s, for at most %g minutes",
            why, LOOK_AGAIN.total_seconds(), self.profile.schedule_minutes,
        )  # fmt: skip
        self.defer(trigger=TimeDeltaTrigger(LOOK_AGAIN), method_name="again")

    def on_kill(self) -> None:
        """Delete the pods: a person ended the task while this process held it."""
        if submission := getattr(self, "submission", None):
            self.remove(submission.name)

    def clear_away(self, submission: Submission) -> None:
        """Delete pods that succeeded. If that fails, the janitor deletes them later; the result counts."""
        try:
            self.remove(submission.name)
        except Exception as error:
            self.log.warning("%s could not be deleted and is left to the janitor: %s", submission.name, error)

    def succeeded(self, submission: Submission, context: Any) -> dict[str, Any]:
        """Return the result, the only proof that the job succeeded."""
        try:
            spec = submission.spec
        except JobError as error:
            raise as_airflow(error) from error
        except Exception as error:
            if is_outage(error):
                raise EnvironmentDown(f"the spec at {submission.spec_uri} cannot be read: {error}") from error
            raise
        return self.answer(spec, submission.result_uri, context)

    def failed(self, ending: Ending, submission: Submission, context: Any) -> Any:
        """Raise the error that fits the pods' ending; an interruption on spot nodes uses no retry."""
        submission = record(submission.model_copy(update={"over": True}), context)
        if ending.hopeless:
            raise AirflowFailException(ending.text)
        if ending.outage:
            raise EnvironmentDown(ending.text)
        if not (ending.preempted and self.profile.spot and submission.interruptions < MOST_INTERRUPTIONS):
            raise JobFailed(ending.text)
        count = submission.interruptions + 1
        record(submission.model_copy(update={"interruptions": count}), context)
        self.log.warning("%s; interruption %d, which uses no retry: creating new pods", ending.text, count)
        self.defer(trigger=TimeDeltaTrigger(LOOK_AGAIN), method_name="again")
