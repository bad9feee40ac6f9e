"""The manifests of a compute profile, to read before anything runs, and to validate by a dry run on the cluster."""

from __future__ import annotations

from typing import Any

from nightshift.errors import BadEnvironment, BadInput
from nightshift.orchestration.kubernetes.cluster import trouble
from nightshift.orchestration.kubernetes.kinds import RUNTIMES
from nightshift.orchestration.kubernetes.labels import APPLICATION, JOB, OURS
from nightshift.orchestration.kubernetes.manifests import (
    CONTAINERS,
    group_environment,
    job_manifest,
    pod_manifest,
    service_manifest,
)
from nightshift.orchestration.kubernetes.train_manifests import runtime_manifest, train_job_manifest
from nightshift.settings.compute import KubernetesCompute


def rendered(compute: KubernetesCompute, job: str) -> list[dict[str, Any]]:
    """Return the manifests of a job on a profile: a pod, or a Job and its Service, or a TrainJob and its runtime.

    Values of a task (spec, labels of its run, MLflow's address) are examples.

    :raises BadInput: there is no image, or the template cannot be read.
    """
    name, nodes = f"{job}-example-0123456789-1", compute.nodes_of(job)
    pod = pod_manifest(
        compute,
        job,
        name=name,
        arguments=[job, "--spec", "s3://bucket/spec.json", "--result", "s3://bucket/result.json"],
        environment={
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
            **(group_environment(name, compute, job) if nodes > 1 else {}),
        },
        labels={**OURS, APPLICATION: "example", JOB: job},
        container=CONTAINERS[compute.launcher if nodes > 1 else "job"],
    )
    if nodes == 1:
        return [pod]
    group = job_manifest(pod, nodes=nodes)
    if compute.launcher == "trainjob":
        return [runtime_manifest(group), train_job_manifest(group)]
    return [group, service_manifest(group["metadata"], "00000000-0000-0000-0000-000000000000")]


def dry_run(compute: KubernetesCompute, manifests: list[dict[str, Any]]) -> list[str]:
    """Return the answer of the cluster (of the current kubeconfig, or around this process) to each manifest; create nothing.

    :raises BadInput: the cluster refuses a manifest.
    :raises BadEnvironment: it cannot be reached, does not allow it, or is full.
    """
    from kubernetes import config
    from kubernetes.client import BatchV1Api, CoreV1Api

    creates = {
        "Pod": lambda: CoreV1Api().create_namespaced_pod,
        "Job": lambda: BatchV1Api().create_namespaced_job,
        "Service": lambda: CoreV1Api().create_namespaced_service,
        "TrainingRuntime": lambda: _create_runtime,
    }
    answers = []
    for manifest in manifests:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if kind == "TrainJob":
            answers.append(f"{kind} {name}: not checked, as Kubeflow Trainer accepts one only after its runtime exists")
            continue
        try:
            config.load_config()
            creates[kind]()(compute.namespace, manifest, dry_run="All", _request_timeout=(5, 20))
        except Exception as error:
            found = trouble(error, compute, f"create the {kind} {name}")
            if found is None:
                raise
            raise (BadEnvironment if found.passes else BadInput)(found.text) from error
        answers.append(f"{kind} {name}: accepted by the cluster (dry run)")
    return answers


def _create_runtime(namespace: str, manifest: dict[str, Any], **kwargs: Any) -> Any:
    from kubernetes.client import CustomObjectsApi

    # By itself an API server drops a field that the installed release does not know.
    return CustomObjectsApi().create_namespaced_custom_object(
        **RUNTIMES.objects_of(namespace), body=manifest, field_validation="Strict", **kwargs
    )
