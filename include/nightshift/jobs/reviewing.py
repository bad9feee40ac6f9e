"""The jobs' part of the review page: choose an interval's sample or a shadow's pairs, and read people's reviews."""

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
from nightshift.jobs.contract import IntervalSpec, JobSpec
from nightshift.registry.versions import Registered
from nightshift.settings.feedback import CHOSEN_BY, REVIEWED
from nightshift.settings.interval import Interval
from nightshift.settings.split import Arm
from nightshift.storage.files import names_in, scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of, read_manifest, require_manifest
from nightshift.storage.partition import fetch, find, partition_of, publish, read_file

if TYPE_CHECKING:
    from nightshift.ledger.records import Review
    from nightshift.monitoring.logged_prompts import LoggedPrompts
    from nightshift.monitoring.shadow import Compared

# Of a sample's rows: what joins reviews to interactions, and what reviewers are compared with. Texts would fill the memory.
ABOUT = ["key", "digest", "row", "model", "model_digest", "scores"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reviewed:
    """What was said, before the end of an interval, of the samples whose answers its feedback may be about.

    :param rows: the rows of these samples by their keys, each with the `night` that it is of; of pairs, those that somebody
        chose between, with both answers.
    """

    reviews: list[Review]
    rows: dict[str, dict[str, Any]]

    @property
    def choices(self) -> list[Review]:
        """Those of two answers."""
        return [review for review in self.reviews if review.better]

    @property
    def digest(self) -> str:
        """What it holds, as an input of what is made of it."""
        return digest_of([[review.model_dump(mode="json") for review in self.reviews], sorted(self.rows)])


def publish_sample(spec: IntervalSpec, rows: int, id_key: bytes, work: Path) -> Manifest | None:
    """Publish which answers of the interval people are shown, unless that is there; None where nothing was answered.

    :raises BadInput: the interactions are damaged.
    """
    from nightshift.data.interactions import INTERACTIONS
    from nightshift.data.review_sample import SAMPLE, SAMPLES, VERSION, chosen, write_sample
    from nightshift.monitoring.topics import Embedder

    app, interval = spec.application, spec.interval
    interactions = partition_of(spec.storage, app.name, "interactions", interval.key)
    answered = read_manifest(interactions)
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
    there = read_manifest(partition)
    # What people said is of the rows that they were shown, however these were chosen then.
    if there and {**there.inputs, "version": VERSION} == inputs:
        return there
    file = fetch(interactions, answered, INTERACTIONS, work / "answered")
    found = chosen(file, answered.digest, rows, key, app.scorers, Embedder())
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
        parents=[Parent(uri=str(interactions), digest=answered.digest)],
    )


def _with_turns(rows: list[dict[str, Any]], answered: Manifest, folder: Path) -> None:
    """Add what was asked, with all turns before, where the prompts are still those that were answered."""
    from nightshift.inference.prompts import Prompts

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


def publish_pairs(
    spec: JobSpec,
    shadow: str,
    inputs: dict[str, Any],
    *,
    logged: LoggedPrompts,
    found: Compared,
    models: tuple[Registered, Registered],
) -> None:
    """Publish between which answers of a shadow people choose, unless that is there, nobody is asked, or none differ.

    :param shadow: its name.
    :param inputs: what it is made of.
    :param models: champion and candidate.
    """
    from nightshift.data.review_pairs import PAIR_SCHEMA, PAIRS, SIDES, VERSION, drawn_pairs
    from nightshift.data.review_sample import SAMPLE, quality_of, write_sample

    app = spec.application
    if app.feedback is None or app.feedback.review is None or not found.answers:
        return
    newest = max((one.interval for one in logged.intervals), key=lambda interval: interval.end)
    partition = partition_of(spec.storage, app.name, PAIRS, f"{newest.key}-{shadow}")
    inputs = {**inputs, "version": VERSION, "rows": app.feedback.review.rows}
    if find(partition, inputs):
        return
    # That of the interactions, which is another than the registry's where the application is served elsewhere.
    digests = {one.key: one.model_digest for one in logged.intervals}
    pairs: list[dict[str, Any]] = []
    for place, answers in enumerate(zip(found.rows, found.answers, strict=True)):
        turns = logged.examples[place]["messages"]
        pair = {name: answers[0][name] for name in ("night", "row", "digest", "unit")}
        pair["messages"] = turns[:-1] if turns[-1]["role"] == "assistant" else turns
        for which, (side, model, answer) in enumerate(zip(SIDES, models, answers, strict=True)):
            scores = answer | {name: scores[place][which] for name, scores in found.scores.items() if scores}
            known = {name: scores[name] for name in quality_of(app.scorers) if scores.get(name) is not None}
            pair |= {side: answer["response"], f"{side}_scores": known}
            pair |= {f"{side}_model": model.version, f"{side}_model_digest": model.digest}
        pairs.append(pair | {"champion_model_digest": digests[pair["night"]]})
    rows = drawn_pairs(pairs, app.feedback.review.rows)
    if not rows:
        return
    with scratch_folder(UPath(spec.storage)) as work:
        write_sample(rows, work / SAMPLE, PAIR_SCHEMA)
        publish(
            partition, work, kind="review_sample", application=app.name, interval=newest, inputs=inputs,
            rows={SAMPLE: len(rows)}, counts={"rows": len(rows)},
        )  # fmt: skip


