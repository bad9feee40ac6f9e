"""One model's answers to the held-out examples, computed once and kept: a base model is not asked the same twice."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from nightshift.settings.application import Application
from nightshift.settings.project import project_folder
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of
from nightshift.storage.partition import fetch, find, partition_of, publish

if TYPE_CHECKING:
    from nightshift.inference.engine import Engine, Response
    from nightshift.storage.application_version import ApplicationVersion

VERSION = 3  # of how answers are made, not of their scores; another one asks every model again

# Metrics that are means over the answers, with their columns; a column that is not known of each row is not measured.
MEANS = {"tokens": "answer_tokens"} | {
    name: name for name in ("similarity", "valid", "finished", "latency_ms", "cost", "judge")
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnderTest:
    """A model to judge.

    :param name: what people call it.
    :param digest: of the version, or of the weights of a model that is none.
    :param application: what it answers for, with the prompt and the decoding settings that are its own.
    :param folder: makes a local model folder; called only where the model must be loaded.
    :param version: None: it is no version.
    """

    role: str
    name: str
    digest: str
    application: Application
    folder: Callable[[Path], Path]
    version: ApplicationVersion | None = None

    @classmethod
    def of(cls, role: str, name: str, version: ApplicationVersion) -> UnderTest:
        """Return a version to judge."""
        return cls(role, name, version.digest, version.application, version.fetch, version)

    @property
    def weights(self) -> str:
        """Digest of the weights: the same weights, prompt and settings have the same answers, in whatever version."""
        return self.version.parts.weights.digest if self.version else self.digest


@dataclass(frozen=True)
class Judged:
    """The answers of one model (`ANSWER_SCHEMA`), in the order of the held-out examples."""

    under_test: UnderTest
    manifest: Manifest
    parent: Parent
    table: pa.Table
    examples: dict[str, dict[str, Any]]  # the held-out rows by digest

    @property
    def spread(self) -> dict[str, float]:
        """By how much each score differs between samples; empty where each example has one answer."""
        return spread(self.answers)

    @property
    def answers(self) -> Answers:
        """What scoring needs of the table."""
        return _answers(self.table)

    def answers_where(self, mask: Sequence[bool]) -> Answers:
        """The same of the rows that `mask` is true for."""
        return _answers(self.table.filter(pa.array(mask, pa.bool_())))


def _answers(table: pa.Table) -> Answers:
    tokens, others = table["wanted_tokens"].to_pylist(), table["others"].to_pylist()
    measured = any(tokens)
    return Answers(
        answer=table["answer"].to_pylist(),
        wanted=table["wanted"].to_pylist(),
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
    """The metrics that are means over the answers, with their columns: ours, and those of own scorers."""
    return MEANS | {name: name for name in table.column_names if name not in ANSWER_SCHEMA.names}


def _whole(table: pa.Table, column: str) -> bool:
    return table[column].null_count == 0


def held_out_examples(snapshot: UPath, manifest: Manifest, most: int, folder: Path) -> list[dict[str, Any]]:
    """Return the held-out rows to judge on: the first `most` by digest, which is as good as chance and never changes."""
    columns = ["digest", "messages", "tools", "metadata", "prompt", "answer", "language", "rejected"]
    table = examples_in(fetch(snapshot, manifest, HELD_OUT, folder), columns)
    return list(table.sort_by("digest").slice(0, most).to_pylist())


def judge(
    under_test: UnderTest,
    held_out: list[dict[str, Any]],
    storage: str,
    report: Callable[[int, int], None],
) -> Judged:
    """Return a model's answers to the held-out rows, from storage where it was asked before."""
    application, settings = under_test.application, under_test.application.evaluation
    inputs = {
        "model": under_test.weights,
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
        log.info("asking the %s model %s", under_test.role, under_test.name)
        manifest = _ask(under_test, held_out, storage, partition, inputs=inputs, report=report)
    else:
        log.info("the %s model %s was asked before", under_test.role, under_test.name)
    with scratch_folder(UPath(storage)) as folder:
        table = _scored_anew(pq.read_table(fetch(partition, manifest, ANSWERS, folder)))
        table = _judged_by_form_and_meaning(table, held_out, application, storage)
    parent = Parent(uri=str(partition), digest=manifest.digest)
    return Judged(under_test, manifest, parent, table, {row["digest"]: row for row in held_out})


def _key(row: dict[str, Any], application: Application) -> Any:
    """What says what a model is given for a row: its digest, and what the application's prompt takes of its metadata."""
    taken = application.prompt.taken_from(row)
    return [row["digest"], taken] if taken else row["digest"]


def _scored_anew(answers: pa.Table) -> pa.Table:
    """Answers that were kept, with the scores of today: they may have been scored in another way, or not yet."""
    for name in set(ANSWER_SCHEMA.names).difference(answers.column_names):  # made before there were such columns
        answers = answers.append_column(
            ANSWER_SCHEMA.field(name), pa.nulls(len(answers), ANSWER_SCHEMA.field(name).type)
        )
    answers = answers.select(ANSWER_SCHEMA.names)
    asked = [not too_long for too_long in answers["too_long"].to_pylist()]
    for name, values in mean_per_example(_answers(answers)).items():
        field = ANSWER_SCHEMA.field(name)
        # A model that was not asked is not right by saying nothing where a full stop is wanted.
        scores = [value if told else 0.0 for value, told in zip(values, asked, strict=True)]
        answers = answers.set_column(answers.schema.get_field_index(name), field, pa.array(scores, field.type))
    return answers


def _judged_by_form_and_meaning(
    answers: pa.Table, held_out: list[dict[str, Any]], application: Application, storage: str
) -> pa.Table:
    """The same with `valid`, and where the application's gate looks at them, `similarity`, `judge` and a column for each own
    scorer. Of drawn answers, that of the first counts.

    :raises BadInput: an own scorer cannot be loaded.
    :raises BadEnvironment: the judge does not answer.
    """
    form, said = application.inference.response_format, answers["answer"].to_pylist()
    contexts = answers["context"].to_pylist()
    valid = [
        float(is_valid(text, why, form)) for text, why in zip(said, answers["finish_reason"].to_pylist(), strict=True)
    ]
    found: dict[str, Sequence[float | None]] = {"valid": valid}
    if "similarity" in application.gate.metrics:
        from nightshift.evaluation.similarity import similarities

        found["similarity"] = similarities(said, answers["wanted"].to_pylist(), [row["language"] for row in held_out])
    if "judge" in application.gate.metrics:
        from nightshift.evaluation.opinions import judge_scores

        found["judge"] = judge_scores(held_out, said, contexts, application, storage)
    for name, values in found.items():
        field = ANSWER_SCHEMA.field(name)
        answers = answers.set_column(answers.schema.get_field_index(name), field, pa.array(values, field.type))
    if own := {name: one for name, one in application.scorers.items() if name in application.gate.metrics}:
        from nightshift.evaluation.own_scorers import load_own_scorers

        asked = [
            {
                "prompt": row["prompt"], "response": text, "context": context, "reference": wanted, "metadata": {},
                "language": row["language"], "messages": row["messages"][:-1],
            }
            for row, text, wanted, context in zip(held_out, said, answers["wanted"].to_pylist(), contexts, strict=True)
        ]  # fmt: skip
        for name, scorer in load_own_scorers(own, project_folder()).items():
            answers = answers.append_column(name, pa.array(scorer.score(asked)[0], pa.float64()))
    return answers


def _ask(
    under_test: UnderTest,
    held_out: list[dict[str, Any]],
    storage: str,
    partition: UPath,
    *,
    inputs: dict[str, Any],
    report: Callable[[int, int], None],
) -> Manifest:
    from nightshift.inference.engine import Wanted
    from nightshift.inference.engines import open_engine
    from nightshift.inference.retrieving import Retriever

    application, started = under_test.application, time.monotonic()
    with scratch_folder(UPath(storage)) as work:
        engine = open_engine(
            under_test.folder(work),
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
        wanted = [answer.wanted or Wanted(row["answer"], 0, 0.0) for row, answer in zip(held_out, answers, strict=True)]
        columns: dict[str, Any] = {
            "digest": [row["digest"] for row in held_out],
            "prompt": [row["prompt"] for row in held_out],
            "wanted": [one.text for one in wanted],
            "answer": [answer.text for answer in answers],
            "answer_tokens": [answer.tokens for answer in answers],
            "finished": [answer.finish_reason == "stop" for answer in answers],
            "too_long": [answer.too_long for answer in answers],
            "wanted_tokens": [one.tokens for one in wanted],
            "wanted_loss": [one.loss for one in wanted],
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
        table = _scored_anew(pa.table(columns, schema=ANSWER_SCHEMA))
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
                "role": under_test.role,
                "model": under_test.name,
                "seconds": round(time.monotonic() - started, 1),
                **engine.about,
                **({"cost": round(cost, 6)} if cost else {}),
            },
        )


def _drawn(
    engine: Engine, held_out: list[dict[str, Any]], samples: int, report: Callable[[int, int], None]
) -> list[list[Response]]:
    """The responses to all rows, for each sample."""
    drawn = []
    for number in range(samples):

        def told(done: int, of: int, before: int = number) -> None:
            report(before * of + done, samples * of)

        drawn.append(engine.answer(held_out, told, sample=number, wanted=number == 0))
    return drawn
