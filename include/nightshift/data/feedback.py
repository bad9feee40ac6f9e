"""The `feedback` partition: people's feedback of an interval, joined to the interactions that it is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.data.examples import MESSAGE, QUARANTINE, QUARANTINE_SCHEMA, ROWS_AT_ONCE, RowWriter, digest_of_messages
from nightshift.data.normalise import value_of
from nightshift.data.pieces import Piece
from nightshift.data.quarantine import Quarantined, RawRows, Reason, Row, Unusable
from nightshift.data.similarity import connect
from nightshift.data.sources import RawFile
from nightshift.data.staging import Staging
from nightshift.errors import JobError
from nightshift.settings.feedback import CHOSEN_BY, RANDOM, REVIEW, REVIEWED, FeedbackColumns, FeedbackSource
from nightshift.settings.intake import Columns
from nightshift.storage.manifest import digest_of

FEEDBACK, WAITING = "feedback.parquet", "waiting.parquet"
THUMBS = {
    **dict.fromkeys(("up", "true", "1", "1.0", "+1", "👍"), "1"),
    **dict.fromkeys(("down", "false", "-1", "-1.0", "👎"), "-1"),
}
WORSE_HALF = 0.5  # a rating below it is a bad one
# Names under which a row is staged with its judgement and, where it has no prompt of its own, with a text in place of it.
PROMPT, THUMB, RATING = "feedback:prompt", "feedback:thumb", "feedback:rating"

SAID_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),  # as that of an example
        pa.field("source_row", pa.int64(), nullable=False),
        pa.field("id", pa.string()),  # of the interaction, as in its partition; null: found by the prompt
        pa.field("subject", pa.string()),  # keyed hash of who judged; null: unknown
        pa.field("timestamp", pa.timestamp("us", tz="UTC")),  # of the judgement
        pa.field("metadata", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("messages", pa.list_(MESSAGE)),  # in front of the answer; null: the source has no prompt
        pa.field("up", pa.bool_()),  # thumb; null: none
        pa.field("rating", pa.float32()),  # 0 (worst) to 1; null: none
        pa.field("answer", pa.string()),  # what it should have been, or the chosen of two; null: unknown
        pa.field("rejected", MESSAGE),  # the answer that `answer` was preferred to; null: none
    ]
)
# Of the newest interaction with the id or the prompt. In waiting.parquet only the digest may be known, that of the prompt.
JOINED_SCHEMA = pa.schema(
    [
        pa.field("digest", pa.string()),
        pa.field("night", pa.string()),  # key of its interval
        pa.field("row", pa.int64()),
        pa.field("model", pa.string()),
        pa.field("model_digest", pa.string()),
    ]
)
FEEDBACK_SCHEMA = pa.schema([*SAID_SCHEMA, *JOINED_SCHEMA])
# The interactions that people were shown on the review page, by their keys in the sample.
REVIEWED_SCHEMA = pa.schema([pa.field("key", pa.string()), *JOINED_SCHEMA])
STAGED_SCHEMA = pa.schema(
    [
        *SAID_SCHEMA,
        pa.field("number", pa.int64()),
        pa.field("column", pa.string()),  # of the interactions, that tells which one it is
        pa.field("key", pa.string()),  # its value there
        pa.field("said", pa.string()),  # equal for rows that say the same; of what nobody can tell apart, the number
    ]
)

FOUND_TABLE = (
    "CREATE TABLE found (number BIGINT, digest VARCHAR, night VARCHAR, row BIGINT, model VARCHAR, model_digest VARCHAR)"
)

# A correction alone says that the answer was bad. Sums of numbers depend on their order in the last digits. What was chosen for
# review because it seemed bad says nothing about the interval.
SAID_OF_MODELS = f"""
    WITH said AS (
        SELECT model_digest, rating, CASE WHEN up IS NOT NULL THEN NOT up WHEN rating IS NOT NULL
            THEN rating < {WORSE_HALF} WHEN rejected IS NULL THEN true END AS bad
        FROM read_parquet(?) WHERE coalesce(metadata['{CHOSEN_BY}'], '{RANDOM}') = '{RANDOM}'
    )
    SELECT model_digest, count(bad), count_if(bad), count(rating), round(coalesce(sum(rating), 0), 6),
        round(coalesce(sum(rating * rating), 0), 6) FROM said GROUP BY model_digest ORDER BY model_digest
