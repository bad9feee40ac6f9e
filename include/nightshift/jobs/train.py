"""The job `train`: fine-tune a base model on a snapshot, and publish the model that comes out."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from nightshift.errors import BadEnvironment, Preempted
from nightshift.jobs.environment import FOR_MODELS
from nightshift.jobs.nodes import nodes
from nightshift.jobs.progress import Progress
from nightshift.jobs.train_contract import Result, Spec
from nightshift.settings.training import Training, TrainingSettings
from nightshift.storage.application_version import Parts, publish_version
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of, require_manifest
from nightshift.storage.partition import fetch, find, partition_of, publish

if TYPE_CHECKING:
    from nightshift.registry.tracking import TrackingRun
    from nightshift.training.checkpoints import Checkpoint
    from nightshift.training.group import Group
    from nightshift.training.layout import Layout
    from nightshift.training.task import Fitted, Task
    from nightshift.training.token_files import TokenFiles

# Part of a model's address: raise it when the same inputs begin to give another model.
TRAINING_VERSION = 2
# They say what was trained on, when to measure and save, or how a step is spread, and not what comes out (but for
# rounding): a training goes on with other machines. What the settings leave open is in the address as that, and what was
# decided for it in the checkpoints and the model: an attempt on another machine finds the same address.
WITHOUT_EFFECT = {
    "window_days", "min_examples", "evaluate_steps", "checkpoint_steps", "rows_per_batch", "processes",
    "attention", "gradient_checkpointing", "torch_compile",
}  # fmt: skip

ENVIRONMENT = FOR_MODELS

log = logging.getLogger(__name__)


def run(spec: Spec, progress: Progress) -> Result | None:
    """Train on this and all other nodes, or find the model that these inputs gave before; the first node then logs it.

    Where the application's model is at an endpoint, that is published as the model, and nothing is trained.

    :raises BadInput: the snapshot, the model or the settings do not allow a training, or it diverges.
    :raises BadEnvironment: the base model cannot be fetched, the nodes do not find each other, or MLflow is down (the
        model is kept; a retry only logs).
    :raises Preempted: SIGTERM on any node, and a checkpoint was published, from which the next attempt goes on; or
        another node is gone.
    """
    if spec.application.inference.hosted:
        from nightshift.jobs.hosted import publish_endpoint

        return publish_endpoint(spec) if nodes().leads else None
    from nightshift.jobs.train_plan import layout_of, started_from
    from nightshift.retrieval.newest import pinned_index
    from nightshift.training.base_model import base_model_digest, resolve_base_model
    from nightshift.training.best import BestWeights
    from nightshift.training.checkpoints import Checkpoints
    from nightshift.training.precision import decided
    from nightshift.training.task import Fitted

    layout = layout_of(spec.training)
    # Another precision gives another model, so what was decided belongs into the address.
    spec = spec.model_copy(update={"training": decided(spec.training)})
    base = resolve_base_model(spec.base_model)
    started = started_from(spec)
    inputs = {
        "snapshot": spec.digest,
        "base_model": base_model_digest(base),
        "training": _with_effect(spec.training),
        "prompt": spec.application.prompt.model_dump(mode="json"),
        "version": TRAINING_VERSION,
        **({"started_from": started.digest} if started else {}),
    }
    key = digest_of(inputs)[:16]
    partition = partition_of(spec.storage, spec.application.name, "models", key)
    checkpoints = partition_of(spec.storage, spec.application.name, "checkpoints", key)
    with scratch_folder(UPath(spec.storage)) as folder:
        manifest = find(partition, inputs)
        if manifest is None:
            manifest = _train(
                spec, base, inputs, started=started, layout=layout, partition=partition, checkpoints=checkpoints,
                folder=folder, progress=progress,
            )  # fmt: skip
        if layout.node:
            return None
        Checkpoints(checkpoints, spec.application.name, inputs).drop_all()
        BestWeights(UPath(f"{checkpoints}-best"), spec.application.name, inputs, folder).drop()
        tracking = _log(spec, partition, manifest, folder)
    fitted = Fitted.model_validate(manifest.facts["fitted"])
    weights = Parent(uri=str(partition), digest=manifest.digest)
    parts = Parts.of(spec.application, weights, pinned_index(spec.application, spec.storage))
    version, of_version = publish_version(spec.application, spec.storage, parts)
    return Result(
        model=str(partition),
        digest=manifest.digest,
        version=str(version),
        version_digest=of_version.digest,
        run_id=tracking.run_id,
        run_url=tracking.url,
        tokens_per_second=fitted.tokens_per_second,
        **fitted.model_dump(include={"steps", "train_tokens", "held_out_loss", "seconds", "processes"}),
    )


def _with_effect(training: TrainingSettings) -> dict[str, Any]:
    """The settings as inputs of a model. The engine for short rows was there first, and is no part of an address."""
    # Where early stopping judges the held-out loss, it matters when that is measured.
    matters = {"evaluate_steps"} if training.early_stopping else set()
    # KTO compares an answer with the unrelated ones of its batch.
    without = WITHOUT_EFFECT - matters - ({"rows_per_batch"} if training.recipe == "kto" else set())
    return training.model_dump(
        mode="json", exclude=without | ({"engine"} if training.engine == "short_rows" else set())
    )


def _train(
    spec: Spec,
    base: Path,
    inputs: dict[str, Any],
    *,
    started: Parent | None,
    layout: Layout,
    partition: UPath,
    checkpoints: UPath,
    folder: Path,
    progress: Progress,
) -> Manifest:
    from nightshift.jobs.train_plan import as_decided, decide_for, start_folder
    from nightshift.training.checkpoints import Checkpoints
    from nightshift.training.group import gathered
    from nightshift.training.task import Task

    output, work = folder / "output", folder / "work"
    output.mkdir()
    work.mkdir()
    base = start_folder(base, started, folder / "start")
    together = gathered(layout, partition.name) if layout.nodes > 1 else nullcontext()
    with together as group:
        tokens = _tokens(spec, base, layout, folder, progress=progress, group=group)
        checkpoint = Checkpoints(checkpoints, spec.application.name, inputs).newest(work)
        resumed = checkpoint.training if checkpoint else None
        decided = as_decided(decide_for(spec, base, tokens, layout, scratch=folder, resumed=resumed), group)
        spec = spec.model_copy(update={"training": decided})
        task = Task(
            application=spec.application.name,
            base_model=base,
            base_model_name=f"{started.uri}/model" if started else spec.base_model,
            tokens=tokens,
            training=spec.training,
            layout=layout,
            checkpoints=str(checkpoints),
            inputs=inputs,
            work=work,
            output=output,
        )
        tracking = _open_run(spec, partition) if layout.node == 0 else None
        fitted = _fit(task, checkpoint, tracking, progress, group)
        if layout.node == 0:
            published = publish(
                partition,
                output,
                kind="model",
                application=spec.application.name,
                inputs=inputs,
                counts={
                    name: getattr(fitted, name) for name in ("steps", "train_examples", "too_long", "train_tokens")
                },
                facts={
                    "fitted": fitted.model_dump(),
                    "base_model": spec.base_model,
                    "method": spec.training.method,
                    "training": spec.training.model_dump(mode="json"),
                    **({"started_from": started and started.model_dump()} if spec.training.recipe != "sft" else {}),
                },
                parents=[Parent(uri=spec.snapshot, digest=spec.digest), *([started] if started else [])],
                logs={"metrics.jsonl"},
            )
        if group:
            # The model is there before any node ends well: one that were started again alone would find no group.
            group.together("published", "-")
    return published if layout.node == 0 else require_manifest(partition)


def _tokens(
    spec: Spec, base: Path, layout: Layout, folder: Path, *, progress: Progress, group: Group | None
) -> TokenFiles:
    """The snapshot's tokens, made together with the other nodes unless they are there."""
    from nightshift.jobs.train_plan import shards_of
    from nightshift.training.token_shards import tokenized

    shards = shards_of(spec, base, folder)

    def report(done: int, of: int) -> None:
        if progress.stopping.is_set():
            raise Preempted(
                "stopped while the snapshot became tokens; the next try goes on with the parts that are there"
            )
        if group and (trouble := group.trouble()):
            raise trouble
        progress.report(done, of, "rows tokenized")

    with progress.stop_cooperatively():
        return tokenized(shards, layout, report, folder / "tokens")


