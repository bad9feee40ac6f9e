"""The plan of a training, which `nightshift train --plan` prints: processes, tokens, and values of open settings."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from nightshift.errors import BadInput, ExitCode
from nightshift.jobs.nodes import nodes
from nightshift.jobs.train_contract import Spec
from nightshift.registry.versions import CHAMPION
from nightshift.settings.applications import load_application, load_compute
from nightshift.settings.compute import MEMORY_VARIABLE, LocalCompute
from nightshift.settings.training import Training, TrainingSettings
from nightshift.storage.application_version import open_version
from nightshift.storage.files import names_in, scratch_folder
from nightshift.storage.manifest import Parent, read_manifest, require_manifest
from nightshift.storage.partition import fetch, fetch_folder, partition_of
from nightshift.training.decide import Data, Decided, decide
from nightshift.training.layout import Layout, check_shares, processes_here
from nightshift.training.machine import this_machine
from nightshift.training.memory import PaperModel
from nightshift.training.token_shards import TokenShards, tokenized

if TYPE_CHECKING:
    from nightshift.training.group import Group
    from nightshift.training.token_files import TokenFiles

log = logging.getLogger(__name__)


def plan(spec: Spec) -> tuple[list[str], ExitCode]:
    """Return what would be trained here, and how, in lines for people; not OK where it does not fit.

    Only the snapshot's tokens are made, unless they are there; a training then finds them.

    :raises BadInput: what training itself refuses before it begins.
    """
    from nightshift.training.base_model import resolve_base_model
    from nightshift.training.plan import lines
    from nightshift.training.precision import decided

    if spec.application.inference.hosted:
        raise BadInput(f"the model of {spec.application.name} is at an endpoint: nothing is trained")
    layout = layout_of(spec.training)
    spec = spec.model_copy(update={"training": decided(spec.training)})
    base = resolve_base_model(spec.base_model)
    with scratch_folder(UPath(spec.storage)) as folder:
        base = start_folder(base, started_from(spec), folder / "start")
        tokens = tokenized(shards_of(spec, base, folder), layout, lambda _done, _of: None, folder / "tokens")
        found = decide_for(spec, base, tokens, layout, scratch=folder)
        told = lines(found, tokens, this_machine(folder), layout, base_model=spec.base_model)
    return told, ExitCode.BAD_INPUT if found.missing else ExitCode.OK


def spec_of(application: str, storage: str) -> Spec:
    """Return the spec with which an application would be trained now: on its newest snapshot, within its compute profile.

    :raises BadInput: it has none yet.
    """
    app = load_application(application)
    snapshots = partition_of(storage, application, "snapshots")
    found = [(snapshots / name, read_manifest(snapshots / name)) for name in names_in(snapshots)]
    made = [(manifest.created, str(place), manifest.digest) for place, manifest in found if manifest]
    if not made:
        raise BadInput(f"{snapshots}: {application} has no snapshot yet; run its DAG finetune, or name a --spec")
    _, place, digest = max(made)
    compute = load_compute(app.profile_of("train"))
    if isinstance(compute, LocalCompute):
        os.environ.setdefault(MEMORY_VARIABLE, str(compute.memory_gb))
    else:
        log.warning("the profile %s trains on a cluster; this is the plan for this machine", compute.name)
    return Spec(
        application=app,
        storage=storage,
        snapshot=place,
        digest=digest,
        base_model=app.base_model,
        training=app.training,
    )


def layout_of(training: TrainingSettings) -> Layout:
    """Return the processes that train, here and on all other nodes.

    :raises BadInput: more than there are GPUs, or a step cannot be shared out evenly among them.
    """
    place = nodes()
    layout = Layout(
        nodes=place.count, node=place.index, rendezvous=place.rendezvous, processes=processes_here(training)
    )
    check_shares(training, layout.world)
    return layout


def started_from(spec: Spec) -> Parent | None:
    """Return the weights that a training on preferences starts from: the champion's; None: the base model's.

    Where those learned preferences themselves, it is what they were started from: the same pairs are not learned twice.

    :raises BadEnvironment: MLflow, which knows the champion, is down.
    :raises BadInput: the champion is gone or damaged.
    """
    if spec.training.recipe == "sft":
        return None
    from nightshift.registry.models import with_alias

    champion = with_alias(spec.application.name, CHAMPION)
    if champion is None:
        return None
    version = open_version(champion.model, champion.digest, spec.application)
    if version.at_endpoint:
        return None
    if version.weights.inputs.get("training", {}).get("recipe", "sft") != "sft":
        started = version.weights.facts["started_from"]
        return Parent.model_validate(started) if started else None
    return version.parts.weights


def start_folder(base: Path, started: Parent | None, folder: Path) -> Path:
    """Return a local folder with the model to start from: the base model's, or a copy of `started`.

    :raises BadInput: that is gone or damaged.
    """
    if started is None:
        return base

    folder.mkdir()
    return fetch_folder(UPath(started.uri), require_manifest(UPath(started.uri), started.digest), folder) / "model"


def shards_of(spec: Spec, base: Path, folder: Path) -> TokenShards:
    """Return the snapshot's tokens as they are to be made, or found; `folder` gets copies of its files.

    :raises BadInput: the snapshot is not there, or another one.
    """
    from nightshift.data.examples import write_pairs
    from nightshift.data.judged_answers import judged_files, one_sided
    from nightshift.data.snapshot import HELD_OUT, TRAIN

    snapshot = UPath(spec.snapshot)
    manifest = require_manifest(snapshot, spec.digest)
    train, held_out = (fetch(snapshot, manifest, name, folder) for name in (TRAIN, HELD_OUT))
    columns = spec.application.prompt.columns
    if spec.training.recipe == "dpo":
        train, held_out = (write_pairs(file, folder / f"pairs_{file.name}", columns) for file in (train, held_out))
    elif spec.training.recipe == "kto":
        (train, held_out), counts = judged_files(snapshot, manifest, (train, held_out), folder, columns)
        if lacks := one_sided(*counts):
            raise BadInput(f"the snapshot {lacks}")
    return TokenShards(
        storage=spec.storage,
        application=spec.application.name,
        snapshot=(spec.snapshot, spec.digest),
        train=train,
        held_out=held_out,
        tokenizer=base,
        prompt=spec.application.prompt,
        loss_on=spec.training.loss_on,
        recipe=spec.training.recipe,
    )


def decide_for(
    spec: Spec,
    base: Path,
    tokens: TokenFiles,
    layout: Layout,
    *,
    scratch: Path,
    resumed: Mapping[str, Any] | None = None,
) -> Decided:
    """Return the training with what its settings leave open, decided for this machine and this data.

    :param scratch: a folder on the disk that the job may fill.
    :param resumed: the settings of the training whose checkpoint it goes on from.
    """
    data = Data.of(tokens, spec.training.together)
    return decide(
        spec.training.model_copy(update={"processes": layout.processes}),
        PaperModel(base, data.learned, data.prefix, int(data.lengths.sum(dtype=int))),
        data,
        this_machine(scratch),
        processes=layout.processes,
        world=layout.world,
        resumed=resumed,
    )


def as_decided(decided: Decided, group: Group | None) -> Training:
    """Return the training as it is done on all nodes, which is as the first one decides.

    :raises BadInput: it does not fit here.
    """
    for name, why in decided.reasons.items():
        log.info("training.%s: %s (%s)", name, getattr(decided.training, name), why)
    if decided.missing:
        raise BadInput(decided.missing)
    if group is None:
        return decided.training
    return Training.model_validate_json(group.together("decided", decided.training.model_dump_json())[0])
