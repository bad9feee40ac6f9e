"""The job `search_plan`: the trials of a search, each as an application version, and the rows that they answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upath import UPath

from nightshift.errors import BadInput
from nightshift.evaluation.halving import PLAN, Plan, Trial
from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.settings.gate import RETRIEVAL
from nightshift.settings.pinned_index import PinnedIndex
from nightshift.settings.search import Search
from nightshift.storage.application_version import ApplicationVersion, Parts, open_version, publish_version
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of, require_manifest
from nightshift.storage.partition import fetch, find, partition_of, publish
from nightshift.verdict import Verdict

log = logging.getLogger(__name__)


class Spec(JobSpec):
    """The snapshot whose rows are used, and the version in use."""

    snapshot: str
    digest: str
    model: str
    model_digest: str


class Result(JobResult):
    """Where the plan is, or why there is none; `trials` counts that of today, too."""

    verdict: Verdict
    reason: str
    plan: str | None = None
    digest: str | None = None
    trials: int = 0
    eta: int = 0
    most_minutes: int | None = None


def run(spec: Spec, progress: Progress) -> Result:
    """Publish the plan of a search, or find it.

    :raises BadInput: a partition is gone or damaged, or the file has no `search`, or one whose prompts cannot be made.
    """
    from nightshift.retrieval.newest import pinned_index

    application, search = spec.application, spec.application.search
    if search is None:
        raise BadInput(f"the file of {application.name} has no `search`")
    manifest = require_manifest(UPath(spec.snapshot), spec.digest)
    today = open_version(spec.model, spec.model_digest, application)
    with scratch_folder(UPath(spec.storage)) as folder:
        index = today.parts.retrieval or pinned_index(application, spec.storage)
        if search.choices.retrieval and index is None:
            return Result(
                verdict=Verdict.INSUFFICIENT_DATA,
                reason=f"there is no index of the documents yet; {application.name}_index makes it",
            )
        plan = _plan(spec, search, manifest, today, index=index, folder=folder)
        if lacking := _lacking(plan, search.rows):
            return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=lacking)
        partition, published = _publish(spec, plan, today)
    progress.report(1, 1, unit="plans")
    rows = sum(map(len, plan.rungs))
    return Result(
        verdict=Verdict.PASS,
        reason=f"{len(plan.trials) - 1} trials beside today on {rows:,} rows at most, and {len(plan.final):,} to compare",
        plan=str(partition),
        digest=published.digest,
        trials=len(plan.trials),
        eta=plan.eta,
        most_minutes=search.most_minutes,
    )


def _plan(
    spec: Spec,
    search: Search,
    manifest: Manifest,
    today: ApplicationVersion,
    *,
    index: PinnedIndex | None,
    folder: Path,
) -> Plan:
    from nightshift.data.search_rows import drawn_rows, few_shot_rows
    from nightshift.data.snapshot import DEVELOPMENT, TRAIN
    from nightshift.evaluation.retrieved import relevant_in

    snapshot = UPath(spec.snapshot)
    examples = few_shot_rows(fetch(snapshot, manifest, TRAIN, folder), max(search.choices.few_shot, default=0))
    trials = [Trial(choices={}, model=spec.model, model_digest=spec.model_digest)]
    seen, found = [today.parts.shown], [today.parts.retrieval]
    for choices in search.choices.trials:
        parts = _parts(spec, search, choices, today, index=index, examples=examples)
        if parts.shown not in seen:
            seen.append(parts.shown)
            found.append(parts.retrieval)
            at, made = publish_version(spec.application, spec.storage, parts)
            trials.append(Trial(choices=_named(choices), model=str(at), model_digest=made.digest))
    gate, retrieval = spec.application.gate, spec.application.retrieval
    metric, relevant = search.metric or gate.metric, retrieval.relevant if retrieval else None

    def has_score(metadata: Mapping[str, str]) -> bool:
        return metric not in RETRIEVAL or bool(relevant_in(metadata.get(relevant or "")))

    rows = fetch(snapshot, manifest, DEVELOPMENT, folder)
    rungs, final = drawn_rows(rows, search.edges, search.final_rows, has_score)
    return Plan(
        metric=metric, eta=search.eta, level=search.level, fewest=gate.min_examples, relevant=relevant,
        k=max((one.k for one in found if one), default=1), trials=trials, rungs=rungs, final=final,
    )  # fmt: skip


def _named(choices: dict[str, Any]) -> dict[str, Any]:
    return {
        name: one.model_dump(mode="json") if name in {"decoding", "retrieval"} else one for name, one in choices.items()
    }


def _parts(
    spec: Spec,
    search: Search,
    choices: dict[str, Any],
    today: ApplicationVersion,
    *,
    index: PinnedIndex | None,
    examples: list[dict[str, Any]],
) -> Parts:
    """The weights of today, with what is chosen; what is not, is as the application's file says."""
    from pydantic import ValidationError

    from nightshift.retrieval.partition import index_by

    application, retrieval = spec.application, today.parts.retrieval
    prompt, decoding = application.prompt, choices.get("decoding", application.decoding)
    try:
        if name := choices.get("prompt"):
            prompt = prompt.of_file(search.choices.prompt[name])
        prompt = prompt.with_examples(examples[: choices.get("few_shot", 0)])
    except ValidationError as error:
        raise BadInput(f"the prompt of the trial {_named(choices)} cannot be made: {error}") from error
    # Trials answer from the documents of today, so that what differs is what is searched.
    if (chosen := choices.get("retrieval")) and application.retrieval and index:
        retrieval = index_by(
            chosen.applied_to(application.retrieval),
            index,
            application.name,
            spec.storage,
            application.embedding_endpoints,
        )
    return Parts.of(application, today.parts.weights, retrieval).model_copy(
        update={"prompt": prompt, "decoding": decoding}
    )


def _lacking(plan: Plan, first_rung: int) -> str | None:
    """What a plan lacks, as a sentence; None: nothing."""
    if len(plan.trials) == 1:
        return "every trial is as the version in use: there is nothing to search"
    rows, final = sum(map(len, plan.rungs)), len(plan.final)
    if rows < first_rung or final < plan.fewest:
        return (
            f"{rows:,} development rows with a score for the rungs and {final:,} to compare on, at least {first_rung:,} "
            f"(search.rows) and {plan.fewest:,} (gate.min_examples) are asked for; a larger share of "
            "ingest.splits.development or a longer training.window_days brings more"
        )
    return None


def _publish(spec: Spec, plan: Plan, today: ApplicationVersion) -> tuple[UPath, Manifest]:
    where = {"trials": {"__all__": {"model"}}}  # no part of what is searched
    inputs = {"snapshot": spec.digest, "plan": digest_of(plan.model_dump(mode="json", exclude=where))}
    partition = partition_of(spec.storage, spec.application.name, "searches", digest_of(inputs)[:16])
    if manifest := find(partition, inputs):
        return partition, manifest
    with scratch_folder(UPath(spec.storage)) as folder:
        (folder / PLAN).write_text(plan.model_dump_json(indent=1), encoding="utf-8")
        parents = [
            Parent(uri=spec.snapshot, digest=spec.digest),
            Parent(uri=str(today.partition), digest=today.digest),
        ]
        return partition, publish(
            partition,
            folder,
            kind="search",
            application=spec.application.name,
            inputs=inputs,
            counts={"trials": len(plan.trials), "rows": sum(map(len, plan.rungs)), "final": len(plan.final)},
            parents=parents,
        )
