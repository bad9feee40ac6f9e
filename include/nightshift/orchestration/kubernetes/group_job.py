"""A job over several nodes: an indexed Job whose pods find each other through a headless Service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

from kubernetes.client import CoreV1Api, CustomObjectsApi

from nightshift.orchestration.attempt import Attempt
from nightshift.orchestration.kubernetes.cluster import Ending, ending_of, exists_already, ignoring, is_gone
from nightshift.orchestration.kubernetes.cluster_job import REQUEST_SECONDS, ClusterJob
from nightshift.orchestration.kubernetes.environment import pod_environment
from nightshift.orchestration.kubernetes.group_trigger import GroupTrigger
from nightshift.orchestration.kubernetes.kinds import JOBS, KINDS, Kind, condition
from nightshift.orchestration.kubernetes.labels import GROUP, annotations_of, labels_of
from nightshift.orchestration.kubernetes.manifests import (
    CONTAINERS,
    group_environment,
    job_manifest,
    pod_manifest,
    service_manifest,
)
from nightshift.orchestration.kubernetes.submission import Submission, recorded
from nightshift.orchestration.kubernetes.usage import account
from nightshift.settings.compute import Launcher


class GroupJob(ClusterJob):
    """Runs the job on all nodes of its profile at once, without holding the worker.

    The provider's operator for Jobs neither finds the Job of an earlier try nor deletes it when the task is killed.
    """

    launcher: ClassVar[Launcher] = "job"

    @cached_property
    def objects(self) -> CustomObjectsApi:
        """The API of Jobs and TrainJobs."""
        return CustomObjectsApi(self.cluster.get_conn())

    @cached_property
    def core(self) -> CoreV1Api:
        """The API of pods and Services."""
        return CoreV1Api(self.cluster.get_conn())

    def goes_on(self, submission: Submission) -> bool:
        """Return whether the Job of an earlier try still runs, or ended without its result being handled yet."""
        job = self._read(submission.name)
        if job is None:
            # The worker of the earlier try may have died before it created the Job, or somebody deleted it.
            self.remove(submission.name)
            return False
        if "deletionTimestamp" in job["metadata"]:
            return False
        if condition(job, "Failed"):
            return not submission.over
        # The worker of the earlier try may have died between creating the Job and its Service.
        self.complete(job)
        return True

    def create(self, attempt: Attempt, submission: Submission, context: Any) -> None:
        """Create the Job with its Service."""
        nodes = self.profile.nodes_of(self.job)
        pod = pod_manifest(
            self.profile,
            self.job,
            name=submission.name,
            arguments=[self.job, "--spec", submission.spec_uri, "--result", submission.result_uri],
            environment={
                **pod_environment(attempt.spec, self.job, self.profile),
                **group_environment(submission.name, self.profile, self.job),
            },
            labels={**labels_of(self.job, self.application, context), GROUP: submission.name},
            annotations=annotations_of(context, submission.result_uri, self.job, self.profile),
            container=CONTAINERS[self.launcher],
        )
        self.complete(self.start(job_manifest(pod, nodes=nodes)))

    def start(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Create the Job, and return it as the cluster has it."""
        return self.offer(JOBS, job)

    def complete(self, job: Mapping[str, Any]) -> None:
        """Create the Service of a Job, unless it exists."""
        service = service_manifest(job["metadata"], job["metadata"]["uid"])
        with ignoring(exists_already):
            self.core.create_namespaced_service(self.profile.namespace, service, _request_timeout=REQUEST_SECONDS)

    def remove(self, name: str) -> None:
        """Delete the Job with its pods and its Service, if it exists."""
        self.delete(KINDS[self.launcher], name)

    def offer(self, kind: Kind, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object and return it; an existing one of this name belongs to this task."""
        place = kind.objects_of(self.profile.namespace)
        with ignoring(exists_already):
            created: dict[str, Any] = self.objects.create_namespaced_custom_object(
                **place, body=manifest, field_validation="Strict", _request_timeout=REQUEST_SECONDS
            )
            return created
        found: dict[str, Any] = self.objects.get_namespaced_custom_object(
            **place, name=manifest["metadata"]["name"], _request_timeout=REQUEST_SECONDS
        )
        return found

    def delete(self, kind: Kind, name: str) -> None:
        """Delete an object with all that it owns, if it exists."""
        with ignoring(is_gone):
            self.objects.delete_namespaced_custom_object(
                **kind.objects_of(self.profile.namespace), name=name, propagation_policy="Background",
                _request_timeout=REQUEST_SECONDS,
            )  # fmt: skip

    def watch(self, submission: Submission, context: Any) -> Any:
        """Leave the worker, and let the trigger follow the Job."""
        minutes = max(self.profile.schedule_minutes, self.profile.startup_minutes)
        self.defer(
            trigger=GroupTrigger(
                name=submission.name,
                launcher=self.launcher,
                namespace=self.profile.namespace,
                connection=self.profile.connection,
                in_cluster=self.cluster.is_in_cluster or None,
                pending_seconds=minutes * 60,
            ),
            method_name="ended",
        )

    def ended(self, context: Any, event: dict[str, Any]) -> Any:
        """Resume after the trigger's event."""
        submission = recorded(context)
        assert submission is not None  # noqa: S101  (written before the Job was asked for)
        with self.in_reach(f"look at {submission.name}", submission, context):
            job = self._read(submission.name)
            pods = self._account(submission)
            if job is not None and condition(job, "Complete"):
                try:
                    return self.succeeded(submission, context)
                finally:  # also if the verdict stops the run
                    self.clear_away(submission)
            if event["phase"] == "forbidden":
                return self.wait(
                    f"the triggerer may not look at {submission.name}: {event['text']}", submission, context
                )
            if event["phase"] == "stuck":
                self.remove(submission.name)
                ending = Ending(f"{self.job}: not all nodes of {submission.name} could start; the events are above")
            elif job is None:
                ending = Ending(f"{self.job}: {submission.name} is gone: it was deleted", preempted=True)
            elif (failed := condition(job, "Failed")) is None:
                return self.watch(submission, context)
            else:
                ending = _ending(failed, pods, self.job)
            return self.failed(ending, submission, context)

    def _account(self, submission: Submission) -> list[Any]:
        pods: list[Any] = self.core.list_namespaced_pod(
            self.profile.namespace, label_selector=f"{GROUP}={submission.name}", _request_timeout=REQUEST_SECONDS
        ).items
        for pod in pods:
            account(pod, self.log)
        return pods

    def _read(self, name: str) -> dict[str, Any] | None:
        with ignoring(is_gone):
            found: dict[str, Any] = self.objects.get_namespaced_custom_object(
                **KINDS[self.launcher].objects_of(self.profile.namespace), name=name, _request_timeout=REQUEST_SECONDS
            )
            return found
        return None


def _ending(failed: Mapping[str, Any], pods: list[Any], job: str) -> Ending:
    """Why a Job failed, by the endings of its pods, one with a fault of its own first."""
    why = f"{failed['reason']}: {failed['message']}"
    if "DeadlineExceeded" in why:
        return Ending(f"{job}: ran longer than its profile's deadline_hours and was ended ({why})", hopeless=True)
    endings = [ending_of(pod, job) for pod in pods if pod.status.phase == "Failed"]
    endings.sort(key=lambda ending: (not ending.hopeless, ending.preempted))
    if not endings:
        return Ending(f"{job}: {why}")
    return replace(endings[0], text=f"{endings[0].text} ({why})")
