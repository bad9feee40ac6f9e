"""What the job `feedback` does for the review page: choose an interval's sample, and read what people said of samples."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from nightshift.errors import BadInput
from nightshift.jobs.contract import IntervalSpec

if TYPE_CHECKING:
    from nightshift.ledger.records import Review
    from nightshift.storage.manifest import Manifest

# Of a sample's rows: what joins reviews to interactions, and what reviewers are compared with. Texts would fill the memory.
ABOUT = ["key", "digest", "row", "model", "model_digest", "scores"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reviewed:
    """What was said, before the end of an interval, of the samples whose answers its feedback may be about.

    :param rows: the rows of these samples by their keys, each with the `night` that it is of.
    """

    reviews: list[Review]
    rows: dict[str, dict[str, Any]]

    @property
    def digest(self) -> str:
        """What it holds, as an input of what is made of it."""
        from nightshift.storage.manifest import digest_of

        return digest_of([[review.model_dump(mode="json") for review in self.reviews], sorted(self.rows)])


def publish_sample(spec: IntervalSpec, rows: int, id_key: bytes, work: Path) -> Manifest | None:
    """Publish which answers of the interval people are shown, unless that is there; None where nothing was answered.

    :raises BadInput: the interactions are damaged.
    """
    from nightshift.data.interactions import INTERACTIONS
    from nightshift.data.review_sample import SAMPLE, SAMPLES, VERSION, chosen, write_sample
    from nightshift.storage.manifest import Parent, read_manifest
    from nightshift.storage.partition import fetch, find, partition_of, publish

    app, interval = spec.application, spec.interval
    night = partition_of(spec.storage, app.name, "interactions", interval.key)
    answered = read_manifest(night)
    if answered is None:
        return None
    partition = partition_of(spec.storage, app.name, SAMPLES, interval.key)
    key = id_key or app.name.encode()
    inputs = {
        "version": VERSION,
        "interactions": answered.digest,
        "rows": rows,
        "id_key": hashlib.sha256(key).hexdigest()[:8],
    }
    if there := find(partition, inputs):
        return there
    found = chosen(fetch(night, answered, INTERACTIONS, work / "answered"), answered.digest, rows, key, app.scorers)
    _with_turns(found, answered, work / "asked")
    target = work / "sample"
    target.mkdir()
    write_sample(found, target / SAMPLE)
    return publish(
        partition,
        target,
        kind="review_sample",
        application=app.name,
        interval=interval,
        inputs=inputs,
        rows={SAMPLE: len(found)},
        counts={"rows": len(found)},
        parents=[Parent(uri=str(night), digest=answered.digest)],
    )


def _with_turns(rows: list[dict[str, Any]], answered: Manifest, folder: Path) -> None:
    """Add what was asked, with all turns before, where the prompts are still those that were answered."""
    from nightshift.inference.prompts import Prompts
    from nightshift.settings.split import Arm
    from nightshift.storage.manifest import require_manifest

    asked, arm = answered.parents[0], answered.inputs.get("arm")
    try:
        manifest = require_manifest(UPath(asked.uri), asked.digest)
        prompts = Prompts(UPath(asked.uri), manifest, folder, Arm.model_validate(arm) if arm else None)
    except BadInput as gone:
        log.warning("people are shown the last question alone: %s", gone)
        return
    for row in rows:
        (turns,) = prompts.read(row["row"], row["row"], ["messages"])["messages"].to_pylist()
        row["messages"] = turns[:-1] if turns[-1]["role"] == "assistant" else turns


def read_reviews(spec: IntervalSpec, lookback_days: int) -> Reviewed:
    """Return what people said before the interval's end, of answers of the `lookback_days` before it began or since.

    :raises BadInput: a record or a sample cannot be read.
    """
    from nightshift.data.review_sample import SAMPLE, SAMPLES, sample_rows
    from nightshift.ledger.reviews import REVIEWS, reviews_of
    from nightshift.settings.interval import Interval
    from nightshift.storage.files import names_in
    from nightshift.storage.manifest import read_manifest
    from nightshift.storage.partition import partition_of, read_file

    home, interval = partition_of(spec.storage, spec.application.name), spec.interval
    since = interval.start - timedelta(days=lookback_days)
    known = [(name, Interval.of_key(name)) for name in names_in(home / REVIEWS)]
    nights = [name for name, of in known if of and since < of.end and of.start < interval.end]
    reviews = [review for review in reviews_of(home, nights) if review.at < interval.end]
    rows: dict[str, dict[str, Any]] = {}
    for night in nights:
        if manifest := read_manifest(home / SAMPLES / night):
            sample = sample_rows(read_file(home / SAMPLES / night, manifest, SAMPLE), ABOUT)
            rows |= {row["key"]: row | {"night": night} for row in sample}
    return Reviewed(reviews, rows)


def write_reviews(reviewed: Reviewed, spec: IntervalSpec, folder: Path) -> tuple[Path, Path]:
    """Write what was said within the interval as a source of feedback, and the interactions that it is about by their keys."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from nightshift.data.feedback import REVIEWED_SCHEMA
    from nightshift.settings.feedback import CHOSEN_BY, REVIEWED

    folder.mkdir()
    source, rows = folder / "reviews.jsonl", folder / "reviewed.parquet"
    with source.open("w", encoding="utf-8") as file:
        for review in reviewed.reviews:
            if review.at >= spec.interval.start:
                said = review.model_dump(mode="json", include={"key", "by", "at"})
                said |= {"thumb": "up" if review.good else "down", "correction": review.correction or None}
                said |= {CHOSEN_BY: review.chosen, REVIEWED: review.digest, "review:reason": review.reason or None}
                file.write(json.dumps(said) + "\n")
    pq.write_table(pa.Table.from_pylist(list(reviewed.rows.values()), schema=REVIEWED_SCHEMA), rows)
    return source, rows
