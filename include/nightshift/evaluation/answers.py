"""One model's answers to the held-out examples, kept in storage so that the same model is not asked twice."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from nightshift.data.examples import examples_in
from nightshift.data.interactions import GIVEN
from nightshift.data.snapshot import HELD_OUT
from nightshift.evaluation.answer_file import ANSWER_SCHEMA, ANSWERS
from nightshift.evaluation.estimates import PREFERENCE
from nightshift.evaluation.preferences import preferred
from nightshift.evaluation.scores import Answers, mean_per_example, spread
from nightshift.evaluation.validity import is_valid
from nightshift.inference.adapter import fetch_served
from nightshift.settings.application import Application
from nightshift.settings.project import project_folder
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of
from nightshift.storage.partition import fetch, find, partition_of, publish

if TYPE_CHECKING:
    from nightshift.inference.engine import Engine, Response
    from nightshift.storage.application_version import ApplicationVersion

VERSION = 3  # of how answers are made, not of their scores; raising it asks every model again

# Metrics that are means over the answers, with their columns; a column with nulls counts as not measured.
MEANS = {"tokens": "answer_tokens"} | {
    name: name for name in ("similarity", "valid", "finished", "latency_ms", "cost", "judge")
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluatedModel:
    """A model to evaluate.

    :param name: as people know it.
    :param digest: of the version, or of the weights of an unregistered model.
    :param application: with the model's own prompt and decoding settings.
    :param folder: makes a local model folder; called only when the model must be loaded.
    :param version: None for an unregistered model.
    """

    role: str
    name: str
    digest: str
    application: Application
    folder: Callable[[Path], Path]
    version: ApplicationVersion | None = None

    @classmethod
    def of(cls, role: str, name: str, version: ApplicationVersion) -> EvaluatedModel:
        """Return a registered version to evaluate."""
        return cls(role, name, version.digest, version.application, partial(fetch_served, version), version)

    @property
    def weights(self) -> str:
        """Digest of the weights: equal weights, prompt and settings give equal answers, whatever the version."""
        return self.version.parts.weights.digest if self.version else self.digest


@dataclass(frozen=True)
class ModelAnswers:
    """The answers of one model (`ANSWER_SCHEMA`), in the order of the held-out examples."""

    model: EvaluatedModel
    manifest: Manifest
    parent: Parent
    table: pa.Table
    examples: dict[str, dict[str, Any]]  # the held-out rows by digest

    @property
    def spread(self) -> dict[str, float]:
        """Standard deviation of each score between samples; empty if each example has one answer."""
        return spread(self.answers)

    @property
    def answers(self) -> Answers:
        """The columns that scoring needs."""
        return _answers(self.table)

    def answers_where(self, mask: Sequence[bool]) -> Answers:
        """The same for the rows where `mask` is true."""
        return _answers(self.table.filter(pa.array(mask, pa.bool_())))


def _answers(table: pa.Table) -> Answers:
    tokens, others = table["wanted_tokens"].to_pylist(), table["others"].to_pylist()
    measured = any(tokens)
    return Answers(
        answer=table["answer"].to_pylist(),
        reference=table["wanted"].to_pylist(),
        loss_sum=table["wanted_loss"].to_pylist() if measured else [],
        answer_tokens=tokens if measured else [],
        others=[list(texts) for texts in zip(*others, strict=True)] if all(others) else [],
        means={
            name: table[column].cast(pa.float64()).to_pylist()
            for name, column in _means(table).items()
            if _whole(table, column)
        },
    )


def _means(table: pa.Table) -> dict[str, str]:
    """Metrics that are means over the answers, with their columns: built-in ones and those of own scorers."""
    return MEANS | {name: name for name in table.column_names if name not in ANSWER_SCHEMA.names}


def _whole(table: pa.Table, column: str) -> bool:
    return table[column].null_count == 0


def held_out_examples(snapshot: UPath, manifest: Manifest, most: int, folder: Path) -> list[dict[str, Any]]:
    """Return the held-out rows to evaluate on: the first `most` by digest, a random but stable sample."""
    columns = ["digest", "messages", "tools", "metadata", "prompt", "answer", "language", "rejected"]
    table = examples_in(fetch(snapshot, manifest, HELD_OUT, folder), columns)
    return list(table.sort_by("digest").slice(0, most).to_pylist())


def answers_to(
    model: EvaluatedModel,
    held_out: list[dict[str, Any]],
    storage: str,
    report: Callable[[int, int], None],
) -> ModelAnswers:
    """Return a model's answers to the held-out rows, from storage if it was asked before."""
    application, settings = model.application, model.application.evaluation
    inputs = {
        "model": model.weights,
        "examples": digest_of([_key(row, application) for row in held_out]),
        "prompt": application.prompt.model_dump(mode="json"),
        "max_new_tokens": application.evaluated_tokens,
        "batch_size": settings.batch_size,
        "version": VERSION,
        **application.answer_inputs,
        **({"preferences": True} if PREFERENCE in application.gate.metrics else {}),
        **({"samples": application.evaluated_samples} if application.evaluated_samples > 1 else {}),
    }
    partition = partition_of(storage, application.name, "answers", digest_of(inputs)[:16])
    manifest = find(partition, inputs)
    if manifest is None:
        log.info("asking the %s model %s", model.role, model.name)
        manifest = _ask(model, held_out, storage, partition, inputs=inputs, report=report)
    else:
        log.info("the %s model %s was asked before", model.role, model.name)
    with scratch_folder(UPath(storage)) as folder:
        table = _rescored(pq.read_table(fetch(partition, manifest, ANSWERS, folder)))
        table = _with_model_scores(table, held_out, application, storage)
    parent = Parent(uri=str(partition), digest=manifest.digest)
    return ModelAnswers(model, manifest, parent, table, {row["digest"]: row for row in held_out})