def _fit(
    task: Task, checkpoint: Checkpoint | None, tracking: TrackingRun | None, progress: Progress, group: Group | None
) -> Fitted:
    """Train from a checkpoint on, with the numbers of each step on disk, in MLflow and in the progress."""
    from nightshift.registry.tracking import LiveMetrics, system_metrics
    from nightshift.training.checkpoints import history
    from nightshift.training.elastic import for_processes

    metrics_file = task.output / "metrics.jsonl"
    if checkpoint:
        log.info("going on from the checkpoint of step %d", checkpoint.step)
        folder = for_processes(checkpoint, task.layout.world, task.training.zero_stage, task.work)
        metrics_file.write_text("".join(json.dumps(entry) + "\n" for entry in history(folder)))
        task = task.model_copy(update={"resume_from": folder})
    live = LiveMetrics(metrics_file, tracking)

    def on_metrics(step: int, steps: int, metrics: Mapping[str, float]) -> None:
        live.log(step, metrics)
        if "loss" in metrics:
            progress.report(
                step, steps, "steps", loss=metrics["loss"], tokens_per_second=metrics["tokens_per_second"]
            )  # fmt: skip

    def on_rows(done: int, of: int) -> None:
        progress.report(done, of, "rows read before the first step")

    try:
        with progress.stop_cooperatively(), system_metrics(tracking):
            if task.layout.world == 1:
                from nightshift.training.fit import fit

                return fit(task, on_metrics, progress.stopping, on_rows)
            from nightshift.training.launch import fit_in_processes

            return fit_in_processes(task, on_metrics, progress.stopping, group)
    except Preempted:
        raise
    except Exception:  # whatever ended it, the run in MLflow says that it failed; the error goes on
        if tracking:
            with suppress(BadEnvironment):
                tracking.finish("FAILED")
        raise
    finally:
        live.close()


