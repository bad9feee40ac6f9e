"""Corrections and preferred answers of a `feedback` partition as examples, each on the side of its question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.data.examples import EXAMPLE_SCHEMA, ROWS_AT_ONCE, RowWriter, digest_of_messages, example_batches
from nightshift.data.normalise import Conversation
from nightshift.data.quarantine import Quarantined, Reason
from nightshift.data.similarity import connect
from nightshift.data.staging import Staged, Staging

# Names in an example's metadata: what it was (`correction` or `pair`), which interaction it is about ("<interval>/<row>"), the
# version that had answered, and the keyed hash of who judged.
KIND, ABOUT, MODEL, JUDGED_BY = "feedback:kind", "feedback:interaction", "feedback:model", "feedback:subject"
CORRECTION = "correction"
VERSION = 1  # raised when the same feedback would become other examples
ASKED_SCHEMA = pa.schema(
    [EXAMPLE_SCHEMA.field(name) for name in ("digest", "messages", "tools", "subject", "split_group")]
)


def staged_corrections(
    feedback: Path, nights: Iterable[Path], staging: Staging, work: Path
) -> Iterator[tuple[str, Staged]]:
    """Yield the rows that have an answer, in order, each with the `source` and `source_row` of its feedback.

    They were cleaned and redacted before. What was asked is the row's own prompt, else that of its interaction; who asked it
    and the split group, which bind a row to a side, are the interaction's.

    :param feedback: a local `feedback.parquet`.
    :param nights: local files of the traffic of the intervals that the feedback is about; read until all of it is found.
    """
    asked = work / "asked.parquet"
    _find_asked(feedback, nights, asked)
    with connect(work) as database:
        rows = database.sql(
            "SELECT f.*, a.messages AS asked, a.tools, a.subject AS asker, a.split_group "
            "FROM read_parquet($1, file_row_number = true) f LEFT JOIN read_parquet($2) a USING (digest) "
            "WHERE f.answer IS NOT NULL ORDER BY f.file_row_number",
            params=[str(feedback), str(asked)],
        )
        for batch in rows.to_arrow_reader(ROWS_AT_ONCE):
            for source, of_source in groupby(batch.to_pylist(maps_as_pydicts="strict"), itemgetter("source")):
                yield source, _staged(list(of_source), source, staging)


def _find_asked(feedback: Path, nights: Iterable[Path], target: Path) -> None:
    """Write what was asked, once for each digest (`ASKED_SCHEMA`)."""
    answered = pq.read_table(feedback, columns=["digest"], filters=pc.field("answer").is_valid())
    lacking = set(answered["digest"].to_pylist())
    with RowWriter(target, ASKED_SCHEMA) as writer:
        for night in nights if lacking else ():
            wanted = pa.array(sorted(lacking), pa.string())
            for rows in example_batches(night, ASKED_SCHEMA.names):
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
    table = staging.table([_example(row) for row in known], [row["source_row"] for row in known], source)
    return Staged(table, [staging.set_aside(row, source) for row in gone])


def _example(row: dict[str, Any]) -> Conversation:
    asked = row["messages"] or row["asked"]
    if asked[-1]["role"] == "assistant":
        asked = asked[:-1]
    messages = [*map(_said, asked), {"role": "assistant", "content": row["answer"]}]
    rejected = row["rejected"] and _said(row["rejected"])
    about = {KIND: "pair" if rejected else CORRECTION, ABOUT: f"{row['night']}/{row['row']}", MODEL: row["model"]}
    return Conversation(
        digest=digest_of_messages(messages, row["tools"], rejected),
        messages=messages,
        tools=row["tools"],
        prompt=next(message["content"] for message in reversed(messages) if message["role"] == "user"),
        answer=row["answer"],
        rejected=rejected,
        id=None,  # several people may correct one answer
        subject=row["asker"],
        split_group=row["split_group"],
        timestamp=row["timestamp"],
        response=None,
        context=None,
        metadata={**row["metadata"], **about, **({JUDGED_BY: row["subject"]} if row["subject"] else {})},
        pii={},
        late=False,
    )


def _said(message: dict[str, str | None]) -> dict[str, str]:
    """A message without the fields that it does not have, as rows are staged."""
    return {name: text for name, text in message.items() if text is not None}
