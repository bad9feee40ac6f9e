"""The job `score`: an interval's prompts and responses become the interval's interactions, with every score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from upath import UPath

from nightshift.errors import BadEnvironment, BadInput
from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.nodes import Nodes, nodes, together
from nightshift.jobs.progress import Progress
from nightshift.settings.split import Arm
from nightshift.storage.application_version import open_version
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of, read_manifest, require_manifest
from nightshift.storage.partition import find, partition_of, publish
from nightshift.storage.sharing import await_parts, named, parts_of
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.evaluation.scorers import Scorers
    from nightshift.evaluation.scoring import Scored, SharedScores
    from nightshift.inference.prompts import Prompts


class Spec(JobSpec):
    """The prompts of an interval and who answered them.

    :param responses: folder with the parts that `generate` made; without it the interval was served elsewhere, and the
        prompts' partition has the responses.
    :param model: version in the registry and digest of the model that answered; empty where it was served elsewhere.
    :param replay: keep the result apart from the interactions of the intervals, below the model's digest.
    :param shadow: the prompts are a sample of several intervals: keep the result apart from their interactions, and out of
        MLflow.
    :param arm: of which only the rows were answered; what a challenger answered is kept apart.
    """

    prompts: str
    digest: str
    responses: str | None = None
    model: str = ""
    model_digest: str = ""
    replay: bool = False
    shadow: bool = False
    arm: Arm | None = None


class Result(JobResult):
    """The interactions, how the responses ended, and the means of their scores (over the rows that have one)."""

    verdict: Verdict
    reason: str
    interactions: str | None = None
    digest: str | None = None
    rows: int = 0
    means: dict[str, float] = Field(default_factory=dict)
    run_url: str = ""


# `Any` stands for None: whoever calls this on one node, as `replay` does, need not look for it.
def run(spec: Spec, progress: Progress) -> Result | Any:
    """Publish the interactions of an interval, unless they are there, and log what they cost and score.

    On many nodes each scores its share of the rows; the first one joins them and has the result, the others return None.

    :raises BadInput: prompts and responses do not belong together, or the prompts have no responses.
    :raises BadEnvironment: not all parts are there yet, MLflow cannot be reached, or other nodes do nothing.
    """
    from nightshift.evaluation.interactions_log import log_interactions
    from nightshift.inference.prompts import Prompts

    node = nodes()
    partition = UPath(spec.prompts)
    manifest = require_manifest(partition, spec.digest)
    with scratch_folder(UPath(spec.storage)) as folder:
        prompts = Prompts(partition, manifest, folder, spec.arm)
        if prompts.rows == 0:
            result = Result(verdict=Verdict.INSUFFICIENT_DATA, reason=f"{partition} holds no prompt")
            return result if node.leads else None
        parts = _parts(spec, prompts.rows)
        spec = _as_answered(spec, parts)
        scoring = _Scoring(spec, prompts, manifest, parts, _inputs(spec, parts), _address(spec, manifest), folder)
        interactions = _together(scoring, node, progress) if node.count > 1 else _alone(scoring, progress)
    if interactions is None or not node.leads:
        return None
    facts = interactions.facts
    given_up = "".join(f"; the scorer {name} was {why}" for name, why in facts.get("given_up", {}).items())
    failed = facts.get("judge_failure")
    judge = f"; the judge failed on {facts['judge']['failed']:,} rows, at last with {failed}" if failed else ""
    return Result(
        verdict=Verdict.PASS,
        reason=f"{interactions.counts['rows']:,} interactions, scored in {sum(facts['seconds'].values()):.1f} CPU-seconds"
        f"{given_up}{judge}",
        interactions=str(scoring.target),
        digest=interactions.digest,
        rows=interactions.counts["rows"],
        means=facts["means"],
        run_url="" if spec.shadow else log_interactions(spec.application, scoring.target, interactions),
    )


@dataclass(frozen=True)
class _Scoring:
    """What is scored, and where it goes."""

    spec: Spec
    prompts: Prompts
    manifest: Manifest  # of the prompts
    parts: list[tuple[UPath, Manifest]]  # with the responses; none where the interval was served elsewhere
    inputs: dict[str, Any]
    target: UPath
    folder: Path

    def published(self) -> Manifest | None:
        return find(self.target, self.inputs)

    def scorers(self) -> Scorers:
        from nightshift.evaluation.scorers import Scorers
        from nightshift.training.base_model import resolve_tokenizer

        application = self.spec.application
        return Scorers(
            application,
            resolve_tokenizer(application.base_model),
            interval_rows=self.prompts.rows,
            storage=self.spec.storage,
        )


def _parts(spec: Spec, rows: int) -> list[tuple[UPath, Manifest]]:
    """The parts that hold the responses, in order of their rows; none where the interval was served elsewhere."""
    from nightshift.inference.answering import part_address

    if spec.responses is None:
        return []
    if not spec.model_digest:
        raise BadInput("responses were given without model_digest: whose are they?")
    parts, missing = [], []
    ranges = parts_of(rows, spec.application.inference.rows_per_part)
    for first, last in ranges:
        address = part_address(UPath(spec.responses), first, last)
        manifest = read_manifest(address)
        if manifest is None:
            missing.append((first, last))
        elif (manifest.inputs["prompts"], manifest.inputs["model"]) != (spec.digest, spec.model_digest):
            raise BadInput(f"{address} holds answers of another model, or to other prompts")
        else:
            parts.append((address, manifest))
    if missing:
        raise BadEnvironment(
            f"{spec.responses}: not all parts are there yet: {len(missing)} of {len(ranges)} are missing "
            f"({named(missing)}); run generate again for the missing shards"
        )
    return parts


def _as_answered(spec: Spec, parts: list[tuple[UPath, Manifest]]) -> Spec:
    """The spec with the prompt and settings of the version that answered; of what was served elsewhere, nobody knows them."""

    if not parts:
        return spec
    version = parts[0][1].parents[1]
    answered = open_version(version.uri, version.digest, spec.application)
    return spec.model_copy(update={"application": answered.application})


def _inputs(spec: Spec, parts: list[tuple[UPath, Manifest]]) -> dict[str, Any]:
    from nightshift.data.interactions import SCORES_VERSION

    application = spec.application
    return {
        "prompts": spec.digest,
        "responses": [manifest.digest for _, manifest in parts],
        "model": spec.model,
        "model_digest": spec.model_digest,
        "prompt": application.prompt.model_dump(mode="json"),
        "response_format": application.inference.response_format,
        "judge": application.judged_by,
        "version": SCORES_VERSION,
        **application.scoring_inputs,
        **application.made_by_own_scorers,
        **({"arm": spec.arm.model_dump(mode="json")} if spec.arm else {}),
    }


def _address(spec: Spec, prompts: Manifest) -> UPath:
    from nightshift.monitoring.published_intervals import arms_partition

    if prompts.interval is None:
        raise BadInput(f"{spec.prompts} is of no data interval")
    if spec.shadow:
        key = digest_of([spec.model_digest, spec.digest])[:16]
        return partition_of(spec.storage, spec.application.name, "shadow_answers", key)
    if spec.arm and spec.arm.challenger and not spec.replay:
        return arms_partition(spec.storage, spec.application.name, spec.arm.split) / prompts.interval.key
    place = ["replays", spec.model_digest[:16]] if spec.replay else ["interactions"]
    return partition_of(spec.storage, spec.application.name, *place, prompts.interval.key)


def _alone(scoring: _Scoring, progress: Progress) -> Manifest:
    from nightshift.evaluation.scoring import Stretch, score_as_read

    published = scoring.published()
    if published is not None:
        return published
    scorers = scoring.scorers()
    rows = Stretch((0, scoring.prompts.rows - 1), scoring.parts).read(scoring.prompts, scoring.folder)
    return _publish(scoring, score_as_read(rows, scorers), scorers, progress)


def _together(scoring: _Scoring, node: Nodes, progress: Progress) -> Manifest | None:
    """Score this node's share; the first node publishes the interval. None: it is not published yet, the first one waits."""
    from nightshift.evaluation.scoring import SharedScores, stretches_of

    spec = scoring.spec
    stretches = stretches_of(scoring.prompts.rows, scoring.parts)
    shared = SharedScores(spec.application, spec.storage, scoring.prompts, stretches, scoring.inputs, scoring.folder)
    return together(lambda: _share(scoring, shared, node, progress), scoring.published, shared.drop)