def read_reviews(spec: IntervalSpec, lookback_days: int) -> Reviewed:
    """Return what people said before the interval's end, of answers of the `lookback_days` before it began or since.

    Of pairs the days count from when the shadow published them.

    :raises BadInput: a record or a sample cannot be read.
    """
    from nightshift.data.review_pairs import PAIR_SCHEMA, PAIRS, interval_of, newest_pairs
    from nightshift.data.review_sample import SAMPLE, SAMPLES, sample_rows
    from nightshift.ledger.reviews import REVIEWS, reviews_of

    home, interval = partition_of(spec.storage, spec.application.name), spec.interval
    since = interval.start - timedelta(days=lookback_days)
    known = [(name, Interval.of_key(name)) for name in names_in(home / REVIEWS)]
    keys = [name for name, of in known if of and since < of.end and of.start < interval.end]
    published = {
        name: read_manifest(home / PAIRS / name) for name in newest_pairs(names_in(home / PAIRS), interval.end)
    }
    pairs = {name: manifest for name, manifest in published.items() if manifest and since < manifest.created}
    folders = [*keys, *sorted({interval_of(name)[1] for name in pairs})]
    reviews = [review for review in reviews_of(home, folders) if review.at < interval.end]
    rows: dict[str, dict[str, Any]] = {}
    for key in keys:
        if manifest := read_manifest(home / SAMPLES / key):
            sample = sample_rows(read_file(home / SAMPLES / key, manifest, SAMPLE), ABOUT)
            rows |= {row["key"]: row | {"night": key} for row in sample}
    chosen = {review.key for review in reviews if review.better}
    for name, manifest in pairs.items():
        for row in sample_rows(read_file(home / PAIRS / name, manifest, SAMPLE), schema=PAIR_SCHEMA):
            if row["key"] in chosen:
                answered_by = {"model": row["champion_model"], "model_digest": row["champion_model_digest"]}
                rows[row["key"]] = {**row, **answered_by, "messages": None}
    return Reviewed(reviews, rows)


def write_reviews(reviewed: Reviewed, spec: IntervalSpec, folder: Path) -> tuple[Path, Path, Path]:
    """Write what was said within the interval as two sources of feedback, of answers and of pairs, and what it is about by key.

    A pair is written once, as most people found who chose by the end of the first interval in which anybody found a difference.
    Where they are divided it is not written. That neither is good is said of the champion's answer, which is an interaction.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from nightshift.data.feedback import REVIEWED_SCHEMA
    from nightshift.data.review_pairs import SIDES
    from nightshift.evaluation.choices import outcomes

    found, start = outcomes(reviewed.choices), spec.interval.start
    written = {choice.key for choice in reviewed.choices if choice.at < start and choice.better != "same"}
    folder.mkdir()
    answers, pairs, rows = folder / "reviews.jsonl", folder / "choices.jsonl", folder / "reviewed.parquet"
    with answers.open("w", encoding="utf-8") as of_answers, pairs.open("w", encoding="utf-8") as of_pairs:
        for review in reviewed.reviews:
            if review.at < start:
                continue
            if review.better:
                if review.key in written or review.better == "same" or review.better != found[review.key]:
                    continue
                written.add(review.key)
            said = review.model_dump(mode="json", include={"key", "by", "at"})
            said |= {CHOSEN_BY: review.chosen, REVIEWED: review.digest, "review:reason": review.reason or None}
            if review.better in SIDES:
                pair = reviewed.rows.get(review.key, {})  # without one, which was made again, the row is quarantined
                best_first = SIDES if review.better == SIDES[0] else SIDES[::-1]
                for name, side in zip(("preferred", "rejected"), best_first, strict=True):
                    text = pair.get(side)  # as a message, so that nothing in it is taken for a conversation
                    said[name] = None if text is None else {"role": "assistant", "content": text}
                    said[f"review:{name}"] = pair.get(f"{side}_model")
                of_pairs.write(json.dumps(said) + "\n")
            else:
                said |= {"thumb": "up" if review.good else "down", "correction": review.correction or None}
                of_answers.write(json.dumps(said) + "\n")
    pq.write_table(pa.Table.from_pylist(list(reviewed.rows.values()), schema=REVIEWED_SCHEMA), rows)
    return answers, pairs, rows
