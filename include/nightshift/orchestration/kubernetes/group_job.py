"""A job over several nodes: an indexed Job whose pods find each other through a headless Service."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from kubernetes.client import BatchV1Api, CoreV1Api
from kubernetes.client.exceptions import ApiException

from nightshift.orchestration.attempt import Attempt
from nightshift.orchestration.kubernetes.cluster import Ending, ending_of
from nightshift.orchestration.kubernetes.cluster_job import REQUEST_SECONDS, ClusterJob
from nightshift.orchestration.kubernetes.environment import pod_environment
from nightshift.orchestration.kubernetes.group_trigger import GroupTrigger
from nightshift.orchestration.kubernetes.labels import GROUP, annotations_of, labels_of
from nightshift.orchestration.kubernetes.manifests import (
    group_environment,
    job_manifest,
    pod_manifest,
    service_manifest,
)
from nightshift.orchestration.kubernetes.submission import Submission, recorded
from nightshift.orchestration.kubernetes.usage import account


class GroupJob(ClusterJob):
    """Runs the job on the nodes of its profile at once and leaves the worker while it runs.

    The provider's own operator for Jobs neither finds the Job of an earlier try nor deletes it when the task is ended.
    """

    @cached_property
    def batch(self) -> BatchV1Api:
        """The API of Jobs."""
        return BatchV1Api(self.cluster.get_conn())

    @cached_property
    def core(self) -> CoreV1Api:
        """The API of pods and Services."""
        return CoreV1Api(self.cluster.get_conn())

    def goes_on(self, submission: Submission) -> bool:
        """Return whether the Job of an earlier try still runs, or ended well."""
        job = self._read(submission.name)
        if job is None or job.metadata.deletion_timestamp:
            return False
        if _condition(job, "Failed"):
            self._account(submission)
            return False
        # The worker before may have died between the two.
        self._offer_service(job)
        return True

    def create(self, attempt: Attempt, submission: Submission, context: Any) -> None:
        """Ask the cluster for the Job, and for the Service that goes with it."""
        nodes, namespace = self.profile.nodes_of(self.job), self.profile.namespace
        pod = pod_manifest(
            self.profile,
            self.job,
            name=submission.name,
            arguments=[self.job, "--spec", submission.spec_uri, "--result", submission.result_uri],
            environment={
                **pod_environment(attempt.spec, self.job, self.profile),
                **group_environment(submission.name, nodes),
            },
            labels={**labels_of(self.job, self.application, context), GROUP: submission.name},
            annotations=annotations_of(context, submission.result_uri),
        )
        job = job_manifest(pod, nodes=nodes)
        try:
            created = self.batch.create_namespaced_job(namespace, job, _request_timeout=REQUEST_SECONDS)
        except ApiException as error:
            if error.status != 409:
                raise
            created = self._read(submission.name)
        self._offer_service(created)

    def remove(self, name: str) -> None:
        """Delete the Job with its pods and its Service, if it is there."""
        try:
            self.batch.delete_namespaced_job(
                name, self.profile.namespace, propagation_policy="Background", _request_timeout=REQUEST_SECONDS
            )
        except ApiException as error:
            if error.status != 404:
                raise

    def watch(self, submission: Submission, context: Any) -> Any:
        """Leave the worker to the trigger that follows the Job."""
        self._submission = submission
        minutes = max(self.profile.schedule_minutes, self.profile.startup_minutes)
        self.defer(
            trigger=GroupTrigger(
                name=submission.name,
                namespace=self.profile.namespace,
                connection=self.profile.connection,
                in_cluster=self.cluster.is_in_cluster or None,
                pending_seconds=minutes * 60,
            ),
            method_name="ended",
        )

    def on_kill(self) -> None:
        """Delete the Job: a person ended the task while this process asked for it."""
        if submission := getattr(self, "_submission", None):
            self.remove(submission.name)

    def ended(self, context: Any, event: dict[str, Any]) -> Any:
        """Come back from the trigger."""
        submission = recorded(context)
        assert submission is not None  # noqa: S101  (written before the Job was asked for)
        with self.in_reach(f"look at {submission.name}", submission, context):
            job = self._read(submission.name)
            pods = self._account(submission)
            if job is not None and _condition(job, "Complete"):
                try:
                    return self.succeeded(submission, context)
                finally:  # also where its verdict stops the flow
                    self.remove(submission.name)
            if event["phase"] == "stuck":
                self.remove(submission.name)
                ending = Ending(f"{self.job}: not all nodes of {submission.name} could start; the events are above")
            elif job is None:
                ending = Ending(f"{self.job}: Job {submission.name} is gone: it was deleted", taken_away=True)
            elif (failed := _condition(job, "Failed")) is None:
                return self.watch(submission, context)
            else:
                ending = _ending(failed, pods, self.job)
            return self.failed(ending, submission, context)

    def _offer_service(self, job: Any) -> None:
        metadata = {name: getattr(job.metadata, name) for name in ("namespace", "name", "labels", "annotations")}
        service = service_manifest(metadata, job.metadata.uid)
        try:
            self.core.create_namespaced_service(self.profile.namespace, service, _request_timeout=REQUEST_SECONDS)
        except ApiException as error:
            if error.status != 409:
                raise

    def _account(self, submission: Submission) -> list[Any]:
        pods: list[Any] = self.core.list_namespaced_pod(
            self.profile.namespace, label_selector=f"job-name={submission.name}", _request_timeout=REQUEST_SECONDS
        ).items
        for pod in pods:
            account(pod, self.profile, self.log)
        return pods

    def _read(self, name: str) -> Any | None:
        try:
            return self.batch.read_namespaced_job(name, self.profile.namespace, _request_timeout=REQUEST_SECONDS)
        except ApiException as error:
            if error.status == 404:
                return None
            raise


def _condition(job: Any, kind: str) -> Any | None:
    return next((one for one in job.status.conditions or [] if one.type == kind and one.status == "True"), None)


def _ending(failed: Any, pods: list[Any], job: str) -> Ending:
    """Why a Job failed: what its pods say, the one with a fault of its own first."""
    endings = [ending_of(pod, job) for pod in pods if pod.status.phase == "Failed"]
    endings.sort(key=lambda ending: (not ending.hopeless, ending.taken_away))
    if not endings:
        return Ending(f"{job}: {failed.reason}: {failed.message}")
    return Ending(
        f"{endings[0].text} ({failed.reason}: {failed.message})",
        taken_away=endings[0].taken_away,
        hopeless=endings[0].hopeless,
    )
