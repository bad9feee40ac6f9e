"""Validate: measure a partition of examples, check it with Great Expectations, and record whether it is accepted."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from upath import UPath

from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.settings.project import project_folder
from nightshift.storage.files import replace, scratch_folder
from nightshift.storage.manifest import digest_of, require_manifest
from nightshift.storage.partition import fetch, partition_of
from nightshift.verdict import Verdict


class Spec(JobSpec):
    """The partition of examples, and the digest of the content that is to be judged."""

    examples: str
    digest: str


class Result(JobResult):
    """What was measured, and what follows from it."""

    verdict: Verdict
    reasons: list[str]
    measures: dict[str, float]
    data_docs: str
    run_url: str


def run(spec: Spec, progress: Progress) -> Result:
    """Judge a partition; the verdict is kept beside its manifest, the pages in storage and in MLflow.

    :raises BadInput: the partition is gone or holds other content, or a suite cannot be read.
    :raises BadEnvironment: storage or MLflow cannot be reached.
    """
    # Before it is imported: it logs some 200 lines then, and asks whether it may report its use.
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import pandas as pd

    from nightshift.data.acceptance import record_acceptance
    from nightshift.data.data_docs import INDEX, pages
    from nightshift.data.examples import EXAMPLES
    from nightshift.data.expectations import check, check_rows, decide, failures, profile_suite, read_suite
    from nightshift.data.profile import profile

    application, policy = spec.application, spec.application.validation
    partition = UPath(spec.examples)
    manifest = require_manifest(partition, spec.digest)
    suites = [read_suite(project_folder() / "suites" / f"{name}.json") for name in policy.suites]
    with scratch_folder(UPath(spec.storage)) as work:
        examples = fetch(partition, manifest, EXAMPLES, work)
        measures = profile(examples, manifest)
        ours = profile_suite(measures, policy.expectations)
        results = {ours.name: check(pd.DataFrame([measures]), ours, work / "great_expectations")}
        total = len(suites) + 1
        progress.report(1, total, unit="suites")
        for number, suite in enumerate(suites, 2):
            # Without a row every expectation of rows would hold.
            if manifest.counts["kept"]:
                results[suite.name] = check_rows(examples, suite, work / suite.name)
            progress.report(number, total, unit="suites")
        outcomes = [outcome for result in results.values() for outcome in failures(result)]
        items = [item for result in results.values() for item in result.results]
        sampled = sum("sample" in item.result for item in items)
        verdict, reasons = decide(outcomes, manifest.counts["kept"], policy, len(items), sampled)

        # One place for one content and one policy: judging it again writes the same pages over.
        address = digest_of([manifest.digest, policy.model_dump(mode="json")])[:16]
        docs = partition_of(spec.storage, application.name, "data_docs", partition.name, address)
        local = work / "data_docs"
        local.mkdir()
        for name, text in pages(results, f"{application.name} {partition.name}", verdict, reasons).items():
            (local / name).write_text(text, encoding="utf-8")
            replace(docs / name, text.encode())
        record_acceptance(partition, manifest.digest, verdict, reasons)
        result = Result(verdict=verdict, reasons=reasons, measures=measures, data_docs=str(docs / INDEX), run_url="")
        result.run_url = _log(spec, manifest.digest, result, address, local)
    return result


def _log(spec: Spec, digest: str, result: Result, address: str, data_docs: Path) -> str:
    from nightshift.registry.tracking import TrackingRun

    run = TrackingRun(
        spec.application.name,
        key=f"validate-{address}",
        name=f"validate {UPath(spec.examples).name}",
        tags={
            "nightshift.job": "validate",
            "nightshift.examples": spec.examples,
            "nightshift.examples_digest": digest,
            "nightshift.verdict": result.verdict.value,
            "mlflow.note.content": "\n".join(f"- {reason}" for reason in result.reasons),
        },
    )
    run.params({"validation": spec.application.validation.model_dump(mode="json")})
    run.metrics(result.measures)
    run.artifact(data_docs, "data_docs")
    run.finish()
    return run.url