def _key(row: dict[str, Any], application: Application) -> Any:
    """What identifies a model's input for a row: the row's digest, and the metadata that the prompt uses."""
    taken = application.prompt.taken_from(row)
    return [row["digest"], taken] if taken else row["digest"]


def _rescored(answers: pa.Table) -> pa.Table:
    """Kept answers, scored by the current code: an earlier version may have scored them differently or not at all."""
    for name in set(ANSWER_SCHEMA.names).difference(answers.column_names):  # made before there were such columns
        answers = answers.append_column(
            ANSWER_SCHEMA.field(name), pa.nulls(len(answers), ANSWER_SCHEMA.field(name).type)
        )
    answers = answers.select(ANSWER_SCHEMA.names)
    asked = [not too_long for too_long in answers["too_long"].to_pylist()]
    for name, values in mean_per_example(_answers(answers)).items():
        field = ANSWER_SCHEMA.field(name)
        # The empty answer of a model that was not asked must not match a reference such as a lone full stop.
        scores = [value if was_asked else 0.0 for value, was_asked in zip(values, asked, strict=True)]
        answers = answers.set_column(answers.schema.get_field_index(name), field, pa.array(scores, field.type))
    return answers


def _with_model_scores(
    answers: pa.Table, held_out: list[dict[str, Any]], application: Application, storage: str
) -> pa.Table:
    """The answers with `valid`, and if the gate uses them, `similarity`, `judge` and a column for each own scorer. With
    several samples, the first one is scored.

    :raises BadInput: an own scorer cannot be loaded.
    :raises BadEnvironment: the judge does not answer.
    """
    form, texts = application.inference.response_format, answers["answer"].to_pylist()
    contexts = answers["context"].to_pylist()
    valid = [
        float(is_valid(text, why, form)) for text, why in zip(texts, answers["finish_reason"].to_pylist(), strict=True)
    ]
    found: dict[str, Sequence[float | None]] = {"valid": valid}
    if "similarity" in application.gate.metrics:
        from nightshift.evaluation.similarity import similarities

        found["similarity"] = similarities(texts, answers["wanted"].to_pylist(), [row["language"] for row in held_out])
    if "judge" in application.gate.metrics:
        from nightshift.evaluation.opinions import judge_scores

        found["judge"] = judge_scores(held_out, texts, contexts, application, storage)
    for name, values in found.items():
        field = ANSWER_SCHEMA.field(name)
        answers = answers.set_column(answers.schema.get_field_index(name), field, pa.array(values, field.type))
    if own := {name: one for name, one in application.scorers.items() if name in application.gate.metrics}:
        from nightshift.evaluation.own_scorers import load_own_scorers

        asked = [
            {
                "prompt": row["prompt"], "response": text, "context": context, "reference": reference, "metadata": {},
                "language": row["language"], "messages": row["messages"][:-1],
            }
            for row, text, reference, context in zip(held_out, texts, answers["wanted"].to_pylist(), contexts, strict=True)
        ]  # fmt: skip
        for name, scorer in load_own_scorers(own, project_folder()).items():
            answers = answers.append_column(name, pa.array(scorer.score(asked)[0], pa.float64()))
    return answers


