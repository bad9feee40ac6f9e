"""A job as one pod, by Airflow's KubernetesPodOperator."""

from __future__ import annotations

from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import detect_pod_terminate_early_issues
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from nightshift.orchestration.attempt import Attempt
from nightshift.orchestration.kubernetes.cluster import Ending, ending_of, exists_already, ignoring, is_gone
from nightshift.orchestration.kubernetes.cluster_job import REQUEST_SECONDS, ClusterJob
from nightshift.orchestration.kubernetes.environment import pod_environment
from nightshift.orchestration.kubernetes.labels import annotations_of, labels_of
from nightshift.orchestration.kubernetes.manifests import CONTAINER, GRACE_SECONDS, pod_manifest
from nightshift.orchestration.kubernetes.submission import Submission, recorded
from nightshift.orchestration.kubernetes.usage import account
from nightshift.settings.applications import load_compute
from nightshift.settings.compute import KubernetesCompute

LOG_SECONDS = 15  # between two looks at the pod's log


class PodJob(ClusterJob, KubernetesPodOperator):
    """Runs the job as a pod without holding the worker; the pod's log is copied to the task's log."""

    def __init__(self, *, compute: str, **kwargs: Any) -> None:
        profile = load_compute(compute)
        assert isinstance(profile, KubernetesCompute)  # noqa: S101  (the profile's back end chose this class)
        super().__init__(
            compute=compute,
            kubernetes_conn_id=profile.connection,
            namespace=profile.namespace,
            deferrable=True,
            durable=True,
            do_xcom_push=False,
            base_container_name=CONTAINER,
            logging_interval=LOG_SECONDS,
            poll_interval=5,
            schedule_timeout_seconds=int(profile.schedule_minutes * 60),
            startup_timeout_seconds=int(profile.startup_minutes * 60),
            active_deadline_seconds=int(profile.deadline_hours * 3600),
            termination_grace_period=GRACE_SECONDS,
            on_finish_action="delete_succeeded_pod",
            on_kill_action="delete_pod",
            log_events_on_failure=True,
            log_pod_spec_on_failure=False,
            **kwargs,
        )

    def goes_on(self, submission: Submission) -> bool:
        """Return whether the pod of an earlier try still runs, or ended without its result being handled yet."""
        pod = self._read(submission.name)
        if pod is None or pod.metadata.deletion_timestamp:
            return False
        return not (pod.status.phase == "Failed" and submission.over)

    def create(self, attempt: Attempt, submission: Submission, context: Any) -> None:
        """Create the pod; an existing one of this name belongs to this task."""
        manifest = pod_manifest(
            self.profile,
            self.job,
            name=submission.name,
            arguments=[self.job, "--spec", submission.spec_uri, "--result", submission.result_uri],
            environment=pod_environment(attempt.spec, self.job, self.profile),
            labels=labels_of(self.job, self.application, context),
            annotations=annotations_of(context, submission.result_uri, self.job, self.profile),
        )
        with ignoring(exists_already):
            self.client.create_namespaced_pod(
                self.profile.namespace, manifest, field_validation="Strict", _request_timeout=REQUEST_SECONDS
            )

    def remove(self, name: str) -> None:
        """Delete the pod, if it exists."""
        with ignoring(is_gone):
            self.client.delete_namespaced_pod(name, self.profile.namespace, _request_timeout=REQUEST_SECONDS)

    def watch(self, submission: Submission, context: Any) -> Any:
        """Leave the worker, and let the provider's trigger follow the pod and its log."""
        return self._defer(self._read(submission.name), submission, None, context)

    def _defer(self, pod: Any, submission: Submission, last_log_time: Any, context: Any) -> Any:
        self.pod = pod
        if pod is None:
            return self.failed(_gone(submission), submission, context)
        # The trigger's client looks for a kubeconfig where the worker's finds the cluster it runs in.
        self.in_cluster = self.hook.is_in_cluster or None
        return self.invoke_defer_method(last_log_time=last_log_time, context=context)

    def convert_config_file_to_dict(self) -> None:
        """Leave the trigger to its connection: with KUBECONFIG exported the provider gives it two clusters, and it fails."""
        self._config_dict = None

    def succeeded(self, submission: Submission, context: Any) -> dict[str, Any]:
        """Return the result, and push it here: Airflow would need `do_xcom_push`, which adds a sidecar."""
        result = super().succeeded(submission, context)
        context["ti"].xcom_push("return_value", result)
        return result

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> Any:
        """Resume after the trigger's event: the pod ended, or could not be watched."""
        submission = recorded(context)
        assert submission is not None  # noqa: S101  (written before the pod was asked for)
        with self.in_reach(f"look at {submission.name}", submission, context):
            return self._ended(submission, event, context)

    def _ended(self, submission: Submission, event: dict[str, Any], context: Any) -> Any:
        pod = self._read(submission.name)
        if pod is None:
            if event["status"] == "success":
                return self.succeeded(submission, context)
            return self.failed(_gone(submission), submission, context)
        unwatched = event["status"] == "error" and pod.status.phase in {"Pending", "Running"}
        if unwatched and not detect_pod_terminate_early_issues(pod):
            return self.wait(
                f"the pod could not be watched: {event.get('message') or 'no reason'}", submission, context
            )
        return self._conclude(pod, submission, event, context)

    def _conclude(self, pod: Any, submission: Submission, event: dict[str, Any], context: Any) -> Any:
        if pod.status.phase != "Pending":
            try:
                self._write_logs(pod, follow=False, since_time=event.get("last_log_time"))
            except (ApiException, HTTPError) as error:
                self.log.warning("the end of the pod's log cannot be read: %s", error)
        account(pod, self.log)
        ending = ending_of(pod, self.job)
        if ending.ok:
            try:
                return self.succeeded(submission, context)
            finally:  # also if the verdict stops the run
                self.clear_away(submission)
        self._read_pod_events(pod, reraise=False)
        if event["status"] == "timeout":
            ending = Ending(f"{self.job}: {event['message']} The events of the pod are above")
        if pod.status.phase == "Pending":
            # Otherwise it could still start later, without a task that waits for it.
            self.remove(submission.name)
        return self.failed(ending, submission, context)

    def _read(self, name: str) -> Any | None:
        with ignoring(is_gone):
            return self.client.read_namespaced_pod(name, self.profile.namespace, _request_timeout=REQUEST_SECONDS)
        return None


def _gone(submission: Submission) -> Ending:
    return Ending(
        f"{submission.job}: pod {submission.name} is gone: it was deleted, or its node went away", preempted=True
    )
