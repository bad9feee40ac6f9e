"""The job `reference`: the profile of what a candidate was trained and judged on, which its intervals are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from upath import UPath

from nightshift.errors import BadInput
from nightshift.jobs.contract import JobResult, JobSpec
from nightshift.jobs.progress import Progress
from nightshift.storage.application_version import open_version
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, Parent, digest_of, require_manifest
from nightshift.storage.partition import fetch, find, publish

BATCH_ROWS = 4_096


class Spec(JobSpec):
    """The snapshot and the evaluation of a model."""

    snapshot: str
    digest: str
    model: str
    model_digest: str
    evaluation: str
    evaluation_digest: str


class Result(JobResult):
    """The reference: `rows` prompts, `answers` of them with the candidate's answer."""

    reference: str
    digest: str
    rows: int
    answers: int
    topics: int


def run(spec: Spec, progress: Progress) -> Result:
    """Publish the reference of the model, or find it.

    :raises BadInput: a partition is gone or damaged, or no prompt has a word.
    """
    from nightshift.monitoring.references import VERSIONS, reference_partition

    app = open_version(spec.model, spec.model_digest, spec.application).application
    spec, snapshot, evaluation = (
        spec.model_copy(update={"application": app}),
        UPath(spec.snapshot),
        UPath(spec.evaluation),
    )
    require_manifest(snapshot, spec.digest)
    require_manifest(evaluation, spec.evaluation_digest)
    # Another evaluation of the same model, against another champion, has the same answers of it.
    inputs = {
        "model": spec.model_digest,
        "snapshot": spec.digest,
        "examples": app.evaluation.max_examples,
        "max_new_tokens": app.evaluated_tokens,
        "prompt": digest_of(app.prompt.model_dump(mode="json")),
        "response_format": app.inference.response_format,
        "segments": app.traffic.segments,
        "judge": app.judged_by,
        **app.scoring_inputs,
        **app.made_by_own_scorers,
        **app.answer_inputs,
        **VERSIONS,
    }
    partition = reference_partition(spec.storage, app.name, spec.model_digest)
    manifest = find(partition, inputs) or _make(spec, partition, inputs, progress)
    counts = manifest.counts
    return Result(
        reference=str(partition),
        digest=manifest.digest,
        rows=counts["rows"],
        answers=counts["answers"],
        topics=counts["topics"],
    )


def _make(spec: Spec, partition: UPath, inputs: dict[str, Any], progress: Progress) -> Manifest:
    import pyarrow.parquet as pq

    from nightshift.data.interactions import INTERACTIONS
    from nightshift.data.snapshot import HELD_OUT, TRAIN
    from nightshift.monitoring.measured import SAMPLE, measure
    from nightshift.monitoring.profiles import PROFILE, write_profile
    from nightshift.monitoring.topics import Embedder, fit_topics

    snapshot = UPath(spec.snapshot)
    manifest = require_manifest(snapshot, spec.digest)
    with scratch_folder(UPath(spec.storage)) as work, scratch_folder(UPath(spec.storage)) as folder:
        train, held_out = (fetch(snapshot, manifest, name, work) for name in (TRAIN, HELD_OUT))
        embedder = Embedder()
        try:
            topics = fit_topics(_texts_to_fit(train), embedder)
        except ValueError as error:
            raise BadInput(f"{snapshot}: {error}") from error
        answers = _answers(spec, work)
        rows = work / INTERACTIONS
        answered, given_up = _write_rows(rows, [(train, True), (held_out, False)], answers, spec)
        measured = measure(
            rows,
            topics,
            embedder,
            spec.application.traffic.segments,
            lambda done, of: progress.report(done, of, unit="prompts"),
            spec.application.own_metrics,
        )
        topics.write(folder)
        write_profile(measured.profile, folder / PROFILE)
        pq.write_table(measured.sample, folder / SAMPLE, compression="zstd")
        return publish(
            partition,
            folder,
            kind="reference",
            application=spec.application.name,
            inputs=inputs,
            rows={SAMPLE: measured.sample.num_rows},
            counts={"rows": measured.rows, "answers": answered, "topics": len(topics.names) - 1},
            facts={"model": spec.model, "days": manifest.facts.get("days", []), "given_up": given_up},
            parents=[
                Parent(uri=spec.snapshot, digest=spec.digest),
                Parent(uri=spec.model, digest=spec.model_digest),
                Parent(uri=spec.evaluation, digest=spec.evaluation_digest),
            ],
        )


def _fits(digest: str) -> bool:
    """Whether topics are fitted on a training row; the others are profiled, because centres are too near to their own."""
    return int(digest[-1], 16) % 2 == 0