def _ask(
    model: EvaluatedModel,
    held_out: list[dict[str, Any]],
    storage: str,
    partition: UPath,
    *,
    inputs: dict[str, Any],
    report: Callable[[int, int], None],
) -> Manifest:
    from nightshift.inference.engine import ReferenceAnswer
    from nightshift.inference.engines import open_engine
    from nightshift.inference.retrieving import Retriever

    application, started = model.application, time.monotonic()
    with scratch_folder(UPath(storage)) as work:
        engine = open_engine(
            model.folder(work),
            application,
            max_new_tokens=application.evaluated_tokens,
            batch_rows=application.evaluation.batch_size,
        )
        given = Retriever(application, work / "index").given(held_out)
        drawn = _drawn(engine, given, application.evaluated_samples, report)
        answers = drawn[0]
        others: list[list[str] | None] = [[one.text for one in row] for row in zip(*drawn[1:], strict=True)]
        cost = sum(answer.paid for sample in drawn for answer in sample)
        folder = work / "answers"
        folder.mkdir()
        refused = sum(answer.finish_reason == "refused" for answer in answers)
        references = [
            answer.reference or ReferenceAnswer(row["answer"], 0, 0.0)
            for row, answer in zip(held_out, answers, strict=True)
        ]
        columns: dict[str, Any] = {
            "digest": [row["digest"] for row in held_out],
            "prompt": [row["prompt"] for row in held_out],
            "wanted": [one.text for one in references],
            "answer": [answer.text for answer in answers],
            "answer_tokens": [answer.tokens for answer in answers],
            "finished": [answer.finish_reason == "stop" for answer in answers],
            "too_long": [answer.too_long for answer in answers],
            "wanted_tokens": [one.tokens for one in references],
            "wanted_loss": [one.loss for one in references],
            "others": others or [None for _ in answers],
            "reasoning": [answer.reasoning for answer in answers],
            "reasoning_tokens": [answer.reasoning_tokens for answer in answers],
            "finish_reason": [answer.finish_reason for answer in answers],
            "latency_ms": [0.0 if answer.too_long else answer.latency_ms for answer in answers],
            "cost": [answer.cost if application.inference.hosted else None for answer in answers],
            **{field.name: [row.get(field.name) for row in given] for field in GIVEN},
            "steps": [answer.steps for answer in answers],
            **dict.fromkeys(("exact_match", "rouge_l", "chrf"), [0.0] * len(answers)),
            **dict.fromkeys(("valid", "similarity", "judge"), [None] * len(answers)),
            "preferred": preferred(engine, given, report) if "preferences" in inputs else [None] * len(answers),
        }
        table = _rescored(pa.table(columns, schema=ANSWER_SCHEMA))
        pq.write_table(table, folder / ANSWERS, compression="zstd")
        return publish(
            partition,
            folder,
            kind="answers",
            application=application.name,
            inputs=inputs,
            rows={ANSWERS: len(held_out)},
            counts={
                "examples": len(held_out),
                "answer_tokens": sum(columns["answer_tokens"]),
                "too_long": sum(columns["too_long"]),
                **({"refused": refused} if refused else {}),
            },
            facts={
                "role": model.role,
                "model": model.name,
                "seconds": round(time.monotonic() - started, 1),
                **engine.about,
                **({"cost": round(cost, 6)} if cost else {}),
            },
        )


def _drawn(
    engine: Engine, held_out: list[dict[str, Any]], samples: int, report: Callable[[int, int], None]
) -> list[list[Response]]:
    """The responses to all rows, once for each sample."""
    drawn = []
    for number in range(samples):

        def report_sample(done: int, of: int, before: int = number) -> None:
            report(before * of + done, samples * of)

        drawn.append(engine.answer(held_out, report_sample, sample=number, references=number == 0))
    return drawn
