"""The job `search_result`: compares the best trial with the champion on rows that no rung used, and logs the search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field
from upath import UPath

from nightshift.evaluation.halving import SEARCH, TODAY, Plan, Scored, SearchFile, read_plan
from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.environment import FOR_MODELS
from nightshift.jobs.progress import Progress
from nightshift.settings.pinned_index import PinnedIndex
from nightshift.shown import in_markdown, shown
from nightshift.storage.application_version import open_version
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of, require_manifest
from nightshift.storage.partition import fetch, find, partition_of, publish, read_file

PROMPT, RETRIEVAL, PAGE = "prompt.yaml", "retrieval.yaml", "search.html"
# Generating is bound by the same processors and allocator as training.
ENVIRONMENT = FOR_MODELS


class Spec(JobSpec):
    """The plan of the search, the scores of its rungs, and the trial that was left."""

    plan: str
    digest: str
    best: int
    rungs: list[list[Scored]] = Field(min_length=1)


class Result(JobResult):
    """Whether the best is shown to be better than today, why, and the version that it is."""

    better: bool
    reasons: list[str]
    model: str
    model_digest: str
    search: str
    run_url: str


def run(spec: Spec, progress: Progress) -> Result:
    """Publish the comparison, or find it, and show the search with all of its trials in MLflow.

    :raises BadInput: a partition is gone or damaged.
    :raises BadEnvironment: MLflow, the judge or the endpoint of the model does not answer.
    """

    planned = require_manifest(UPath(spec.plan), spec.digest)
    plan = read_plan(UPath(spec.plan), planned)
    inputs = {
        "plan": spec.digest,
        "best": spec.best,
        "rungs": [[one.model_dump() for one in rung] for rung in spec.rungs],
        "judge": spec.application.judged_by if plan.metric == "judge" else None,
    }
    partition = partition_of(spec.storage, spec.application.name, "search_results", digest_of(inputs)[:16])
    with scratch_folder(UPath(spec.storage)) as folder:
        manifest = find(partition, inputs) or _compare(
            spec, plan, planned, partition, inputs, folder=folder, progress=progress
        )
        found = SearchFile.model_validate_json(read_file(partition, manifest, SEARCH))
        url = _log(spec, plan, partition, manifest, found, folder=folder)
    best = found.trials[found.best]
    return Result(
        better=found.better,
        reasons=[found.reason],
        model=best.model,
        model_digest=best.model_digest,
        search=str(partition),
        run_url=url,
    )


def _compare(
    spec: Spec,
    plan: Plan,
    planned: Manifest,
    partition: UPath,
    inputs: dict[str, Any],
    *,
    folder: Path,
    progress: Progress,
) -> Manifest:
    import yaml

    from nightshift.data.search_rows import rows_of, unit_of
    from nightshift.data.snapshot import DEVELOPMENT
    from nightshift.evaluation.search_report import render
    from nightshift.evaluation.search_scores import conclusion, gain, mean, measure

    at = planned.parents[0]
    file = fetch(UPath(at.uri), require_manifest(UPath(at.uri), at.digest), DEVELOPMENT, folder)
    rows = rows_of(file, plan.final)
    scores, versions = [], []
    for number in (TODAY, spec.best):
        trial = plan.trials[number]

        def report(done: int, of: int, name: str = trial.name) -> None:
            progress.report(done, of, unit=f"answers {name}")

        versions.append(open_version(trial.model, trial.model_digest, spec.application))
        measured = measure(
            trial.name, versions[-1], rows, plan.metric, plan.relevant, k=plan.k, storage=spec.storage, report=report
        )
        scores.append(measured.scores)
    found, count = gain(scores[0], scores[1], [unit_of(row) for row in rows], plan.level, plan.fewest)
    better, reason = conclusion(plan.trials[spec.best].name, plan.metric, found, count, plan.level)
    result = SearchFile(
        metric=plan.metric, trials=plan.trials, rungs=spec.rungs, best=spec.best, rows=count,
        final=(mean(scores[0]), mean(scores[1])), gain=found, level=plan.level, better=better, reason=reason,
    )  # fmt: skip
    output = folder / "output"
    output.mkdir()
    (output / SEARCH).write_text(result.model_dump_json(indent=1), encoding="utf-8")
    (output / PAGE).write_text(render(spec.application.name, result), encoding="utf-8")
    today, best = (version.parts for version in versions)
    (output / PROMPT).write_text(best.prompt.as_file.as_yaml, encoding="utf-8")
    if best.retrieval and best.retrieval != today.retrieval:
        chosen = plan.trials[spec.best].choices.get("retrieval", {})
        settings = {"retrieval": _settings(best.retrieval) | chosen}
        (output / RETRIEVAL).write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return publish(
        partition,
        output,
        kind="search",
        application=spec.application.name,
        inputs=inputs,
        counts={"rows": count},
        facts={"better": better, "reason": reason},
        parents=[Parent(uri=spec.plan, digest=spec.digest)],
    )


def _settings(index: PinnedIndex) -> dict[str, Any]:
    """What an application's file says whose documents are cut, and found, as in this index."""
    chunk = require_manifest(UPath(index.uri), index.digest).inputs["chunk"]
    return {"chunk": chunk, "search": index.search, "k": index.k}


