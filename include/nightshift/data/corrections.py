"""Corrections, preferred and judged answers of a `feedback` partition as examples, each on the side of its question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.data.examples import EXAMPLE_SCHEMA, ROWS_AT_ONCE, RowWriter, digest_of_messages, example_batches
from nightshift.data.feedback import WORSE_HALF
from nightshift.data.normalise import Conversation
from nightshift.data.quarantine import Quarantined, Reason
from nightshift.data.similarity import connect
from nightshift.data.staging import Staged, Staging

# Names in an example's metadata: what it was (`correction`, `pair`, or a judged answer: `desirable`, `undesirable`), which
# interaction it is about ("<interval>/<row>"), the version that had answered, and the keyed hash of who judged.
KIND, ABOUT, MODEL, JUDGED_BY = "feedback:kind", "feedback:interaction", "feedback:model", "feedback:subject"
CORRECTION, DESIRABLE, UNDESIRABLE = "correction", "desirable", "undesirable"
VERSION = 3  # raised when the same feedback would become other examples
ASKED_SCHEMA = pa.schema(
    [EXAMPLE_SCHEMA.field(name) for name in ("digest", "messages", "tools", "subject", "split_group", "metadata")]
)
ANSWER_SCHEMA = pa.schema([pa.field("file_row_number", pa.int64()), pa.field("response", pa.string())])
# Answers that came to their end. An erasure gives interactions other numbers than feedback and samples have: of several with one
# prompt and model the nearest counts.
FIND_ANSWERS = """
    SELECT number, response, prompt_language FROM (
        SELECT DISTINCT ON (number) f.file_row_number AS number, i.response, i.prompt_language, i.finish_reason
        FROM read_parquet(?, file_row_number = true) f JOIN read_parquet(?) i USING (digest, model_digest)
        WHERE f.night = ? ORDER BY number, abs(i.row - f.row), i.row
    ) WHERE response != '' AND coalesce(finish_reason, 'stop') = 'stop'
"""
# A correction that repeats the answer is learned as such; a rating in the middle says nothing; a correction alone says that the
# answer was bad. Of the same answer to the same prompt what most say counts.
JUDGE = f"""
    CREATE TABLE said AS
    SELECT *, (good::INT - 0.5) * sum(good::INT - 0.5) OVER (PARTITION BY digest, response) > 0 AS agreed FROM (
        SELECT f.*, s.response, CASE
            WHEN f.rejected IS NULL AND trim(f.answer) = trim(s.response) THEN NULL
            WHEN f.up IS NOT NULL THEN f.up WHEN f.rating != {WORSE_HALF} THEN f.rating > {WORSE_HALF}
            WHEN f.answer IS NOT NULL AND f.rejected IS NULL THEN false END AS good
        FROM read_parquet(?, file_row_number = true) f LEFT JOIN read_parquet(?) s USING (file_row_number))