"""  # noqa: S608


@dataclass
class Gathered:
    """What became of the rows: each is joined to an interaction, waits for one, or was a duplicate, quarantined or erased."""

    rows_in: int = 0
    joined: int = 0
    waiting: int = 0
    duplicates: int = 0
    erased: int = 0
    late: int = 0  # judgements from before the interval began, whatever became of them
    models: dict[str, dict[str, float]] = field(default_factory=dict)  # what was said of each, by its digest
    intervals: Counter[str] = field(default_factory=Counter)  # joined rows, by the interval of their interactions
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def counts(self) -> dict[str, int]:
        """The counts of the manifest; `erased` only where it is not zero.

        :raises JobError: they do not add up.
        """
        parts = {"joined": self.joined, "waiting": self.waiting, "duplicates": self.duplicates}
        parts |= {"quarantined": self.reasons.total(), **({"erased": self.erased} if self.erased else {})}
        if sum(parts.values()) != self.rows_in:
            raise JobError(f"{self.rows_in} rows came in, but {parts} went out; nothing is published")
        return {"rows_in": self.rows_in, **parts}


def gather(  # noqa: PLR0917
    files: Iterable[tuple[FeedbackSource, RawFile]],
    staging: Staging,
    interactions: Iterable[tuple[str, Path]],
    work: Path,
    target: Path,
    reviewed: Path | None = None,
) -> Gathered:
    """Write `feedback.parquet`, `waiting.parquet` and `quarantine.parquet` to the folder `target`.

    :param interactions: keys of intervals with local files of their interactions, the newest first; read as long as a row waits.
    :param reviewed: a local file of `REVIEWED_SCHEMA`, where reviews are among the files.
    :raises BadInput: a file as a whole cannot be used.
    :raises BadEnvironment: a file cannot be read.
    """
    gathered, staged = Gathered(), work / "said.parquet"
    with RowWriter(staged, STAGED_SCHEMA) as writer, RowWriter(target / QUARANTINE, QUARANTINE_SCHEMA) as quarantine:
        for source, file in files:
            for piece in file.pieces():
                usable, aside = _staged(source, file, piece, staging, gathered, writer.rows)
                writer.write(usable)
                quarantine.write(aside)
    with connect(work) as database:
        database.execute(
            'CREATE TABLE pending AS SELECT min(number) AS number, any_value("column") AS "column", any_value(key) AS key '
            "FROM read_parquet(?) GROUP BY said",
            [str(staged)],
        )
        database.execute(FOUND_TABLE)
        kept = _count(database, "pending")
        if reviewed:
            database.execute(
                "INSERT INTO found SELECT p.number, r.digest, r.night, r.row, r.model, r.model_digest FROM pending p "
                'JOIN read_parquet(?) r ON p.key = r.key WHERE p."column" = ?',
                [str(reviewed), REVIEW],
            )
        join(database, interactions)
        _write(database, staged, target)
        gathered.duplicates = writer.rows - kept
        gathered.joined = _count(database, "found")
        gathered.waiting = kept - gathered.joined
    gathered.models, gathered.intervals = said_in(target / FEEDBACK, work)
    return gathered


def said_in(feedback: Path, work: Path) -> tuple[dict[str, dict[str, float]], Counter[str]]:
    """Return what is said in a `feedback.parquet` of each model, by its digest, and of how many rows of each interval."""
    names = ("judged", "bad", "rated", "rating_sum", "rating_squares")
    with connect(work) as database:
        said = database.execute(SAID_OF_MODELS, [str(feedback)]).fetchall()
        intervals = database.execute(
            "SELECT night, count(*) FROM read_parquet(?) GROUP BY night", [str(feedback)]
        ).fetchall()
    return {model: dict(zip(names, numbers, strict=True)) for model, *numbers in said}, Counter(dict(intervals))


def _staged(  # noqa: PLR0917
    source: FeedbackSource, file: RawFile, piece: Piece, staging: Staging, gathered: Gathered, number: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The usable rows of a piece (`STAGED_SCHEMA`), numbered on from `number`, and those set aside."""
    columns = source.columns
    part = staging.stage(_Judged(piece, columns), source.name, file.name, _staged_by(columns))
    aside = part.aside
    usable: list[dict[str, Any]] = []
    for row in part.rows.to_pylist(maps_as_pydicts="strict"):
        try:
            usable.append(_said(row, source, number + len(usable)))
        except Unusable as problem:
            # What it says is no secret of a pattern, but it may be a name: the source's line has it.
            unusable = Quarantined(row["source_row"], problem.reason, problem.detail, "")
            aside.append(staging.set_aside(unusable, file.name, row["subject"]))
    gathered.rows_in += len(usable) + len(aside) + part.erased
    gathered.erased += part.erased
    gathered.late += part.late
    gathered.reasons.update(row["reason"] for row in aside)
    return usable, aside


@dataclass(frozen=True)
class _Judged:
    """A piece whose thumbs are numbers, which no search for names takes for any, and whose rows all have a prompt.

    Names are searched for in the language of the prompt: without one, in that of the answer.
    """

    piece: Piece
    columns: FeedbackColumns

    def __len__(self) -> int:
        return len(self.piece)

    def rows(self) -> RawRows:
        for row in self.piece.rows():
            if isinstance(row, Quarantined):
                yield row
                continue
            thumb, rating, answer = (
                value_of(row, name) for name in (self.columns.thumb, self.columns.rating, self.columns.answer)
            )
            more = {THUMB: THUMBS.get(str(thumb).strip().lower(), thumb), RATING: rating}
            if self.columns.prompt is None:
                is_message = isinstance(answer, dict) and isinstance(answer.get("content"), str)
                text = answer["content"] if is_message else answer
                asked = text if isinstance(text, str) and text.strip() else "-"
                more[PROMPT] = {"role": "user", "content": asked} if is_message else asked
            yield Row(row.number, row.values | more)