def _log(spec: Spec, plan: Plan, partition: UPath, manifest: Manifest, found: SearchFile, *, folder: Path) -> str:
    """One run for the search, and below it one for each trial with its score after each rung."""
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    from nightshift.registry.tracking import TrackingRun

    name, key = spec.application.name, f"search-{partition.name}"
    run = TrackingRun(
        name,
        key=key,
        name=f"search {partition.name[:8]}",
        tags={
            "nightshift.job": "search",
            "nightshift.search": str(partition),
            "nightshift.better": str(found.better).lower(),
            "mlflow.note.content": note(found),
        },
    )
    run.params({"metric": found.metric, "trials": len(found.trials), "eta": plan.eta, "level": plan.level})
    # With the time of the comparison, a number that is sent again is there once.
    moment = int(manifest.created.timestamp() * 1000)
    gained = {f"gain/{bound}": value for bound, value in found.gain.model_dump().items()} if found.gain else {}
    run.metrics({**gained, "rows": float(found.rows)}, timestamp=moment)
    for number, trial in enumerate(found.trials):
        nested = TrackingRun(
            name,
            key=f"{key}-{number}",
            name=trial.name[:250],
            tags={"nightshift.job": "search", "nightshift.model": trial.model, MLFLOW_PARENT_RUN_ID: run.run_id},
        )
        nested.params(trial.choices)
        for scored in (one for rung in found.rungs for one in rung if one.trial == number):
            known = {**scored.metrics, found.metric: scored.score, "rung": scored.rung}
            nested.metrics(known, step=scored.rows, timestamp=moment)
        if number in {0, found.best}:
            nested.metrics({f"final/{found.metric}": found.final[number > 0]}, timestamp=moment)
        nested.finish()
    for file in manifest.files:
        run.artifact(fetch(partition, manifest, file.name, folder))
    run.finish()
    return run.url


def note(found: SearchFile) -> str:
    """Return a search as a table in Markdown; what the application's file says is text in it."""
    from nightshift.evaluation.estimates import metric_of

    measure = metric_of(found.metric)
    rungs = [{one.trial: one for one in rung} for rung in found.rungs]
    lines = [
        in_markdown(shown(found.reason, 600)),
        "",
        f"| trial | {' | '.join(f'rung {number}' for number in range(1, len(rungs) + 1))} | last comparison |",
        "| --- |" + " ---: |" * (len(rungs) + 1),
    ]
    for number, trial in enumerate(found.trials):
        cells = [
            f"{measure.shown(rung[number].score)} of {rung[number].rows:,}" if number in rung else "" for rung in rungs
        ]
        last = measure.shown(found.final[number > 0]) if number in {0, found.best} else ""
        lines.append(f"| {in_markdown(shown(trial.name, 200))} | {' | '.join([*cells, last])} |")
    return "\n".join(lines)
