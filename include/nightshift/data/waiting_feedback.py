"""Feedback that waits for its interaction: joined to one that arrived later, or given up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from nightshift.data.examples import QUARANTINE, QUARANTINE_SCHEMA, ROWS_AT_ONCE, RowWriter
from nightshift.data.feedback import FEEDBACK, FEEDBACK_SCHEMA, FOUND_TABLE, SAID_SCHEMA, WAITING, join
from nightshift.data.quarantine import RAW_CHARACTERS, Reason
from nightshift.data.similarity import connect


def join_waiting(
    before: Mapping[str, Path], interactions: Iterable[tuple[str, Path]], work: Path, target: Path, given_up: str = ""
) -> tuple[int, int]:
    """Write the files of a `feedback` partition anew, with what waited in it joined to interactions that came since.

    :param before: local copies of the partition's files, by their names.
    :param interactions: as those of :func:`gather`, but only those that nothing of this was looked for in.
    :param given_up: why nobody waits any longer for what is still not found, which is quarantined; "": it waits.
    :return: how many rows are joined now, and how many wait or were given up.
    """
    own = ", ".join(f'w."{name}"' for name in SAID_SCHEMA.names)
    with connect(work) as database:
        # Of a review neither is known: the answers that it may be about were there when it was read.
        database.execute(
            "CREATE TABLE pending AS SELECT file_row_number AS number, if(id IS NULL, 'digest', 'id') AS \"column\", "
            "coalesce(id, digest) AS key FROM read_parquet(?, file_row_number = true) "
            "WHERE id IS NOT NULL OR messages IS NOT NULL",
            [str(before[WAITING])],
        )
        database.execute(FOUND_TABLE)
        join(database, interactions)
        rows = database.cursor().sql(
            f"SELECT {own}, coalesce(f.digest, w.digest) AS digest, f.night, f.row, f.model, f.model_digest "  # noqa: S608
            "FROM read_parquet($1, file_row_number = true) w LEFT JOIN found f ON f.number = w.file_row_number "
            "ORDER BY w.file_row_number",
            params=[str(before[WAITING])],
        )
        with (
            RowWriter(target / FEEDBACK, FEEDBACK_SCHEMA) as joined,
            RowWriter(target / WAITING, FEEDBACK_SCHEMA) as waiting,
            RowWriter(target / QUARANTINE, QUARANTINE_SCHEMA) as quarantine,
        ):
            for writer, name in ((joined, FEEDBACK), (quarantine, QUARANTINE)):
                for batch in pq.ParquetFile(before[name]).iter_batches(ROWS_AT_ONCE):
                    writer.write(batch.to_pylist())
            already, left = joined.rows, 0
            for batch in rows.to_arrow_reader(ROWS_AT_ONCE):
                some = batch.to_pylist(maps_as_pydicts="strict")
                joined.write([row for row in some if row["night"]])
                still = [row for row in some if not row["night"]]
                left += len(still)
                if given_up:
                    quarantine.write([_given_up(row, given_up) for row in still])
                else:
                    waiting.write(still)
            return joined.rows - already, left


# How the text of :func:`_given_up` begins: it may be cut, so it is not always JSON.
ABOUT = re.compile(r'\{(?:"id": ("(?:[^"\\]|\\.)*"))?(?:, )?(?:"digest": "([0-9a-f]*)")?')


def about(raw: str) -> tuple[str | None, str | None]:
    """Return the id and the digest of what a row was about that was given up, by its text in the quarantine; None: not known."""
    found = ABOUT.match(raw)
    return (found[1] and json.loads(found[1]), found[2]) if found else (None, None)


def _given_up(row: dict[str, Any], detail: str) -> dict[str, Any]:
    said = {name: row[name] for name in ("id", "digest", "up", "rating", "answer", "rejected") if row[name] is not None}
    raw = json.dumps(said, ensure_ascii=False)[:RAW_CHARACTERS]
    about = {"reason": Reason.NO_INTERACTION.value, "detail": detail, "raw": raw}
    return {**{name: row[name] for name in ("source", "source_row", "subject")}, **about}
