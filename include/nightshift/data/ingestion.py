"""From raw files to the files of an examples or traffic partition, in two passes over data on disk.

The first pass cleans each row and stages it; then duplicates and sides are decided over all of them; the second pass
copies what is kept. Memory holds one batch at a time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.data.dedup import DUPLICATE, DUPLICATE_ID, KEPT, NEAR_DUPLICATE, decide_fates, decide_traffic_fates
from nightshift.data.examples import (
    EXAMPLE_SCHEMA,
    EXAMPLES,
    QUARANTINE,
    QUARANTINE_SCHEMA,
    RowWriter,
)
from nightshift.data.file_kinds import seems
from nightshift.data.measures import TextMeasures
from nightshift.data.names import NameFinder
from nightshift.data.normalise import Conversation, conversation
from nightshift.data.pii import redact
from nightshift.data.quarantine import Quarantined, Reason, Unusable, beginning, presentable, without
from nightshift.data.questions import Questions
from nightshift.data.records import text_of
from nightshift.data.sides import Codes, Decided
from nightshift.data.similarity import connect, question_of
from nightshift.data.sources import RawFile
from nightshift.data.split_map import BETWEEN, NAMES, SplitMap
from nightshift.errors import JobError
from nightshift.settings.application import Interval
from nightshift.settings.intake import Ingest

Part = Literal["examples", "traffic"]

BATCH_ROWS = 5_000
BATCH_CHARACTERS = 2_000_000
STAGED_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64()),  # over all files, from 0
        pa.field("source_name", pa.string()),
        *(EXAMPLE_SCHEMA.field(name) for name in EXAMPLE_SCHEMA.names if name not in {"group", "split"}),
    ]
)


@dataclass
class Ingested:
    """What happened to the rows: each that came in was kept, a duplicate, a near-duplicate or quarantined."""

    rows_in: int = 0
    kept: int = 0
    duplicates: int = 0
    near_duplicates: int = 0
    late: int = 0  # rows written before the interval began, whatever became of them
    reasons: Counter[str] = field(default_factory=Counter)
    pii: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    unusable: list[str] = field(default_factory=list)  # a sentence about each file of which no row could be used
    between_sides: int = 0  # kept, but neither trained on nor judged by: they belong to two sides
    largest_group: int = (
        0  # rows that resemble each other, or are of one subject or split group, and so are on one side
    )

    @property
    def quarantined(self) -> int:
        """Rows in quarantine, over all reasons."""
        return self.reasons.total()

    @property
    def counts(self) -> dict[str, int]:
        """The five counts of the manifest.

        :raises JobError: they do not add up.
        """
        parts = {
            "kept": self.kept,
            "duplicates": self.duplicates,
            "near_duplicates": self.near_duplicates,
            "quarantined": self.quarantined,
        }
        if sum(parts.values()) != self.rows_in:
            raise JobError(f"{self.rows_in} rows came in, but {parts} went out; nothing is published")
        return {"rows_in": self.rows_in, **parts}


class Ingestion:
    """One run over the files of an interval; `work` is a folder for what is needed in between.

    :param part: `examples` leaves out equal and nearly equal rows and splits the others; `traffic` keeps them all, since
        what users ask repeats itself, and has one split.
    :param id_key: with which subjects, and ids that hold personal data, are hashed.
    :param split_map: of the application; without one, the sides are those of a first interval.
    :param made_by: digest of the inputs, by which the same ingest finds what it decided before.
    """

    def __init__(
        self,
        ingest: Ingest,
        interval: Interval,
        measures: TextMeasures,
        work: Path,
        part: Part = "examples",
        *,
        id_key: bytes = b"",
        split_map: SplitMap | None = None,
        made_by: str = "",
    ) -> None:
        self.ingested = Ingested()
        self._ingest = ingest
        self._interval = interval
        self._measures = measures
        self._names = NameFinder(ingest.names) if ingest.names else None
        self._staged_file = work / "staged.parquet"
        self._work = work
        self._batch: list[tuple[RawFile, int, Conversation]] = []
        self._batch_characters = 0
        self._rows = 0
        self._id_key = id_key
        self._questions = Questions(work / "questions.parquet", ingest.splits) if part == "examples" else None
        self._split_map = split_map or SplitMap(work.as_uri(), "alone")
        self._made_by = made_by
        self._staged = pq.ParquetWriter(self._staged_file, STAGED_SCHEMA, compression="lz4")

    def run(self, files: Iterable[RawFile], target: Path, report: Callable[[int], None]) -> Ingested:
        """Write `examples.parquet` and `quarantine.parquet` to the folder `target`; say how many rows were read.

        :raises BadInput: a file as a whole cannot be used.
        :raises BadEnvironment: a file cannot be read.
        """
        with RowWriter(target / QUARANTINE, QUARANTINE_SCHEMA) as quarantine:
            for file in files:
                before, reasons = self._rows + len(self._batch), self.ingested.reasons.copy()
                for row in file.read():
                    self.ingested.rows_in += 1
                    if self.ingested.rows_in % 1_000 == 0:
                        report(self.ingested.rows_in)
                    if isinstance(row, Quarantined):
                        self._set_aside(quarantine, file.name, self._unread(row))
                        continue
                    try:
                        usable = conversation(row, file.source.columns, self._ingest, self._interval, self._id_key)
                    except Unusable as problem:
                        shown = without(row.values, file.source.columns.subject)
                        raw = json.dumps(shown, ensure_ascii=False, default=text_of)
                        aside = Quarantined(row.number, problem.reason, problem.detail, beginning(raw))
                        self._set_aside(quarantine, file.name, self._unread(aside))
                    else:
                        self._stage(file, row.number, usable)
                if self._rows + len(self._batch) == before and self.ingested.reasons != reasons:
                    self.ingested.unusable.append(_unusable(file, self.ingested.reasons - reasons))
            self._flush()
            self._staged.close()
            decided = None
            with connect(self._work) as database:
                if self._questions and self._rows:
                    fates = decide_fates(self._staged_file, database)
                    self._questions.close()
                    decided = self._questions.settle(
                        self._split_map, [self._made_by], fates, self._ingest.near_duplicates, work=self._work,
                        database=database, interval=self._interval,
                    )  # fmt: skip
                    self.ingested.largest_group = decided.largest_group
                else:
                    fates = decide_traffic_fates(self._staged_file, database)
            self._copy(fates, decided, target / EXAMPLES, quarantine)
        report(self.ingested.rows_in)
        return self.ingested

    def _set_aside(self, quarantine: RowWriter, source: str, row: Quarantined) -> None:
        self.ingested.reasons[row.reason] += 1
        # Quarantine is read by people: personal data does not belong there either.
        texts = {name: presentable(getattr(row, name), self._redacted) for name in ("detail", "raw")}
        quarantine.write([{"source": source, "source_row": row.number, "reason": row.reason.value, **texts}])

    def _unread(self, row: Quarantined) -> Quarantined:
        # Which language it is in, and where its texts begin, is not known: names in it would be missed.
        return replace(row, raw="") if self._names else row

    def _redacted(self, text: str) -> str:
        return redact(text, self._ingest.redact, Counter())

    def _stage(self, file: RawFile, number: int, usable: Conversation) -> None:
        self.ingested.late += usable.late
        self._batch.append((file, number, usable))
        self._batch_characters += sum(len(message["content"]) for message in usable.messages)
        self._batch_characters += len(usable.response or "") + len(usable.context or "")
        if len(self._batch) >= BATCH_ROWS or self._batch_characters >= BATCH_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        if not self._batch:
            return
        rows = [usable for _, _, usable in self._batch]
        languages = [self._measures.language(row.prompt) for row in rows]
        if self._names:
            rows = self._names.redacted(rows, languages)
        prompt_tokens = self._measures.tokens([row.prompt for row in rows])
        answer_tokens = self._measures.tokens([row.answer or "" for row in rows])
        staged: list[dict[str, Any]] = [
            {
                "row": self._rows + position,
                "source_name": file.source.name,
                "digest": usable.digest,
                "messages": usable.messages,
                "tools": usable.tools,
                "prompt": usable.prompt,
                "answer": usable.answer,
                "rejected": usable.rejected,
                "response": usable.response,
                "context": usable.context,
                "source": file.name,
                "source_row": number,
                "id": usable.id,
                "subject": usable.subject,
                "split_group": usable.split_group,
                "timestamp": usable.timestamp,
                "metadata": list(usable.metadata.items()),
                "language": languages[position],
                "prompt_characters": len(usable.prompt),
                "prompt_tokens": prompt_tokens[position],
                "answer_tokens": answer_tokens[position],
                "pii": list(usable.pii.items()),
            }
            for position, ((file, number, _), usable) in enumerate(zip(self._batch, rows, strict=True))
        ]
        self._staged.write_table(pa.Table.from_pylist(staged, schema=STAGED_SCHEMA))
        self._rows += len(rows)
        if self._questions:
            asked = [question_of(row.messages) for row in rows]
            bonds = [(row.subject, row.split_group) for row in rows]
            self._questions.add([row.digest for row in rows], asked, [_answered(row) for row in rows], bonds)
        self._batch, self._batch_characters = [], 0

    def _copy(self, fates: Codes, decided: Decided | None, target: Path, quarantine: RowWriter) -> None:
        with (
            pq.ParquetFile(self._staged_file, pre_buffer=False) as staged,
            pq.ParquetWriter(target, EXAMPLE_SCHEMA, compression="zstd") as writer,
        ):
            for number in range(staged.num_row_groups):
                rows = staged.read_row_group(number)
                places = slice(rows["row"][0].as_py(), rows["row"][-1].as_py() + 1)
                fate = fates[places]
                self.ingested.kept += int((fate == KEPT).sum())
                self.ingested.duplicates += int((fate == DUPLICATE).sum())
                self.ingested.near_duplicates += int((fate == NEAR_DUPLICATE).sum())
                for row in rows.filter(pa.array(fate == DUPLICATE_ID)).to_pylist():
                    detail = f"an earlier row has the id {self._redacted(row['id'])[:60]!r} and says something else"
                    said = [{name: said for name, said in one.items() if said is not None} for one in row["messages"]]
                    said = said if row["response"] is None else [*said, row["response"]]
                    raw = beginning(json.dumps(said, ensure_ascii=False))
                    aside = Quarantined(row["source_row"], Reason.DUPLICATE_ID, detail, raw)
                    self._set_aside(quarantine, row["source"], aside)
                kept = rows.filter(pa.array(fate == KEPT))
                if not kept.num_rows:
                    continue
                if decided:
                    groups = [f"{group:016x}" for group in decided.groups[places][fate == KEPT].tolist()]
                    writer.write_table(self._with_splits(kept, groups, decided.sides[places][fate == KEPT].tolist()))
                else:
                    sides = [NAMES.index("traffic")] * kept.num_rows
                    writer.write_table(self._with_splits(kept, kept["digest"].to_pylist(), sides))

    def _with_splits(self, kept: pa.Table, groups: list[str], sides: list[int]) -> pa.Table:
        splits = ["traffic" if side == BETWEEN else NAMES[side] for side in sides]
        self.ingested.between_sides += sides.count(BETWEEN)
        self.ingested.splits.update(splits)
        self.ingested.languages.update(kept["language"].to_pylist())
        for items in kept["pii"].to_pylist():
            self.ingested.pii.update(dict(items))
        kept = kept.append_column("group", pa.array(groups)).append_column("split", pa.array(splits))
        return kept.select(EXAMPLE_SCHEMA.names).cast(EXAMPLE_SCHEMA)


def _unusable(file: RawFile, reasons: Counter[str]) -> str:
    kind = seems(file.path, file.source, file.format)
    rows = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(3))
    sentence = f"{file.name}: none of {reasons.total():,} rows could be used ({rows})"
    return f"{sentence}; it seems to be {kind}" if kind else sentence


def _answered(row: Conversation) -> str:
    """What near-duplicates have in common to the letter: the answers, and the system message, the tools, their calls and
    their results, behind which they were given."""
    system = "".join(message["content"] for message in row.messages if message["role"] == "system")
    # No cleaned text holds a zero byte.
    answered = f"{system}\0{row.answer or ''}" if system else row.answer or ""
    if row.tools or row.rejected or any(len(message) > 2 for message in row.messages):
        return json.dumps([answered, row.tools, row.rejected, [turn for turn in row.messages if len(turn) > 2]])
    return answered
