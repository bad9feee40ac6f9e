"""What a cluster says, told to the person who reads a task's log."""

import json

import pytest
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import MaxRetryError, NewConnectionError

from nightshift.orchestration.kubernetes.cluster import ending_of, times_of, trouble
from nightshift.settings.compute import KubernetesCompute

COMPUTE = KubernetesCompute(name="gpu", backend="kubernetes")


def refused(status: int, message: str) -> ApiException:
    error = ApiException(status=status, reason="Refused")
    error.body = json.dumps({"message": message})
    return error


def said(error: Exception):
    return trouble(error, COMPUTE, "create the pod train-1")


@pytest.mark.parametrize(
    ("error", "passes", "text"),
    [
        (MaxRetryError(None, "/api", NewConnectionError(None, "refused")), True, "cannot be reached to"),
        (TimeoutError("timed out"), True, "cannot be reached"),
        (refused(403, 'User x cannot create resource "pods"'), True, "(its value airflow.release)"),
        (refused(403, 'cannot get resource "trainjobs" in "trainer.kubeflow.org"'), True, "(its value trainJobs)"),
        (refused(403, "forbidden: exceeded quota: gpus"), True, "namespace nightshift is full"),
        (refused(403, "violates PodSecurity restricted"), False, "asks for too much"),
        (refused(403, "error looking up service account a/b"), True, "install the chart deploy/helm/nightshift"),
        (refused(403, "maximum memory usage per Container is 4Gi"), False, "maximum memory usage"),
        (refused(403, "unable to create: namespace nightshift is being terminated"), True, "is being deleted"),
        (refused(409, "Operation cannot be fulfilled on resourcequotas"), True, "busy or broken"),
        (refused(401, "Unauthorized"), True, "does not allow Airflow"),
        (refused(404, 'namespaces "nightshift" not found'), True, "is there a namespace nightshift?"),
        (refused(503, "etcd is slow"), True, "busy or broken"),
        (refused(422, "Invalid value: nvidia.com/gpu"), False, "Invalid value: nvidia.com/gpu"),
        (ConfigException("no configuration found"), False, "give the connection a kubeconfig"),
    ],
)  # fmt: skip
def test_every_trouble_has_words_and_says_whether_waiting_helps(error, passes, text):
    found = said(error)
    assert text in found.text
    assert found.passes is passes


def test_an_error_that_is_not_the_clusters_is_left_alone():
    assert said(KeyError("a bug of ours")) is None


def pod(state: dict | None = None, **status):
    """A pod as the client reads it from the API."""
    containers = [{"name": "base", "ready": False, "restartCount": 0, "image": "x", "imageID": "", "state": state}]
    manifest = {"metadata": {"name": "train-1"}, "status": {"containerStatuses": containers if state else [], **status}}
    return PodGenerator.deserialize_model_dict(manifest)


def terminated(code: int, **more) -> dict:
    times = {"startedAt": "2026-11-25T03:00:00Z", "finishedAt": "2026-11-25T03:30:00Z"}
    return {"terminated": {"exitCode": code, **times, **more}}


DISRUPTED = [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "for high"}]


@pytest.mark.parametrize(
    ("ended", "expected", "text"),
    [
        (pod(terminated(0), phase="Succeeded"), "ok", "succeeded"),
        (pod(terminated(65), phase="Failed"), "hopeless", "exit code 65: bad input (a retry cannot help)"),
        (pod(terminated(69), phase="Failed"), "outage", "missing or down"),
        (pod(terminated(1, message="ERROR disk"), phase="Failed"), "", "end of its log: ERROR disk"),
        (pod(terminated(137, reason="OOMKilled"), phase="Failed"), "", "raise memory_gb"),
        (pod(terminated(137), phase="Failed"), "", "killed by signal 9"),
        (pod(terminated(75), phase="Failed"), "preempted", "saved what it had"),
        (pod(terminated(137), phase="Failed", conditions=DISRUPTED), "preempted", "PreemptionByScheduler: for high"),
        (pod(phase="Failed", reason="Evicted", message="low on disk"), "preempted", "Evicted: low on disk"),
        (pod(terminated(143), phase="Failed", reason="DeadlineExceeded"), "hopeless", "deadline_hours"),
        (pod({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}, phase="Pending"), "",
         "did not start: ImagePullBackOff: no such image"),
    ],
)  # fmt: skip
def test_every_ending_of_a_pod_has_words_and_a_consequence(ended, expected, text):
    ending = ending_of(ended, "train")
    assert text in ending.text
    consequences = ("ok", "preempted", "hopeless", "outage")
    assert [name for name in consequences if getattr(ending, name)] == [expected][: bool(expected)]


def test_a_pod_is_accounted_by_its_containers_own_times():
    started, ended = times_of(pod(terminated(0), phase="Succeeded"))
    assert (ended - started).total_seconds() == 1800
    assert times_of(pod({"running": {"startedAt": "2026-11-25T03:00:00Z"}}, phase="Running")) is None
