"""Makes examples of people's corrections and preferences for the job `feedback`, to train and to evaluate on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from upath import UPath

from nightshift.jobs.contract import IntervalSpec
from nightshift.storage.files import sha256_of
from nightshift.storage.manifest import Manifest, Parent, digest_of, read_manifest
from nightshift.storage.partition import fetch, find, partition_of, publish


def publish_corrections(spec: IntervalSpec, partition: UPath, feedback: Manifest, work: Path) -> Manifest:
    """Publish the answers of an interval's feedback as examples, and for KTO those that it judges, unless they are there.

    :param partition: of the feedback.
    :raises BadInput: a partition that they are made of is damaged.
    :raises BadEnvironment: storage cannot be read.
    """
    from nightshift.data.corrections import VERSION as CORRECTIONS_VERSION
    from nightshift.data.corrections import staged_corrections
    from nightshift.data.examples import CORRECTIONS, EXAMPLES, QUARANTINE
    from nightshift.data.feedback import FEEDBACK
    from nightshift.data.ingestion import Ingestion
    from nightshift.data.measures import TextMeasures, tokenizer_file
    from nightshift.data.published_sides import catch_up, is_behind
    from nightshift.data.split_map import SplitMap
    from nightshift.data.staging import Staging
    from nightshift.jobs.waiting_feedback import fetched
    from nightshift.monitoring.published_intervals import interactions_of
    from nightshift.training.base_model import resolve_tokenizer

    app, interval, storage = spec.application, spec.interval, spec.storage
    address = partition_of(storage, app.name, CORRECTIONS, interval.key)
    tokenizer, judged = tokenizer_file(resolve_tokenizer(app.base_model)), app.training.recipe == "kto"
    inputs = {
        "version": CORRECTIONS_VERSION,
        "interval": interval.model_dump(mode="json"),
        "feedback": feedback.digest,
        "ingest": app.ingest.model_dump(mode="json", include={"near_duplicates", "splits"}),
        "tokenizer": sha256_of(tokenizer),
        **({"judged": True} if judged else {}),
    }
    if there := find(address, inputs):
        return there
    split_map = SplitMap(storage, app.name)
    if is_behind(split_map, storage, app.name):
        catch_up(split_map, storage, app.name)
    folder, target = work / "corrections", work / "corrections" / "partition"
    target.mkdir(parents=True)
    measures = TextMeasures(tokenizer)
    about, left_out = feedback.facts["nights"], dict[str, int]()
    rows = staged_corrections(
        fetch(partition, feedback, FEEDBACK, folder), _traffic(spec, list(about), folder / "traffic"),
        fetched(interactions_of(storage, app.name, about) if judged else [], folder / "answered"),
        Staging(app.ingest, interval, measures, "examples"), folder, left_out,
    )  # fmt: skip
    ingestion = Ingestion(app.ingest, interval, measures, folder, split_map=split_map, made_by=digest_of(inputs))
    made = ingestion.run([], target, lambda _rows: None, rows)
    return publish(
        address,
        target,
        kind=CORRECTIONS,
        application=app.name,
        interval=interval,
        inputs=inputs,
        rows={EXAMPLES: made.kept, QUARANTINE: made.quarantined},
        counts=made.counts,
        facts={
            "splits": dict(sorted(made.splits.items())),
            "between_sides": made.between_sides,
            **({"left_out": left_out} if judged else {}),
        },
        parents=[Parent(uri=str(partition), digest=feedback.digest)],
    )


def _traffic(spec: IntervalSpec, intervals: list[str], folder: Path) -> Iterator[Path]:
    """Local files of what was asked in these intervals, the newest first, of those whose traffic is still there."""
    from nightshift.data.examples import EXAMPLES

    for interval in reversed(intervals):
        partition = partition_of(spec.storage, spec.application.name, "traffic", interval)
        if manifest := read_manifest(partition):
            yield fetch(partition, manifest, EXAMPLES, folder)
            shutil.rmtree(folder, ignore_errors=True)


def what_was_learned(learned: Manifest | None) -> Iterator[str]:
    """Say what of an interval's feedback are examples now, and what is left out."""
    if learned and learned.counts["rows_in"]:
        sides = "".join(f", {rows:,} {side}" for side, rows in learned.facts["splits"].items())
        yield f"{learned.counts['kept']:,} of {learned.counts['rows_in']:,} answers are examples{sides}"
    if learned and any((left_out := learned.facts.get("left_out", {})).values()):
        without, contradicted = left_out["without_answer"], left_out["contradicted"]
        yield f"{without:,} judgements without an answer to learn, and {contradicted:,} contradicted ones, are left out"