def _share(scoring: _Scoring, shared: SharedScores, node: Nodes, progress: Progress) -> Manifest | None:
    scorers = scoring.scorers()
    mine = shared.stretches[node.index :: node.count]
    total = sum(last + 1 - first for first, last in (stretch.rows for stretch in mine))
    known, done = {}, 0
    for stretch in mine:
        first, last = stretch.rows
        if published := scoring.published():
            return published

        def report_rows(rows: int, before: int = done) -> None:
            progress.report(before + rows, total)

        known[stretch.rows] = shared.find(first, last) or shared.make(stretch, scorers, report_rows)
        done += last + 1 - first
    if not node.leads:
        return scoring.published()

    def find(first: int, last: int) -> Manifest | None:
        found = shared.find(first, last)
        if found is None and scoring.published():
            raise BadEnvironment(f"{scoring.target}: another attempt has published this interval")
        return found

    def report(done: int, of: int, others: str) -> None:
        progress.report(done, of, "parts", waiting_for=others)

    scores = await_parts([stretch.rows for stretch in shared.stretches], known, find, node.count, report)
    return _publish(scoring, shared.join(scores, scorers), scorers, progress)


def _publish(scoring: _Scoring, scored: Iterable[Scored], scorers: Scorers, progress: Progress) -> Manifest:
    from nightshift.data.interactions import INTERACTIONS
    from nightshift.evaluation.interaction_file import InteractionWriter

    spec, parts = scoring.spec, scoring.parts
    output = scoring.folder / "interactions"
    output.mkdir()
    identity = {
        "model": spec.model,
        "model_digest": spec.model_digest,
        "prompt_version": digest_of(spec.application.prompt.model_dump(mode="json"))[:12],
    }
    judged: list[float | None] = []
    known: list[float | None] = []
    with InteractionWriter(output / INTERACTIONS, identity, spec.application.own_metrics) as writer:
        for rows, columns in scored:
            writer.write(rows, columns)
            if scorers.judge:
                judged += columns["judge"]
                known += columns["exact_match"]
            progress.report(writer.rows, scoring.prompts.rows)
    judge = scorers.judge
    return publish(
        scoring.target,
        output,
        kind="interactions",
        application=spec.application.name,
        interval=scoring.manifest.interval,
        inputs=scoring.inputs,
        rows={INTERACTIONS: writer.rows},
        counts={"rows": writer.rows, **writer.finish_reasons},
        facts={
            **identity,
            "served_elsewhere": not parts,
            "replay": spec.replay,
            "seconds": {name: round(seconds, 3) for name, seconds in sorted(scorers.seconds.items())},
            "means": writer.means,
            "unscored": writer.unscored,
            "given_up": dict(sorted(scorers.given_up.items())),
            "tokens": sum(part.counts["tokens"] for _, part in parts),
            "prompt_tokens": sum(part.facts.get("prompt_tokens", 0) for _, part in parts),
            **({"cost": round(cost, 6)} if (cost := sum(part.facts.get("cost", 0.0) for _, part in parts)) else {}),
            "generation_seconds": round(sum(part.facts["seconds"] for _, part in parts), 3),
            "engines": sorted({f"{part.facts['engine']} on {part.facts['device']}" for _, part in parts}),
            "judge": {**dict(sorted(judge.counts.items())), **_agreement(judged, known)} if judge else None,
            "judge_failure": judge.failure if judge else "",
        },
        parents=[
            Parent(uri=spec.prompts, digest=spec.digest),
            *(Parent(uri=str(address), digest=part.digest) for address, part in parts),
        ],
    )


def _agreement(judged: list[float | None], known: list[float | None]) -> dict[str, float]:
    """How far the judge agrees with exact match, where references are known and tell."""
    from nightshift.evaluation.agreement import agreement

    measured = agreement(judged, known).model_dump(include={"rows", "kappa", "auc"})
    return {f"agreement_{name}": value for name, value in measured.items() if value is not None}
