"""The job `train` for an application with a hosted model: publishes the endpoint's model as a model to evaluate.

Nothing is trained. The partition's address depends only on the endpoint's url and model, so the same endpoint is the same model,
whatever the evaluation data; another endpoint is another candidate, with evaluation and release like any other.
"""

from __future__ import annotations

import json

from upath import UPath

from nightshift.jobs.train_contract import Result, Spec
from nightshift.storage.application_version import Parts, publish_version
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Parent, digest_of, require_manifest
from nightshift.storage.partition import find, partition_of, publish

VERSION = 1  # raised when the same endpoint begins to be another model


def publish_endpoint(spec: Spec) -> Result:
    """Publish the application's endpoint as a model, or find it.

    :raises BadInput: the snapshot is gone.
    :raises BadEnvironment: MLflow cannot be reached; the next try only logs.
    """
    from nightshift.inference.engines import ENDPOINT
    from nightshift.registry.tracking import TrackingRun
    from nightshift.retrieval.newest import pinned_index

    application = spec.application
    assert application.inference.hosted  # noqa: S101  (or a model is trained)
    endpoint = application.inference.hosted.identity
    require_manifest(UPath(spec.snapshot), spec.digest)
    inputs = {"endpoint": endpoint, "version": VERSION}
    partition = partition_of(spec.storage, application.name, "models", digest_of(inputs)[:16])
    manifest = find(partition, inputs)
    if manifest is None:
        with scratch_folder(UPath(spec.storage)) as folder:
            (folder / "model").mkdir()
            (folder / "model" / ENDPOINT).write_text(json.dumps(endpoint, indent=1) + "\n", encoding="utf-8")
            manifest = publish(
                partition,
                folder,
                kind="model",
                application=application.name,
                inputs=inputs,
                facts={"base_model": f"{endpoint['model']} at {endpoint['url']}"},
                parents=[Parent(uri=spec.snapshot, digest=spec.digest)],
            )
    run = TrackingRun(
        application.name,
        key=f"train-{partition.name}",
        name=f"endpoint {endpoint['model']}"[:250],
        tags={
            "nightshift.job": "train",
            "nightshift.model": str(partition),
            "nightshift.model_digest": manifest.digest,
            **({"nightshift.reason": spec.reason} if spec.reason else {}),
        },
    )
    run.params(endpoint)
    run.finish()
    weights = Parent(uri=str(partition), digest=manifest.digest)
    parts = Parts.of(application, weights, pinned_index(application, spec.storage))
    version, of_version = publish_version(application, spec.storage, parts)
    return Result(
        model=str(partition), digest=manifest.digest, version=str(version), version_digest=of_version.digest,
        run_id=run.run_id, run_url=run.url, steps=0, train_tokens=0, tokens_per_second=0.0, held_out_loss=None,
        seconds=0.0, processes=0,
    )  # fmt: skip
