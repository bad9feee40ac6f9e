"""One model's answers to the held-out examples, computed once and kept: a base model is not asked the same twice."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.examples import examples_in
from nightshift.data.snapshot import HELD_OUT
from nightshift.evaluation.scores import Answers, per_example
from nightshift.settings.application import Application
from nightshift.storage.files import scratch
from nightshift.storage.partition import Manifest, Parent, digest_of, fetch, find, partition_of, publish

ANSWERS = "answers.parquet"
VERSION = 2  # of how answers are made, not of their scores; another one asks every model again

ANSWER_SCHEMA = pa.schema(
    [
        pa.field("digest", pa.string(), nullable=False),  # of the held-out example
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("wanted", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("answer_tokens", pa.int32(), nullable=False),
        pa.field("finished", pa.bool_(), nullable=False),  # false: cut off at evaluation.max_new_tokens
        pa.field("too_long", pa.bool_(), nullable=False),  # true: the model cannot read so much, and was not asked
        pa.field("wanted_tokens", pa.int32(), nullable=False),  # of the wanted answer, its end token included
        pa.field("wanted_loss", pa.float64(), nullable=False),  # summed over these tokens, in nats
        pa.field("exact_match", pa.float64(), nullable=False),
        pa.field("rouge_l", pa.float64(), nullable=False),
        pa.field("chrf", pa.float64(), nullable=False),
    ]
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnderTest:
    """A model to judge.

    :param name: what people call it.
    :param digest: of its content; the same digest has the same answers.
    :param folder: makes a local model folder; called only where the model must be loaded.
    :param model: URI of its partition, where it was trained here.
    """

    role: str
    name: str
    digest: str
    folder: Callable[[Path], Path]
    model: str | None = None


@dataclass(frozen=True)
class Judged:
    """The answers of one model (`ANSWER_SCHEMA`), in the order of the held-out examples."""

    under_test: UnderTest
    manifest: Manifest
    parent: Parent
    table: pa.Table

    @property
    def answers(self) -> Answers:
        """What scoring needs of the table."""
        return _answers(self.table)

    def answers_where(self, mask: Sequence[bool]) -> Answers:
        """The same of the rows that `mask` is true for."""
        return _answers(self.table.filter(pa.array(mask, pa.bool_())))


def _answers(table: pa.Table) -> Answers:
    return Answers(
        answer=table["answer"].to_pylist(),
        wanted=table["wanted"].to_pylist(),
        loss_sum=table["wanted_loss"].to_pylist(),
        answer_tokens=table["wanted_tokens"].to_pylist(),
    )


def held_out_examples(snapshot: UPath, manifest: Manifest, most: int, folder: Path) -> list[dict[str, Any]]:
    """Return the held-out rows to judge on: the first `most` by digest, which is as good as chance and never changes."""
    columns = ["digest", "messages", "tools", "prompt", "answer"]
    table = examples_in(fetch(snapshot, manifest, HELD_OUT, folder), columns)
    return list(table.sort_by("digest").slice(0, most).to_pylist())


def judge(
    under_test: UnderTest,
    held_out: list[dict[str, Any]],
    application: Application,
    storage: str,
    report: Callable[[int, int], None],
) -> Judged:
    """Return a model's answers to the held-out rows, from storage where it was asked before."""
    settings = application.evaluation
    inputs = {
        "model": under_test.digest,
        "examples": digest_of([row["digest"] for row in held_out]),
        "prompt": application.prompt.model_dump(mode="json"),
        "max_new_tokens": settings.max_new_tokens,
        "batch_size": settings.batch_size,
        "version": VERSION,
        **application.decoded_by,
    }
    partition = _address(storage, application, inputs)
    manifest = find(partition, inputs)
    if manifest is None:
        log.info("asking the %s model %s", under_test.role, under_test.name)
        manifest = _ask(under_test, held_out, application, storage, inputs=inputs, report=report)
    else:
        log.info("the %s model %s was asked before", under_test.role, under_test.name)
    folder = scratch(UPath(storage))
    try:
        table = _scored_anew(pq.read_table(fetch(partition, manifest, ANSWERS, folder)))
    finally:
        shutil.rmtree(folder)
    return Judged(under_test, manifest, Parent(uri=str(partition), digest=manifest.digest), table)


def _scored_anew(answers: pa.Table) -> pa.Table:
    """Answers that were kept, with the scores of today: they may have been scored in another way when they were made."""
    asked = [not too_long for too_long in answers["too_long"].to_pylist()]
    for name, values in per_example(answers["answer"].to_pylist(), answers["wanted"].to_pylist()).items():
        field = ANSWER_SCHEMA.field(name)
        # A model that was not asked is not right by saying nothing where a full stop is wanted.
        scores = [value if told else 0.0 for value, told in zip(values, asked, strict=True)]
        answers = answers.set_column(answers.schema.get_field_index(name), field, pa.array(scores, field.type))
    return answers


def _address(storage: str, application: Application, inputs: dict[str, Any]) -> UPath:
    return partition_of(storage, application.name, "answers", digest_of(inputs)[:16])


def _ask(
    under_test: UnderTest,
    held_out: list[dict[str, Any]],
    application: Application,
    storage: str,
    *,
    inputs: dict[str, Any],
    report: Callable[[int, int], None],
) -> Manifest:
    from nightshift.inference.engine import Wanted
    from nightshift.inference.engines import open_engine

    settings, started = application.evaluation, time.monotonic()
    work = scratch(UPath(storage))
    try:
        engine = open_engine(
            under_test.folder(work),
            application,
            max_new_tokens=settings.max_new_tokens,
            batch_rows=settings.batch_size,
        )
        answers = engine.answer(held_out, report, wanted=True)
        folder = work / "answers"
        folder.mkdir()
        texts = [answer.text for answer in answers]
        wanted = [answer.wanted or Wanted(row["answer"], 0, 0.0) for row, answer in zip(held_out, answers, strict=True)]
        columns = {
            "digest": [row["digest"] for row in held_out],
            "prompt": [row["prompt"] for row in held_out],
            "wanted": [one.text for one in wanted],
            "answer": texts,
            "answer_tokens": [answer.tokens for answer in answers],
            "finished": [answer.finish_reason == "stop" for answer in answers],
            "too_long": [answer.too_long for answer in answers],
            "wanted_tokens": [one.tokens for one in wanted],
            "wanted_loss": [one.loss for one in wanted],
            **per_example(texts, [one.text for one in wanted]),
        }
        pq.write_table(pa.table(columns, schema=ANSWER_SCHEMA), folder / ANSWERS, compression="zstd")
        return publish(
            _address(storage, application, inputs),
            folder,
            kind="answers",
            application=application.name,
            inputs=inputs,
            rows={ANSWERS: len(held_out)},
            counts={
                "examples": len(held_out),
                "answer_tokens": sum(columns["answer_tokens"]),
                "too_long": sum(columns["too_long"]),
            },
            facts={
                "role": under_test.role,
                "model": under_test.name,
                "seconds": round(time.monotonic() - started, 1),
                "engine": engine.name,
                "precision": engine.precision,
                "device": engine.device,
            },
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)
