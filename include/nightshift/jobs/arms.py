"""The job `arms`: adds the intervals that were split to the evidence of both arms, and compares these."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from upath import UPath

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.storage.files import names_in, scratch_folder
from nightshift.storage.manifest import Manifest, read_manifest, require_manifest
from nightshift.storage.partition import fetch, find, partition_of, publish
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.evaluation.arms import Evidence
    from nightshift.ledger.records import Split, SplitLook

VERSION = 2  # of how arms are counted and compared


class Spec(JobSpec):
    """Which split it is, is read from the ledger: the one that runs."""


class Result(JobResult):
    """What was added; what the arms are known by is in the partition `evidence`."""

    verdict: Verdict
    reason: str
    evidence: str | None = None
    intervals: int = 0


def run(spec: Spec, progress: Progress) -> Result:
    """Publish the evidence up to now for the next look at the split, with the bounds of the differences.

    :raises BadInput: interactions, prompts or the evidence before are damaged.
    :raises BadEnvironment: MLflow cannot be reached.
    """
    from nightshift.evaluation.arms import EVIDENCE, evidence_partition
    from nightshift.ledger.splits import running, step_of
    from nightshift.ledger.store import Ledger
    from nightshift.monitoring.published_intervals import arms_partition

    app, ledger = spec.application, Ledger(spec.storage, spec.application.name)
    split = running(ledger)
    looks = ledger.looks(split.number) if split else []
    if split is None or step_of(looks) is None:
        return Result(verdict=Verdict.INSUFFICIENT_DATA, reason="no split runs")
    number = looks[-1].number + 1 if looks else 1
    with scratch_folder(UPath(spec.storage)) as folder:
        evidence, known, seen = _before(spec, looks, split, folder)
        champions = partition_of(spec.storage, app.name, "interactions")
        place = arms_partition(spec.storage, app.name, split.number)
        due: list[tuple[str, Manifest, Manifest]] = []
        for key in sorted({*names_in(place)} - {*seen}):
            old, new = read_manifest(champions / key), read_manifest(place / key)
            if old and new and (old.inputs.get("arm") or {}).get("split") == split.number:
                due.append((key, old, new))
        if not due:
            return Result(verdict=Verdict.INSUFFICIENT_DATA, reason=f"split {split.number}: no interval is new")
        target = evidence_partition(spec.storage, app.name, split.number, number)
        inputs = {
            "split": split.model_dump(mode="json"),
            "seen": seen,
            "due": [[key, old.digest, new.digest] for key, old, new in due],
            "metric": app.gate.metric,
            "version": VERSION,
        }
        manifest = find(target, inputs)
        if manifest is None:
            for done, (key, old, new) in enumerate(due):
                evidence.add((champions / key, old, folder / f"{key}-old"), (place / key, new, folder / f"{key}-new"))
                progress.report(done + 1, len(due), "intervals")
            (folder / "out").mkdir()
            evidence.write(folder / "out" / EVIDENCE)
            manifest = publish(
                target, folder / "out", kind="evidence", application=app.name, inputs=inputs,
                facts={
                    "intervals": [*seen, *(key for key, _, _ in due)],
                    "arms": evidence.compared(known, number).model_dump(mode="json"),
                },
            )  # fmt: skip
    _log(app.name, split, number, manifest)
    return Result(
        verdict=Verdict.PASS,
        reason=f"split {split.number}: {len(due)} intervals were added",
        evidence=str(target),
        intervals=len(due),
    )


def _log(application: str, split: Split, look: int, manifest: Manifest) -> None:
    """A run in MLflow for each version with what is known of it by each look: MLflow draws both as lines of one plot."""
    from nightshift.registry.tracking import TrackingRun

    moment = int(manifest.created.timestamp() * 1000)  # a number that is sent again is there once
    for arm, version in {"champion": split.champion, "challenger": split.version}.items():
        run = TrackingRun(
            application,
            key=f"split-{split.number}-{split.key}-{arm}",
            name=f"split {split.number}, {arm}: version {version}",
            tags={"nightshift.job": "arms", "nightshift.arm": arm, "nightshift.model_version": version},
        )
        known = {measure: means[arm] for measure, means in manifest.facts["arms"]["means"].items()}
        units = float(manifest.facts["arms"]["units"][arm])
        run.metrics({**known, "units": units}, step=look, timestamp=moment)
        run.finish()


def _before(spec: Spec, looks: list[SplitLook], split: Split, folder: Path) -> tuple[Evidence, list[float], list[str]]:
    """The evidence so far, the rows that were known at each comparison, and which intervals of the split were seen."""
    from nightshift.evaluation.arms import EVIDENCE, Evidence, evidence_partition

    if not looks or not looks[-1].evidence:
        return Evidence(spec.application.gate.metric, split.settings), [], []
    at = evidence_partition(spec.storage, spec.application.name, split.number, looks[-1].evidence)
    manifest = require_manifest(at)
    seen = manifest.facts["intervals"]
    if manifest.inputs["version"] != VERSION:  # it was not stratified: a split that runs during an upgrade begins anew
        return Evidence(spec.application.gate.metric, split.settings), [], seen
    file = fetch(at, manifest, EVIDENCE, folder / "before")
    return Evidence(spec.application.gate.metric, split.settings, file), manifest.facts["arms"]["known"], seen
