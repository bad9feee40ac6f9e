"""The job `snapshot`: gather a training set from accepted partitions, and held-out rows that no model has seen."""

from __future__ import annotations

import logging
from datetime import date
from typing import TYPE_CHECKING, Any

from pydantic import Field
from upath import UPath

from nightshift.errors import BadInput
from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.nodes import Nodes, nodes, together
from nightshift.jobs.progress import Progress
from nightshift.settings.training import LEARNED_FROM, Recipe
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, digest_of, require_manifest
from nightshift.storage.partition import fetch, find, partition_of, publish
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.data.gathering import SharedGathering
    from nightshift.data.snapshot import Selection
    from nightshift.data.split_map import State

log = logging.getLogger(__name__)


class Spec(JobSpec):
    """Which days the training set covers."""

    until: date | None = Field(None, description="last day of examples, included; empty: the newest accepted")
    window_days: int | None = Field(None, ge=1, le=3650, description="days up to `until`; empty: the application's")
    min_examples: int | None = Field(None, ge=1, description="training examples asked for; empty: the application's")
    recipe: Recipe | None = Field(
        None, description="what is trained on: sft examples, dpo pairs, kto judged answers; empty: the application's"
    )
    of_model: str | None = Field(
        None, description="URI of a model that is trained already: its own snapshot, whatever days came since"
    )


class Result(JobResult):
    """Where the snapshot is, or why there is none."""

    verdict: Verdict
    reason: str
    snapshot: str | None = None
    digest: str | None = None
    train_examples: int = 0
    held_out_examples: int = 0
    days: list[str] = Field([], description="interval keys")


# `Any` stands for None: whoever calls this on one node need not look for it.
def run(spec: Spec, progress: Progress) -> Result | Any:
    """Publish the snapshot of the newest accepted days, or find it; or find that of a model which is trained already.

    On many nodes each gathers rows of its share of the days; the first one joins them and has the result, the others
    return None.

    :raises BadInput: a partition is damaged.
    """
    from nightshift.data.published_sides import catch_up
    from nightshift.data.snapshot import published_corrections, published_examples, select
    from nightshift.data.split_map import SplitMap

    name, training, node = spec.application.name, spec.application.training, nodes()
    if spec.of_model and (known := _snapshot_of(spec.of_model)):
        return known if node.leads else None
    examples = published_examples(spec.storage, name, spec.application.zone)
    corrections = published_corrections(spec.storage, name, spec.application.zone)
    feedback = spec.application.feedback
    chosen = [*examples, *corrections] if feedback and feedback.corrections else examples
    searched = spec.application.ingest.splits.development > 0
    selection = select(chosen, spec.until, spec.window_days or training.window_days, searched)
    for key, reason in selection.left_out.items():
        log.warning("%s is left out: %s", key, reason)
    days = list(dict.fromkeys(published.key for published in selection.window))
    left_out = "".join(f"; {key} left out: {reason}" for key, reason in selection.left_out.items())
    if not selection.window:
        reason = f"no accepted examples{f' up to {spec.until}' if spec.until else ''}{left_out}"
        return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=reason) if node.leads else None

    state = catch_up(SplitMap(spec.storage, name), spec.storage, name, [*examples, *corrections])
    partition = partition_of(spec.storage, name, "snapshots", digest_of(selection.inputs(state.number))[:16])
    manifest = _published(spec, partition, selection, state, node, progress)
    if manifest is None or not node.leads:
        return None
    recipe = spec.recipe or training.recipe
    what, lacks = LEARNED_FROM[recipe], None
    train, held_out = manifest.counts["train"], manifest.counts["held_out"]
    if recipe != "sft":
        train, held_out, lacks = _counted(spec.storage, partition, manifest, recipe)
    asked = spec.min_examples or training.min_examples
    enough = train >= asked and held_out > 0 and not lacks
    reason = (
        f"{train:,} training and {held_out:,} held-out {what} of {len(selection.window)} partitions ({days[0]} to {days[-1]})"
        f"{'' if train >= asked else f'; at least {asked:,} training {what} are asked for'}"
        f"{'' if held_out else f'; without held-out {what} no model made from it could be judged'}"
        f"{f'; it {lacks}' if lacks else ''}{left_out}"
    )
    return Result(
        verdict=Verdict.PASS if enough else Verdict.INSUFFICIENT_DATA,
        reason=reason,
        snapshot=str(partition) if enough else None,
        digest=manifest.digest if enough else None,
        train_examples=train,
        held_out_examples=held_out,
        days=days,
    )


