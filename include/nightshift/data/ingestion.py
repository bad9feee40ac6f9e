"""Makes the files of an examples or traffic partition from raw files, in two passes over data on disk.

The first pass cleans each row and stages it; then duplicates and sides are decided over all of them; the second pass
copies what is kept. Memory holds one batch at a time.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nightshift.data.dedup import DUPLICATE, DUPLICATE_ID, KEPT, NEAR_DUPLICATE, decide_fates, decide_traffic_fates
from nightshift.data.examples import EXAMPLE_SCHEMA, EXAMPLES, QUARANTINE, QUARANTINE_SCHEMA, RowWriter
from nightshift.data.file_kinds import seems
from nightshift.data.measures import TextMeasures
from nightshift.data.processors import rare_collections
from nightshift.data.quarantine import Quarantined, Reason, beginning
from nightshift.data.questions import Questions
from nightshift.data.sides import Codes, Decided
from nightshift.data.similarity import connect
from nightshift.data.sources import RawFile
from nightshift.data.split_map import BETWEEN, NAMES, SplitMap
from nightshift.data.staging import NOTHING, STAGED_SCHEMA, Part, Staged, Staging
from nightshift.data.staging_processes import StagingProcesses
from nightshift.errors import JobError
from nightshift.settings.intake import Ingest
from nightshift.settings.interval import Interval
from nightshift.storage.erasures import ErasedHashes

BATCH_ROWS = 5_000
BATCH_CHARACTERS = 2_000_000
# Of staged rows; `row` counts over all files, from 0.
KEPT_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64()),
        *(field for field in STAGED_SCHEMA if field.name in {"source_name", *EXAMPLE_SCHEMA.names}),
    ]
)


@dataclass
class Ingested:
    """What happened to the rows: each that came in was kept, a duplicate, a near-duplicate, quarantined or erased."""

    rows_in: int = 0
    kept: int = 0
    duplicates: int = 0
    near_duplicates: int = 0
    erased: int = 0  # left out, because people had them erased
    late: int = 0  # rows written before the interval began, whatever became of them
    reasons: Counter[str] = field(default_factory=Counter)
    pii: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    unusable: list[str] = field(default_factory=list)  # a sentence about each file of which no row could be used
    between_sides: int = 0  # kept, but neither trained on nor judged by: they belong to two sides
    largest_group: int = 0  # rows on one side, since they resemble each other or are of one subject or split group

    @property
    def quarantined(self) -> int:
        """Rows in quarantine, over all reasons."""
        return self.reasons.total()

    @property
    def counts(self) -> dict[str, int]:
        """The five counts of the manifest, and `erased` where it is not zero.

        :raises JobError: they do not add up.
        """
        parts = {
            "kept": self.kept,
            "duplicates": self.duplicates,
            "near_duplicates": self.near_duplicates,
            "quarantined": self.quarantined,
            **({"erased": self.erased} if self.erased else {}),
        }
        if sum(parts.values()) != self.rows_in:
            raise JobError(f"{self.rows_in} rows came in, but {parts} went out; nothing is published")
        return {"rows_in": self.rows_in, **parts}


class Ingestion:
    """One run over the files of an interval; `work` is a folder for what is needed in between.

    :param part: `examples` leaves out equal and nearly equal rows and splits the others; `traffic` keeps them all, since
        what users ask repeats itself, and has one split.
    :param id_key: with which subjects, and ids that hold personal data, are hashed.
    :param erased: what is left out.
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
        erased: ErasedHashes = NOTHING,
        split_map: SplitMap | None = None,
        made_by: str = "",
    ) -> None:
        self.ingested = Ingested()
        self._ingest, self._interval, self._work = ingest, interval, work
        self._staging = Staging(ingest, interval, measures, part, id_key, erased)
        self._staged_file = work / "staged.parquet"
        self._rows = 0
        self._questions = Questions(work / "questions.parquet", ingest.splits) if part == "examples" else None
        self._split_map = split_map or SplitMap(str(work), "alone")
        self._made_by = made_by

    def run(
        self,
        files: Sequence[RawFile],
        target: Path,
        report: Callable[[int], None],
        staged: Iterable[tuple[str, Staged]] | None = None,
    ) -> Ingested:
        """Write `examples.parquet` and `quarantine.parquet` to the folder `target`; say how many rows were read.

        :param staged: all rows, in order, each with the name of its file, where others have staged them.
        :raises BadInput: a file as a whole cannot be used.
        :raises BadEnvironment: a file cannot be read.
        """
        with rare_collections(), RowWriter(target / QUARANTINE, QUARANTINE_SCHEMA) as quarantine:
            with (
                StagingProcesses(self._staging) as processes,
                # Read again soon, and most of its texts are different.
                pq.ParquetWriter(self._staged_file, KEPT_SCHEMA, compression="lz4", use_dictionary=False) as writer,
            ):
                pieces = ((file, piece) for file in files for piece in file.pieces())
                staged = staged or ((file.name, part) for file, part in processes.stage(pieces))
                for batch in _batches(self._first_pass(files, staged, quarantine, report)):
                    self._keep(batch, writer)
            decided = None
            with connect(self._work) as database:
                decide = decide_fates if self._questions else decide_traffic_fates
                fates = decide(self._staged_file, database)
            if self._questions and self._rows:
                self._questions.close()
                decided = self._questions.settle(
                    self._split_map, [self._made_by], fates, self._ingest.near_duplicates, work=self._work,
                    interval=self._interval,
                )  # fmt: skip
                self.ingested.largest_group = decided.largest_group
            self._copy(fates, decided, target / EXAMPLES, quarantine)
        report(self.ingested.rows_in)
        return self.ingested

    def _first_pass(
        self,
        files: Sequence[RawFile],
        staged: Iterable[tuple[str, Staged]],
        quarantine: RowWriter,
        report: Callable[[int], None],
    ) -> Iterator[pa.Table]:
        usable: Counter[str] = Counter()
        reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for file, part in staged:
            self.ingested.rows_in += part.rows.num_rows + len(part.aside) + part.erased
            self.ingested.late += part.late
            self.ingested.erased += part.erased
            usable[file] += part.rows.num_rows
            reasons[file].update(row["reason"] for row in part.aside)
            self._set_aside(quarantine, part.aside)
            report(self.ingested.rows_in)
            yield part.rows
        self.ingested.unusable = [
            _unusable(file, reasons[file.name]) for file in files if reasons[file.name] and not usable[file.name]
        ]

    def _set_aside(self, quarantine: RowWriter, rows: list[dict[str, Any]]) -> None:
        self.ingested.reasons.update(row["reason"] for row in rows)
        quarantine.write(rows)

    def _keep(self, batch: pa.Table, staged: pq.ParquetWriter) -> None:
        numbers = pa.array(range(self._rows, self._rows + batch.num_rows))
        self._rows += batch.num_rows
        staged.write_table(batch.add_column(0, KEPT_SCHEMA.field("row"), numbers).select(KEPT_SCHEMA.names))
        if self._questions:
            digests, asked, answered = (batch[name].to_pylist() for name in ("digest", "question", "answered"))
            bonds = [batch[name] for name in ("subject", "split_group")]
            bound = any(each.null_count < len(each) for each in bonds)
            of_rows = zip(*(each.to_pylist() for each in bonds), strict=True) if bound else ()
            self._questions.add(digests, asked, answered, list(of_rows))

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
                    detail = (
                        f"an earlier row has the id {self._staging.redacted(row['id'])[:60]!r} and says something else"
                    )
                    said = [{name: said for name, said in one.items() if said is not None} for one in row["messages"]]
                    said = said if row["response"] is None else [*said, row["response"]]
                    raw = beginning(json.dumps(said, ensure_ascii=False))
                    aside = Quarantined(row["source_row"], Reason.DUPLICATE_ID, detail, raw)
                    self._set_aside(quarantine, [self._staging.set_aside(aside, row["source"], row["subject"])])
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
        for kind, count in chain.from_iterable(kept["pii"].to_pylist()):
            self.ingested.pii[kind] += count
        kept = kept.append_column("group", pa.array(groups)).append_column("split", pa.array(splits))
        return kept.select(EXAMPLE_SCHEMA.names).cast(EXAMPLE_SCHEMA)


def _batches(staged: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Put the usable rows of all pieces together in tables of `BATCH_ROWS`, or of fewer long ones."""
    held: list[pa.Table] = []
    rows = characters = 0
    for table in staged:
        begin, said = 0, np.cumsum(table["characters"].to_numpy())
        while begin < table.num_rows:
            before = said[begin - 1] if begin else 0
            full = int(np.searchsorted(said, before + BATCH_CHARACTERS - characters)) + 1
            end = min(begin + BATCH_ROWS - rows, full, table.num_rows)
            held.append(table.slice(begin, end - begin))
            rows, characters = rows + end - begin, characters + int(said[end - 1] - before)
            if rows == BATCH_ROWS or characters >= BATCH_CHARACTERS:
                yield pa.concat_tables(held).combine_chunks()
                held, rows, characters = [], 0, 0
            begin = end
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _unusable(file: RawFile, reasons: Counter[str]) -> str:
    kind = seems(file.path, file.source, file.format)
    rows = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(3))
    sentence = f"{file.name}: none of {reasons.total():,} rows could be used ({rows})"
    return f"{sentence}; it seems to be {kind}" if kind else sentence