def _open_run(spec: Spec, partition: UPath) -> TrackingRun | None:
    try:
        tracking = _described_run(spec, partition)
        tracking.reopen()
    except BadEnvironment as error:
        log.warning("training goes on without MLflow; its numbers are kept and sent at the end (%s)", error)
        return None
    return tracking


def _described_run(spec: Spec, partition: UPath) -> TrackingRun:
    """The MLflow run of this model, with what it is made from."""
    from nightshift.registry.tracking import TrackingRun
    from nightshift.training.base_model import base_model_digest, resolve_base_model

    tracking = TrackingRun(
        spec.application.name,
        key=f"train-{partition.name}",
        name=f"train {partition.name[:8]}",
        tags={
            "nightshift.job": "train",
            "nightshift.snapshot": spec.snapshot,
            "nightshift.snapshot_digest": spec.digest,
            "nightshift.base_model": spec.base_model,
            "nightshift.base_model_digest": base_model_digest(resolve_base_model(spec.base_model)),
            "nightshift.model": str(partition),
            **({"nightshift.order": str(spec.order)} if spec.order else {}),
            **({"nightshift.reason": spec.reason} if spec.reason else {}),
        },
    )
    tracking.params(spec.training.model_dump(mode="json"))
    return tracking


def _log(spec: Spec, partition: UPath, manifest: Manifest, folder: Path) -> TrackingRun:
    from nightshift.registry.tracking import replay

    if known := manifest.facts.get("training"):
        spec = spec.model_copy(update={"training": Training.model_validate(known)})
    tracking = _described_run(spec, partition)
    replay(fetch(partition, manifest, "metrics.jsonl", folder), tracking)
    tracking.metrics({name: float(value) for name, value in manifest.counts.items()}, manifest.counts["steps"])
    tracking.tags({"nightshift.model_digest": manifest.digest})
    tracking.artifact(fetch(partition, manifest, "deepspeed.json", folder))
    tracking.finish()
    return tracking