def _staged_by(columns: FeedbackColumns) -> Columns:
    own = columns.model_dump(include=Columns.model_fields.keys() - {"prompt", "metadata"})
    return Columns(prompt=columns.prompt or PROMPT, metadata=[*columns.metadata, THUMB, RATING], **own)


def _said(row: dict[str, Any], source: FeedbackSource, number: int) -> dict[str, Any]:
    metadata = row["metadata"]
    thumb, rating = metadata.pop(THUMB), metadata.pop(RATING)
    if thumb not in {"", "1", "-1"}:
        raise Unusable(Reason.BAD_FEEDBACK, f"{thumb[:60]!r} is neither up nor down")
    said: dict[str, Any] = {
        **{name: row[name] for name in ("source", "source_row", "id", "subject", "timestamp", "answer", "rejected")},
        "metadata": metadata,
        "messages": None,
        "up": thumb == "1" if thumb else None,
        "rating": _rating(rating, source.scale) if rating else None,
    }
    if said["up"] is None and said["rating"] is None and said["answer"] is None:
        raise Unusable(Reason.BAD_FEEDBACK, "neither a thumb nor a rating nor an answer")
    column, key = "id", row["id"]
    if source.name == REVIEW:
        column, said["id"] = REVIEW, None
    if source.columns.prompt:
        messages = row["messages"]
        said["messages"] = messages[:-1] if messages[-1]["role"] == "assistant" else messages
        if key is None:
            column, key = "digest", digest_of_messages(said["messages"])
    if key is None:
        raise Unusable(Reason.BAD_FEEDBACK, f"no value in {source.columns.id!r}, so its interaction is unknown")
    told_apart = row["id"] or row["subject"] or row["timestamp"]
    judgement = [said[name] for name in ("subject", "timestamp", "up", "rating", "answer", "rejected")]
    same = digest_of([column, key, *judgement]) if told_apart else str(number)
    return {**said, "number": number, "column": column, "key": key, "said": same}


def _rating(text: str, scale: tuple[float, float]) -> float:
    worst, best = scale
    try:
        share = (float(text) - worst) / (best - worst)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise Unusable(Reason.BAD_FEEDBACK, f"{text[:60]!r} is no rating from {worst:g} to {best:g}")
    return share


def _count(database: duckdb.DuckDBPyConnection, table: str) -> int:
    ((count,),) = database.execute(f"SELECT count(*) FROM {table}").fetchall()  # noqa: S608
    return int(count)


def join(database: duckdb.DuckDBPyConnection, interactions: Iterable[tuple[str, Path]]) -> None:
    """Fill `found`: of several interactions with one key, the last one of the newest interval."""
    waiting = _count(database, "pending")
    for interval, file in interactions if _count(database, "found") < waiting else ():
        for column in ("id", "digest"):
            database.execute(
                f"INSERT INTO found SELECT p.number, arg_max(i.digest, i.row), ?, max(i.row), arg_max(i.model, i.row), "  # noqa: S608
                f"arg_max(i.model_digest, i.row) FROM pending p JOIN read_parquet(?) i ON p.key = i.{column} "
                f"WHERE p.\"column\" = '{column}' AND p.number NOT IN (SELECT number FROM found) GROUP BY p.number",
                [interval, str(file)],
            )
        if _count(database, "found") == waiting:
            return


def _write(database: duckdb.DuckDBPyConnection, staged: Path, target: Path) -> None:
    """Write the rows that are no duplicates, in the order in which they came."""
    own = ", ".join(f's."{name}"' for name in SAID_SCHEMA.names)
    found = database.cursor().sql(
        f"SELECT {own}, coalesce(f.digest, CASE s.\"column\" WHEN 'digest' THEN s.key "  # noqa: S608
        f"WHEN '{REVIEW}' THEN s.metadata['{REVIEWED}'] END) AS digest, f.night, f.row, f.model, "
        "f.model_digest FROM read_parquet($1) s JOIN pending USING (number) LEFT JOIN found f USING (number) ORDER BY number",
        params=[str(staged)],
    )
    with (
        pq.ParquetWriter(target / FEEDBACK, FEEDBACK_SCHEMA, compression="zstd") as joined,
        pq.ParquetWriter(target / WAITING, FEEDBACK_SCHEMA, compression="zstd") as waiting,
    ):
        for batch in found.to_arrow_reader(ROWS_AT_ONCE):
            rows = pa.Table.from_batches([batch]).cast(FEEDBACK_SCHEMA)
            is_joined = pc.is_valid(rows["night"])
            for writer, chosen in ((joined, is_joined), (waiting, pc.invert(is_joined))):
                if (part := rows.filter(chosen)).num_rows:
                    writer.write_table(part)
