"""The story of the documents sample: people ask about articles that nobody indexed, until these arrive.

The first day's articles are indexed, and the first version answers from them. The next night asks about others as well: drift
fails it, and its report lists the questions that no article answers. The others arrive, and some of the first ones whole. The
new index becomes a candidate around the same weights, which the gate and the shadow compare with the champion. Then the third
night is answered, and a search tries other ways to cut and find passages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upath import UPath

from nightshift.stack.follow import Follower
from nightshift.stack.samples import DOCUMENTS, FOLDERS, copy
from nightshift.stack.story_runs import FINETUNE_STEPS, TRAINING_SECONDS, Results, StoryRuns
from nightshift.stack.summary import ingest_summary, pages, score, shadow_summary
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import read_file

APPLICATION = "document_assistant"
DAGS = ("index", "ingest", "finetune", "release", "batch_inference", "nightly_drift", "reconfigure", "search")
FIRST, SECOND, THIRD = "2026-11-02", "2026-11-03", "2026-11-04"
JUDGED = ("snapshot", "evaluate", "register")
SHOWN_GAPS = 3
METRICS = {"retrieval_recall": "recall", "retrieval_mrr": "MRR", "retrieval_ndcg": "nDCG", "rouge_l": "ROUGE-L"}


def tell(follower: Follower, project: Path) -> tuple[str, str]:
    """Have everything done that is not, in order, and return what came out and where to look, as text for a person.

    :param project: has a folder of its own for the documents, into which those of each day are copied.
    :raises RunFailed: a task failed.
    :raises BadEnvironment: Airflow does not answer.
    """
    runs = StoryRuns(follower, APPLICATION)
    # The clock's own run of `reconfigure` starts then, and finds no champion yet.
    runs.unpause("release", "nightly_drift", "reconfigure")
    days = runs.done("ingest", [FIRST], ("ingest", "validate"))
    indexes = {FIRST: _indexed(runs, project, FIRST)}
    (first,) = runs.done("finetune", [FIRST], FINETUNE_STEPS, "until", TRAINING_SECONDS).values()
    runs.promoted(first["register"]["version"])
    runs.begin("ingest", [SECOND])  # beside the night, which leaves processors idle while its tasks start
    intervals = runs.done("batch_inference", [FIRST], ("score",))
    days |= runs.done("ingest", [SECOND], ("ingest", "validate"))
    intervals |= runs.done("batch_inference", [SECOND], ("score",))
    verdicts = runs.judged([FIRST, SECOND])
    indexes[THIRD] = _indexed(runs, project, THIRD)
    (candidate,) = runs.done("reconfigure", [THIRD], JUDGED, None, TRAINING_SECONDS).values()
    runs.begin("ingest", [THIRD])  # not before the snapshot, whose rows it would change
    runs.promoted(candidate["register"]["version"])
    shadow = runs.released(candidate["register"]["version"])["shadow"]
    days |= runs.done("ingest", [THIRD], ("ingest", "validate"))
    intervals |= runs.done("batch_inference", [THIRD], ("score",))
    verdicts |= runs.judged([THIRD])
    (search,) = runs.done("search", [THIRD], ("search_result", "register"), None, TRAINING_SECONDS).values()
    winner = search["register"].get("version")
    decided = runs.decided(winner) if winner else {}
    told = (
        f"\nIngested\n{ingest_summary(days)}\n"
        f"\nIndexed\n{_indexes(indexes)}\n"
        f"\nThe first version\n{judged_summary(first)}\n"
        f"\nThe version with the new index\n{judged_summary(candidate)}\n"
        f"\nIn the shadow of the champion\n{shadow_summary(shadow)}\n"
        f"\nThe nights, and the questions that no document answers\n{gaps_summary(intervals, verdicts)}\n"
        f"\nThe search over other ways to find passages\n{search_summary(search, decided)}\n"
    )
    return told, pages(
        {
            "gaps": verdicts[SECOND].get("run_url"),
            "after": verdicts[THIRD].get("run_url"),
            "candidate": candidate["register"].get("run_url"),
            "shadow": shadow.get("run_url"),
            "search": search["search_result"].get("run_url"),
            "the version": candidate["register"].get("model_url"),
        }
    )


def _indexed(runs: StoryRuns, project: Path, day: str) -> dict[str, Any]:
    """Have the documents indexed as they are on a day, and return what the job said."""
    if not runs.is_done("index", day):
        copy(FOLDERS / DOCUMENTS / "arrivals" / day, project / "documents")
    return runs.done("index", [day], ("index",), None)[day]["index"]


def _indexes(indexes: Mapping[str, Mapping[str, Any]]) -> str:
    return "\n".join(f"  {day:<12} {index.get('reason', '?')}" for day, index in indexes.items())


def judged_summary(results: Results) -> str:
    """Return what a version, and those that it was compared with, scored on the same held-out questions.

    :param results: results by task (`evaluate`, `register`).
    """
    evaluated, registered = results["evaluate"], results["register"]
    lines = [
        f"  {title:<12} " + " · ".join(f"{role} {score(of[metric])}" for role, of in measured.items())
        for metric, title in METRICS.items()
        if (measured := {role: of for role, of in evaluated.get("scores", {}).items() if metric in of})
    ]
    lines.append(f"               on {evaluated.get('examples', '?')} held-out questions, with 95 % intervals")
    lines.append(f"  registered   version {registered.get('version', '?')}: {registered.get('verdict', '?')}")
    return "\n".join([*lines, *(f"               {reason}" for reason in registered.get("reasons", []))])


def gaps_summary(intervals: Mapping[str, Results], verdicts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return each night's verdict, with what its report says of the questions that the documents answer least."""
    lines = []
    for interval, results in intervals.items():
        said, rows = verdicts[interval], results["score"].get("rows", "?")
        lines.append(f"  {interval:<12} {rows} questions · drift {said.get('verdict', '?')}")
        report = _report(UPath(said["report"])) if said.get("report") else {}
        lines += [f"    {report['gaps_heading']}"] if report.get("gaps_heading") else []
        lines += [f"      {gap['relevance']}  {gap['prompt']}" for gap in report.get("gaps", [])[:SHOWN_GAPS]]
    return "\n".join(lines)


def _report(partition: UPath) -> dict[str, Any]:
    """What a report of drift says, of which the result of its job holds the verdict alone."""
    return dict(json.loads(read_file(partition, require_manifest(partition), "report.json")))


def search_summary(search: Results, decided: Results) -> str:
    """Return what the search found, and what became of it.

    :param search: results by task (`search_result`, `register`).
    :param decided: what the gate (`release`) said of the winner; empty: nothing was better than today.
    """
    lines = [f"  {reason}" for reason in search["search_result"].get("reasons", ["?"])]
    if release := decided.get("release"):
        became = "released" if release["released"] else "held back"
        lines.append(f"  version {release['version']} is {became}, gate and shadow say {release['verdict']}:")
        lines += [f"    {reason}" for reason in release["reasons"]]
    return "\n".join(lines)