def _texts_to_fit(train: Path) -> list[str]:
    """The prompts of every other training row, at most about `MOST_TEXTS`, spread evenly by digest."""
    import pyarrow.parquet as pq

    from nightshift.monitoring.topics import MOST_TEXTS

    share = MOST_TEXTS / max(pq.read_metadata(train).num_rows / 2, 1)
    texts: dict[str, None] = {}
    with pq.ParquetFile(train, pre_buffer=False) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=["digest", "prompt"]):
            for digest, prompt in zip(batch["digest"].to_pylist(), batch["prompt"].to_pylist(), strict=True):
                if _fits(digest) and int(digest[:8], 16) < share * 2**32:
                    texts[prompt] = None
    return list(texts)


def _answers(spec: Spec, work: Path) -> dict[str, dict[str, Any]]:
    """The candidate's answers to the held-out examples that it could read, by the example's digest."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from nightshift.evaluation.answer_file import ANSWERS

    evaluation = UPath(spec.evaluation)
    manifest = require_manifest(evaluation, spec.evaluation_digest)
    file = fetch(evaluation, manifest, ANSWERS, work)
    mine = pc.field("role") == "candidate"
    if "too_long" in pq.read_schema(file).names:  # an earlier version asked no model for more than it reads
        mine &= ~pc.field("too_long")
    columns = ["digest", "answer", "finished", "finish_reason", "retrieved", "context"]
    table = pq.read_table(file, columns=[name for name in columns if name in pq.read_schema(file).names], filters=mine)
    return {row["digest"]: row for row in table.to_pylist()}


def _write_rows(
    target: Path, files: list[tuple[Path, bool]], answers: dict[str, dict[str, Any]], spec: Spec
) -> tuple[int, dict[str, str]]:
    """Write the rows of example files as interactions; return how many have an answer, and which scorers were given up.

    :param files: with each, whether topics were fitted on some of its rows, which are left out then.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from nightshift.data.interactions import interaction_schema
    from nightshift.evaluation.scorers import Scorers
    from nightshift.training.base_model import resolve_tokenizer

    # As an interval is scored: also where another base model was chosen for this training.
    scorers = Scorers(
        spec.application,
        resolve_tokenizer(spec.application.base_model),
        interval_rows=len(answers),
        storage=spec.storage,
    )
    schema = pa.schema([field.with_nullable(True) for field in interaction_schema(spec.application.own_metrics)])
    rows = answered = 0
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for file, fitted in files:
            for examples in _examples(file):
                kept = [example for example in examples if not (fitted and _fits(example["digest"]))]
                known = {} if fitted else answers
                table = [
                    _row(rows + place, example, known.get(example["digest"])) for place, example in enumerate(kept)
                ]
                with_answer = [row for row in table if row["response"] is not None]
                _score(with_answer, scorers)
                writer.write_batch(pa.RecordBatch.from_pylist(table, schema=schema))
                rows, answered = rows + len(table), answered + len(with_answer)
    return answered, scorers.given_up


def _examples(file: Path) -> Iterator[list[dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from nightshift.data.examples import without_calls

    columns = [
        "digest", "id", "timestamp", "metadata", "messages", "prompt", "answer", "language", "prompt_characters",
        "prompt_tokens",
    ]  # fmt: skip
    with pq.ParquetFile(file, pre_buffer=False) as reader:
        for batch in reader.iter_batches(BATCH_ROWS, columns=columns):
            table = pa.Table.from_batches([batch])
            references = without_calls(table["answer"], table["messages"])
            yield table.drop_columns(["answer"]).append_column("reference", references).to_pylist()


def _row(number: int, example: dict[str, Any], answer: dict[str, Any] | None) -> dict[str, Any]:
    """One example in the columns of interactions; what a missing answer leaves unknown is null."""
    from nightshift.data.interactions import retrieval_relevance
    from nightshift.data.review_pairs import is_chosen_of_two

    row = {
        "row": number,
        **{key: example[key] for key in ("digest", "id", "timestamp", "metadata", "prompt", "prompt_characters")},
        "reference": None if is_chosen_of_two(example) else example["reference"],
        "messages": example["messages"],
        "prompt_tokens": example["prompt_tokens"],
        "prompt_language": example["language"],
        "response": None,
        "context": answer.get("context") if answer else None,
        "retrieved": (retrieved := answer.get("retrieved") if answer else None),
        "retrieval_relevance": retrieval_relevance(retrieved),
    }
    if answer:
        known = answer.get("finish_reason") or ("stop" if answer["finished"] else "length")  # of before that was kept
        row |= {"response": answer["answer"], "finish_reason": known}
    return row


def _score(rows: list[dict[str, Any]], scorers: Any) -> None:
    """Add the scores of answered rows, made as those of an interval are."""
    if not rows:
        return
    columns = scorers.score(
        [row["prompt"] for row in rows],
        [row["response"] for row in rows],
        [row["context"] for row in rows],
        [row["reference"] for row in rows],
        [row["finish_reason"] for row in rows],
        [row["metadata"] for row in rows],
        [row["messages"] for row in rows],
    )
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