def _counted(storage: str, partition: UPath, manifest: Manifest, recipe: Recipe) -> tuple[int, int, str | None]:
    """Return how many pairs or judged answers there are to train on, how many are held out, and what these lack."""
    from nightshift.data.examples import count_pairs
    from nightshift.data.judged_answers import judged_files, one_sided
    from nightshift.data.snapshot import HELD_OUT, TRAIN

    with scratch_folder(UPath(storage)) as folder:
        files = [fetch(partition, manifest, name, folder) for name in (TRAIN, HELD_OUT)]
        if recipe == "kto":
            _, counts = judged_files(partition, manifest, files, folder, ["digest"])
            return sum(counts[0]), sum(counts[1]), one_sided(*counts)
        return count_pairs(files[0]), count_pairs(files[1]), None


def _snapshot_of(model: str) -> Result | None:
    """What a model was trained on; None where the model or its snapshot is gone."""
    try:
        trained = require_manifest(UPath(model))
        if not trained.parents:
            return None
        partition = UPath(trained.parents[0].uri)
        manifest = require_manifest(partition, trained.parents[0].digest)
    except BadInput as error:
        log.warning("%s is not taken up: %s", model, error)
        return None
    train, held_out, days = manifest.counts["train"], manifest.counts["held_out"], manifest.facts["days"]
    return Result(
        verdict=Verdict.PASS,
        reason=f"{train:,} training and {held_out:,} held-out examples, on which {model} was trained",
        snapshot=str(partition),
        digest=manifest.digest,
        train_examples=train,
        held_out_examples=held_out,
        days=days,
    )


def _published(  # noqa: PLR0917
    spec: Spec, partition: UPath, selection: Selection, state: State, node: Nodes, progress: Progress
) -> Manifest | None:
    """The snapshot, found or made; None: other nodes make it."""
    from nightshift.data.gathering import SharedGathering

    def published() -> Manifest | None:
        return find(partition, selection.inputs(state.number))

    def share() -> Manifest | None:
        gathered.share(
            node.index, node.count, published, lambda done, of: progress.report(done, of, unit="gathered partitions")
        )
        manifest = published()
        return _make(spec, partition, selection, state, progress, gathered) if node.leads and not manifest else manifest

    with scratch_folder(UPath(spec.storage)) as folder:
        gathered = SharedGathering(spec.application.name, spec.storage, selection, state, folder)
        if node.count > 1:
            return together(share, published, gathered.drop)
        manifest = published() or _make(spec, partition, selection, state, progress)
        gathered.drop()  # of attempts on more nodes that were given up
        return manifest


def _make(  # noqa: PLR0917
    spec: Spec,
    partition: UPath,
    selection: Selection,
    state: State,
    progress: Progress,
    gathered: SharedGathering | None = None,
) -> Manifest:
    from nightshift.data.snapshot import DEVELOPMENT, HELD_OUT, JUDGED, REGRESSION, TRAIN
    from nightshift.data.training_set import write_training_set

    with scratch_folder(UPath(spec.storage)) as folder:
        counts = write_training_set(
            selection, state, folder, lambda done, of: progress.report(done, of, unit="partitions"), gathered
        )
        return publish(
            partition,
            folder,
            kind="snapshot",
            application=spec.application.name,
            inputs=selection.inputs(state.number),
            rows={
                TRAIN: counts["train"],
                HELD_OUT: counts["held_out"],
                DEVELOPMENT: counts["development"],
                REGRESSION: counts.get("regression", 0),
                JUDGED: counts.get("judged", 0),
            },
            counts=counts,
            facts={
                "days": list(dict.fromkeys(published.key for published in selection.window)),
                "left_out": selection.left_out,
            },
            parents=[published.parent for published in selection.window],
        )