"""  # noqa: S608
LEARNED = "answer IS NOT NULL OR (response IS NOT NULL AND agreed)"


def staged_corrections(  # noqa: PLR0917
    feedback: Path,
    traffic: Iterable[Path],
    answered: Iterable[tuple[str, Path]],
    staging: Staging,
    work: Path,
    left_out: dict[str, int],
) -> Iterator[tuple[str, Staged]]:
    """Yield what people said the answer should have been, and the answers that they judged, in order.

    Each has the `source` and `source_row` of its feedback. A judged answer is the `response` of its row, which has no `answer`.

    All but the responses was cleaned and redacted before. What was asked is the row's own prompt, else that of its interaction;
    who asked it and the split group, which bind a row to a side, and its metadata are the interaction's.

    :param feedback: a local `feedback.parquet`.
    :param traffic: local files of the traffic of the intervals that the feedback is about; read until all of it is found.
    :param answered: keys of these intervals with local files of their interactions; none: no judged answers are made.
    :param left_out: gets how many judgements are left out: `without_answer` (not found, empty or cut off), and `contradicted`
        (at least as many people say the opposite).
    """
    answers, asked = work / "answers.parquet", work / "asked.parquet"
    with connect(work) as database:
        with RowWriter(answers, ANSWER_SCHEMA) as writer:
            for interval, file in answered:
                found = database.sql(FIND_ANSWERS, params=[str(feedback), str(file), interval])
                for batch in found.to_arrow_reader(ROWS_AT_ONCE):
                    numbers, *texts = (column.to_pylist() for column in batch.columns)
                    redacted = zip(numbers, staging.redacted_answers(*texts), strict=True)
                    writer.write([dict(zip(ANSWER_SCHEMA.names, row, strict=True)) for row in redacted])
        database.execute(JUDGE, [str(feedback), str(answers)])
        ((left_out["without_answer"], left_out["contradicted"]),) = database.execute(
            "SELECT count(good) FILTER (response IS NULL), count(*) FILTER (response IS NOT NULL AND NOT agreed) FROM said"
        ).fetchall()
        digests = database.execute(f"SELECT DISTINCT digest FROM said WHERE {LEARNED}").fetchall()  # noqa: S608
        _find_asked({digest for (digest,) in digests}, traffic, asked)
        rows = database.sql(
            "SELECT s.*, a.messages AS asked, a.tools, a.subject AS asker, a.split_group, a.metadata AS asked_with "  # noqa: S608
            f"FROM said s LEFT JOIN read_parquet($1) a USING (digest) WHERE {LEARNED} ORDER BY s.file_row_number",
            params=[str(asked)],
        )
        for batch in rows.to_arrow_reader(ROWS_AT_ONCE):
            for source, of_source in groupby(batch.to_pylist(maps_as_pydicts="strict"), itemgetter("source")):
                yield source, _staged(list(of_source), source, staging)


def _find_asked(lacking: set[str], traffic: Iterable[Path], target: Path) -> None:
    """Write what was asked, once for each digest (`ASKED_SCHEMA`)."""
    with RowWriter(target, ASKED_SCHEMA) as writer:
        for file in traffic if lacking else ():
            wanted = pa.array(sorted(lacking), pa.string())
            for rows in example_batches(file, ASKED_SCHEMA.names):
                found = {
                    row["digest"]: row for row in rows.filter(pc.is_in(rows["digest"], value_set=wanted)).to_pylist()
                }
                writer.write([row for digest, row in found.items() if digest in lacking])
                lacking -= found.keys()
            if not lacking:
                return


def _staged(rows: list[dict[str, Any]], source: str, staging: Staging) -> Staged:
    known = [row for row in rows if row["messages"] or row["asked"]]
    gone = [
        Quarantined(row["source_row"], Reason.BAD_FEEDBACK, "the traffic that held what was asked is gone", "")
        for row in rows
        if not (row["messages"] or row["asked"])
    ]
    made = [(example, row["source_row"]) for row in known for example in _examples(row)]
    table = staging.table([example for example, _ in made], [number for _, number in made], source)
    return Staged(table, [staging.set_aside(row, source) for row in gone])


def _examples(row: dict[str, Any]) -> Iterator[Conversation]:
    """What should have been answered, where the row says it, and what was, where it says whether that was good."""
    if row["answer"] is not None:
        messages = [*_turns(row["messages"] or row["asked"]), {"role": "assistant", "content": row["answer"]}]
        rejected = row["rejected"] and _said(row["rejected"])
        digest = digest_of_messages(messages, row["tools"], rejected)
        kind = "pair" if rejected else CORRECTION
        yield _example(row, kind, digest, messages, answer=row["answer"], rejected=rejected)
    if row["response"] is not None and row["agreed"]:
        kind, asked = DESIRABLE if row["good"] else UNDESIRABLE, _turns(row["asked"] or row["messages"])
        # Told apart from the same answer that is learned as an example, but not from the same one judged otherwise.
        digest = digest_of_messages([*asked, {"role": "judged", "content": row["response"]}], row["tools"])
        yield _example(row, kind, digest, asked, response=row["response"])


def _example(  # noqa: PLR0917
    row: dict[str, Any],
    kind: str,
    digest: str,
    messages: list[dict[str, str]],
    answer: str | None = None,
    rejected: dict[str, str] | None = None,
    response: str | None = None,
) -> Conversation:
    about = {KIND: kind, ABOUT: f"{row['night']}/{row['row']}", MODEL: row["model"]}
    return Conversation(
        digest=digest,
        messages=messages,
        tools=row["tools"],
        prompt=next(message["content"] for message in reversed(messages) if message["role"] == "user"),
        answer=answer,
        rejected=rejected,
        id=None,  # several people may correct one answer
        subject=row["asker"],
        split_group=row["split_group"],
        timestamp=row["timestamp"],
        response=response,
        context=None,
        metadata={
            **(row["asked_with"] or {}),
            **row["metadata"],
            **about,
            **({JUDGED_BY: row["subject"]} if row["subject"] else {}),
        },
        pii={},
        late=False,
    )


def _turns(messages: list[dict[str, str | None]]) -> list[dict[str, str]]:
    """What stands in front of the answer."""
    return list(map(_said, messages[:-1] if messages[-1]["role"] == "assistant" else messages))


def _said(message: dict[str, str | None]) -> dict[str, str]:
    """A message without the fields that it does not have, as rows are staged."""
    return {name: text for name, text in message.items() if text is not None}
