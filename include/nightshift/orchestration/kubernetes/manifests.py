"""The manifests of a job's pods: pure functions of a compute profile.

Every pod meets the restricted pod security standard, and only /scratch, /tmp, /dev/shm and the profile's volumes can be
written to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from nightshift.errors import BadInput, ExitCode
from nightshift.settings.compute import KubernetesCompute, Launcher, pinned_image

CONTAINER = "base"
# Kubeflow Trainer takes a container of this name only, and JobSet puts that of the replicated job into the hosts' names.
TRAINER_NODE = "node"
CONTAINERS: dict[Launcher, str] = {"job": CONTAINER, "trainjob": TRAINER_NODE}
USER = 50_000
RENDEZVOUS_PORT = 29_500
GRACE_SECONDS = 120  # from SIGTERM to SIGKILL: time for a checkpoint
KEPT_SECONDS = 86_400  # that an ended Job is kept for people to inspect
# Exit codes of jobs after which a retry cannot help.
HOPELESS = [int(ExitCode.FAILED), int(ExitCode.BAD_INPUT)]
TRIES_PER_NODE = 3

SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
# Libraries write caches to these folders, so they must be writable.
HOMES = {
    "HOME": "/scratch",
    "TMPDIR": "/scratch",
    "HF_HOME": "/scratch/huggingface",
    "MPLCONFIGDIR": "/scratch/matplotlib",
    "NIGHTSHIFT_CACHE": "/scratch/cache",
    "TRITON_CACHE_DIR": "/scratch/triton",
}


def image_of(compute: KubernetesCompute) -> str:
    """Return the image of a profile's pods.

    :raises BadInput: neither the profile nor Airflow's environment names an image, or its tag may move.
    """
    image = compute.image or os.environ.get("NIGHTSHIFT_IMAGE")
    if not image:
        raise BadInput(
            f"compute profile {compute.name!r} has no image: build one (docker/README.md) and name it in `image`, or in "
            "the environment variable NIGHTSHIFT_IMAGE of Airflow's workers"
        )
    try:
        return pinned_image(image)
    except ValueError as error:
        raise BadInput(f"the image {image!r} of compute profile {compute.name!r}: {error}") from None


def pod_manifest(
    compute: KubernetesCompute,
    job: str,
    *,
    name: str,
    arguments: list[str],
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    annotations: Mapping[str, str] | None = None,
    container: str = CONTAINER,
) -> dict[str, Any]:
    """Return the manifest of one pod that runs `nightshift` with `arguments`.

    :raises BadInput: there is no image, or the profile's template cannot be read.
    """
    plain = {**HOMES, **environment, **compute.environment}
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": compute.service_account,
        "automountServiceAccountToken": compute.mount_token,
        "enableServiceLinks": False,
        # PID 1 ignores signals without a handler and must reap orphans; with a shared process namespace, the sandbox's
        # process is PID 1, whatever the image starts.
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "activeDeadlineSeconds": int(compute.deadline_hours * 3600),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "imagePullSecrets": [{"name": secret} for secret in compute.image_pull_secrets],
        "nodeSelector": dict(compute.node_selector),
        "tolerations": [_toleration(toleration.model_dump(exclude_none=True)) for toleration in compute.tolerations],
        "affinity": compute.affinity,
        "priorityClassName": compute.priority_class,
        "runtimeClassName": compute.runtime_class,
        "containers": [
            {
                "name": container,
                "image": image_of(compute),
                "imagePullPolicy": "IfNotPresent",
                "command": ["python", "-m", "nightshift"],
                "args": arguments,
                "env": [
                    *({"name": key, "value": value} for key, value in plain.items()),
                    *(_from_secret(key, place) for key, place in compute.secrets.items()),
                ],
                "envFrom": [{"secretRef": {"name": secret}} for secret in compute.secret_sets],
                "resources": _resources(compute, job),
                "securityContext": SECURITY,
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": [
                    {"name": "scratch", "mountPath": "/scratch"},
                    {"name": "scratch", "mountPath": "/tmp", "subPath": "tmp"},  # noqa: S108  (of the pod's own)
                    {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108
                    *(
                        {"name": f"volume-{number}", "mountPath": volume.path, "readOnly": volume.read_only}
                        for number, volume in enumerate(compute.volumes)
                    ),
                ],
            }
        ],
        "volumes": [
            {"name": "scratch", "emptyDir": {"sizeLimit": _bytes(compute.scratch_gb)}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": _bytes(compute.shared_memory_gb)}},
            *(
                {"name": f"volume-{number}", "persistentVolumeClaim": {"claimName": volume.claim}}
                for number, volume in enumerate(compute.volumes)
            ),
        ],
    }
    queue = {"kueue.x-k8s.io/queue-name": compute.queue} if compute.queue else {}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": compute.namespace,
            "labels": {**labels, **queue},
            "annotations": {
                # An autoscaler that drains a node would kill a training of eight hours.
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                **(annotations or {}),
            },
        },
        "spec": {key: value for key, value in spec.items() if value not in (None, [], {})},
    }
    return _on_template(compute, pod)


def job_manifest(pod: Mapping[str, Any], *, nodes: int) -> dict[str, Any]:
    """Return the indexed Job that runs a pod on several nodes.

    A lost node does not count as a failure; a hopeless exit code is not retried; any other failure is retried
    a few times, from the newest checkpoint.
    """
    name, metadata = pod["metadata"]["name"], pod["metadata"]
    queue = {key: value for key, value in metadata["labels"].items() if key.startswith("kueue.")}
    labels = {key: value for key, value in metadata["labels"].items() if key not in queue}
    container = pod["spec"]["containers"][0]["name"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "namespace": metadata["namespace"],
            "name": name,
            "labels": {**labels, **queue},
            "annotations": metadata["annotations"],
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": nodes,
            "parallelism": nodes,
            "backoffLimit": TRIES_PER_NODE * nodes,
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    # The exit code of the other nodes when one is lost.
                    {
                        "action": "Ignore",
                        "onExitCodes": {
                            "containerName": container,
                            "operator": "In",
                            "values": [int(ExitCode.PREEMPTED)],
                        },
                    },
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": container, "operator": "In", "values": HOPELESS},
                    },
                ]
            },
            "activeDeadlineSeconds": pod["spec"]["activeDeadlineSeconds"],
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "suspend": bool(queue),
            "template": {
                "metadata": {"labels": labels, "annotations": metadata["annotations"]},
                "spec": {
                    **{key: value for key, value in pod["spec"].items() if key != "activeDeadlineSeconds"},
                    "subdomain": name,
                },
            },
        },
    }


def service_manifest(job: Mapping[str, Any], uid: str) -> dict[str, Any]:
    """Return the headless Service by which the pods of a Job find each other.

    The Job owns it, so that both are deleted together.

    :param job: the Job's metadata.
    :param uid: the cluster's id of the Job.
    """
    name = job["name"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            **{key: job[key] for key in ("namespace", "name", "labels", "annotations")},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid}],
        },
        "spec": {
            "clusterIP": "None",
            # Nodes look for each other before they are ready.
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": name},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT}],
        },
    }


def group_environment(name: str, compute: KubernetesCompute, job: str) -> dict[str, str]:
    """Return the variables with which the nodes of a group find each other, and the time that they wait."""
    first = f"{name}-0" if compute.launcher == "job" else f"{name}-{TRAINER_NODE}-0-0"
    return {
        "NIGHTSHIFT_NODES": str(compute.nodes_of(job)),
        "NIGHTSHIFT_RENDEZVOUS": f"{first}.{name}:{RENDEZVOUS_PORT}",
        # As long as the others may need to be placed and started.
        "NIGHTSHIFT_GATHER_SECONDS": str(round(60 * max(compute.schedule_minutes, compute.startup_minutes))),
    }


def _resources(compute: KubernetesCompute, job: str) -> dict[str, dict[str, str]]:
    gpus = {compute.gpu_resource: str(compute.gpus_of(job))} if compute.gpus_of(job) else {}
    # The request equals the limit: with a smaller request the node may kill the pod when memory is short.
    limits = {"memory": _bytes(compute.memory_gb), "ephemeral-storage": _bytes(compute.scratch_gb), **gpus}
    return {"requests": {"cpu": f"{round(compute.cpus * 1000)}m", **limits}, "limits": limits}


def _bytes(gigabytes: float) -> str:
    return f"{round(gigabytes * 1000)}M"


def _from_secret(variable: str, place: str) -> dict[str, Any]:
    name, key = place.split("/", 1)
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def _toleration(fields: dict[str, Any]) -> dict[str, Any]:
    return {{"seconds": "tolerationSeconds"}.get(key, key): value for key, value in fields.items()}


def _on_template(compute: KubernetesCompute, pod: dict[str, Any]) -> dict[str, Any]:
    """The pod merged into the profile's template, as Airflow merges its operators' arguments."""
    if compute.template is None:
        return pod
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
    from kubernetes.client import ApiClient

    path = Path(compute.template)
    try:
        template = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"the template of compute profile {compute.name!r} cannot be read: {error}") from error
    if not isinstance(template, dict) or template.get("kind") != "Pod":
        raise BadInput(f"{path}: the template of a compute profile is a Pod, with `apiVersion`, `kind` and `spec`")
    merged = PodGenerator.reconcile_pods(
        PodGenerator.deserialize_model_dict(template), PodGenerator.deserialize_model_dict(pod)
    )
    manifest: dict[str, Any] = ApiClient().sanitize_for_serialization(merged)
    return manifest
