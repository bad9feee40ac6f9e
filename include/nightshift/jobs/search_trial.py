"""The job `search_trial`: one trial of a search answers the development rows of its rungs, and is scored."""

from __future__ import annotations

from upath import UPath

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.environment import FOR_MODELS
from nightshift.jobs.progress import Progress
from nightshift.storage.application_version import open_version
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import fetch

# Generating is bound by the same processors and allocator as training.
ENVIRONMENT = FOR_MODELS


class Spec(JobSpec):
    """The plan of the search, the number of the trial, and the last rung whose rows it answers."""

    plan: str
    digest: str
    trial: int
    rung: int


class Result(JobResult):
    """The mean score over the rows of all rungs so far, all that is known of them, and how long it took to answer them."""

    name: str
    trial: int
    rung: int
    rows: int
    score: float
    metrics: dict[str, float]
    seconds: float


def run(spec: Spec, progress: Progress) -> Result:
    """Answer the rows of the trial's rungs; those of a rung before, and whatever was answered before a kill, are found.

    :raises BadInput: a partition is gone or damaged.
    :raises BadEnvironment: the judge or the endpoint of the model does not answer.
    """
    from nightshift.data.search_rows import rows_of
    from nightshift.data.snapshot import DEVELOPMENT
    from nightshift.evaluation.halving import read_plan
    from nightshift.evaluation.search_scores import Measured, mean, means, measure

    partition = UPath(spec.plan)
    manifest = require_manifest(partition, spec.digest)
    plan, snapshot = read_plan(partition, manifest), manifest.parents[0]
    trial = plan.trials[spec.trial]
    version = open_version(trial.model, trial.model_digest, spec.application)
    measured: list[Measured] = []
    with scratch_folder(UPath(spec.storage)) as folder:
        file = fetch(UPath(snapshot.uri), require_manifest(UPath(snapshot.uri), snapshot.digest), DEVELOPMENT, folder)
        # Each rung is a partition of answers of its own, so that the next one adds to it.
        for number, digests in enumerate(plan.rungs[: spec.rung], 1):
            rows = rows_of(file, digests)

            def report(done: int, of: int, number: int = number) -> None:
                progress.report(done, of, unit=f"answers of rung {number}")

            measured.append(
                measure(
                    trial.name, version, rows, plan.metric, plan.relevant, k=plan.k, storage=spec.storage, report=report
                )
            )
    scores = [score for one in measured for score in one.scores]
    return Result(
        name=trial.name, trial=spec.trial, rung=spec.rung, rows=len(scores), score=mean(scores),
        metrics=means([row for one in measured for row in one.metrics]),
        seconds=round(sum(one.seconds for one in measured), 1),
    )  # fmt: skip
