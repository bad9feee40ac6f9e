"""The job `generate`: the champion, or another version, answers the prompts of an interval, part by part."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator
from upath import UPath

from nightshift.errors import BadInput
from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.environment import FOR_MODELS
from nightshift.jobs.nodes import Nodes, nodes
from nightshift.jobs.progress import Progress
from nightshift.registry.versions import CHAMPION, Registered
from nightshift.settings.split import Arm
from nightshift.storage.application_version import open_version
from nightshift.storage.files import create, scratch_folder
from nightshift.storage.manifest import Manifest, digest_of, require_manifest
from nightshift.storage.partition import partition_of
from nightshift.storage.sharing import await_parts, parts_of
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.inference.answering import Answering

VERSION = 2  # raised when the same prompts would be given to the model, or answered, in another way
# Generating is bound by the same processors and allocator as training.
ENVIRONMENT = FOR_MODELS

log = logging.getLogger(__name__)


class Spec(JobSpec):
    """The prompts (URI and digest of an examples or traffic partition), and which of their parts this job answers.

    :param model: version in the registry; the champion where none is given.
    :param run: what shards and nodes have in common: those of one run answer with one champion, also if it changes
        meanwhile.
    :param in_batches: nobody waits for the answers: an endpoint may take a day (`inference.endpoint.batch`).
    :param arm: of which only the rows are answered.
    """

    prompts: str
    digest: str
    shard: int = Field(0, ge=0)
    shards: int = Field(1, ge=1)
    model: str | None = None
    run: str | None = None
    in_batches: bool = True
    arm: Arm | None = None

    @model_validator(mode="after")
    def _one_of_the_shards(self) -> Self:
        if self.shard >= self.shards:
            raise ValueError(f"shard {self.shard} is not one of {self.shards} (they count from 0)")
        return self


class Result(JobResult):
    """The folder with the parts of all shards; the numbers are of this shard's parts, whichever attempt or node made them.

    `seconds` is the time that generating took, without loading the model, added up over nodes; `tokens` counts those of
    the responses; `cost` is what an endpoint takes for them, by `inference.endpoint.price`.
    """

    verdict: Verdict
    reason: str
    responses: str | None = None
    model: str | None = None
    model_digest: str | None = None
    rows: int = 0
    tokens: int = 0
    tokens_per_second: float = 0.0
    seconds: float = 0.0
    cost: float = 0.0


# `Any` stands for None: whoever calls this on one node, as `replay` does, need not look for it.
def run(spec: Spec, progress: Progress) -> Result | Any:
    """Publish the responses of this shard's parts; parts that are there are found and not made again.

    On many nodes each answers its share of them, and the first one waits for all and has the result; the others return
    None.

    :raises BadInput: the prompts, the version or its model are gone, or the model cannot be run here; or many nodes have
        nothing to agree on a champion by.
    :raises BadEnvironment: MLflow cannot be reached, the engine that is asked for is not there, or other nodes do nothing.
    """
    node = nodes()
    result = _answered(spec, node, progress)
    return result if node.leads else None


def _answered(spec: Spec, node: Nodes, progress: Progress) -> Result | None:
    from nightshift.inference.adapter import fetch_served
    from nightshift.inference.answering import Answering
    from nightshift.inference.prompts import Prompts

    application, settings = spec.application, spec.application.inference
    partition = UPath(spec.prompts)
    manifest = require_manifest(partition, spec.digest)
    with scratch_folder(UPath(spec.storage)) as folder:
        prompts = Prompts(partition, manifest, folder, spec.arm)
        if prompts.rows == 0:
            who = " for this version" if spec.arm else ""
            return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=f"{partition} holds no prompt{who}")
        model = _model(spec, node)
        if model is None:
            reason = f"{application.name} has no champion yet: nobody can answer. Train and release one first"
            return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=reason)
        version = open_version(model.model, model.digest, application)
        application = version.application
        inputs = {
            "prompts": spec.digest,
            "model": model.digest,
            "prompt": application.prompt.model_dump(mode="json"),
            "max_new_tokens": application.inference.max_new_tokens,
            "rows_per_part": settings.rows_per_part,
            "version": VERSION,
            **application.answer_inputs,
            **({"arm": spec.arm.model_dump(mode="json")} if spec.arm else {}),
        }
        responses = partition_of(spec.storage, application.name, "responses", digest_of(inputs)[:16])
        parts = [
            part
            for number, part in enumerate(parts_of(prompts.rows, settings.rows_per_part))
            if number % spec.shards == spec.shard
        ]
        answering = Answering(
            application=application,
            prompts=prompts,
            storage=spec.storage,
            responses=responses,
            inputs=inputs,
            parents=[(spec.prompts, spec.digest), (model.model, model.digest)],
            model_folder=lambda: fetch_served(version, folder / "fetched"),
            folder=folder / "index",
            in_batches=spec.in_batches,
        )
        mine = parts[node.index :: node.count]
        manifests = _answer(answering, mine, progress)
        if not node.leads:
            return None
        if node.count > 1:

            def report(done: int, total: int, others: str) -> None:
                progress.report(done, total, "parts", waiting_for=others)

            found = dict(zip(mine, manifests, strict=True))
            manifests = await_parts(parts, found, answering.find, node.count, report)
    tokens = sum(part.counts["tokens"] for part in manifests)
    seconds = sum(part.facts["seconds"] for part in manifests)
    rows = sum(part.counts["rows"] for part in manifests)
    cost = sum(part.facts.get("cost", 0.0) for part in manifests)
    refused = sum(part.counts.get("refused", 0) for part in manifests)
    return Result(
        verdict=Verdict.PASS,
        reason=f"version {model.version} answered {rows:,} prompts with {tokens:,} tokens"
        + (f" for {cost:.2f}" if cost else "")
        + (f"; the endpoint refused {refused:,}" if refused else ""),
        responses=str(responses),
        model=model.version,
        model_digest=model.digest,
        rows=rows,
        tokens=tokens,
        tokens_per_second=round(tokens / max(seconds, 1e-9), 1),
        seconds=round(seconds, 3),
        cost=round(cost, 6),
    )


def _answer(answering: Answering, parts: list[tuple[int, int]], progress: Progress) -> list[Manifest]:
    total = sum(last + 1 - first for first, last in parts)
    manifests, done, made, began = [], 0, 0, time.monotonic()
    answering.announce(parts)
    for first, last in parts:
        found, speed = answering.find(first, last), {}
        if found is None:

            def report(rows: int, _of: int, before: int = done, new: int = made) -> None:
                per_second = (new + rows) / max(time.monotonic() - began, 1e-9)
                progress.report(before + rows, total, "prompts", prompts_per_second=round(per_second, 2))

            found = answering.make(first, last, report)
            made += last + 1 - first
            speed = {"tokens_per_second": round(found.counts["tokens"] / max(found.facts["seconds"], 1e-9), 1)}
        done += last + 1 - first
        progress.report(done, total, "prompts", **speed)
        manifests.append(found)
    answering.finish()
    if made < total:
        log.info("%d of %d prompts were answered by an earlier attempt", total - made, total)
    return manifests


def _model(spec: Spec, node: Nodes) -> Registered | None:
    """The version that answers. Shards and nodes of one run agree on a champion by the first one's record of it."""
    from nightshift.registry.models import version_of, with_alias

    name, version = spec.application.name, spec.model
    if version is None:
        if node.count > 1 and spec.run is None:
            raise BadInput(
                f"{node.count} nodes would answer with whoever is champion when each of them looks: give them `run`, a "
                "text that no other run has, or `model`"
            )
        champion = with_alias(name, CHAMPION)
        if champion is None or spec.run is None or (spec.shards == 1 and node.count == 1):
            return champion
        key = digest_of([spec.run, spec.digest, spec.shards])[:16]
        record = partition_of(spec.storage, name, "responses", "champions", f"{key}.txt")
        if create(record, champion.version.encode()):
            return champion
        version = record.read_text()
    found = version_of(name, version)
    if found is None:
        raise BadInput(f"there is no version {version} of {name} in the registry (any more)")
    return found
