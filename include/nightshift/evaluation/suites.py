"""Suites: examples that a team wrote to evaluate every candidate on, in addition to the held-out rows of its data.

A suite may contain answers that must always be right, regression tests, or another task. Its rows are read, cleaned and redacted
like those of a source. An unusable row is an error, so that none is left out silently.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from upath import UPath

from nightshift.data.corrections import CORRECTION, KIND
from nightshift.data.examples import examples_in
from nightshift.data.measures import TextMeasures, tokenizer_file
from nightshift.data.snapshot import HELD_OUT, REGRESSION
from nightshift.data.sources import raw_files
from nightshift.data.staging import Staging
from nightshift.errors import BadInput
from nightshift.settings.application import Application
from nightshift.settings.intake import Source
from nightshift.settings.interval import Interval
from nightshift.storage.manifest import Manifest
from nightshift.storage.partition import fetch

NEEDED = ["digest", "messages", "tools", "metadata", "prompt", "answer", "language", "source_row"]
ANY_TIME = Interval(start=datetime(1970, 1, 1, tzinfo=UTC), end=datetime(9999, 1, 1, tzinfo=UTC))


def suite_examples(suite: Source, application: Application, base_model: Path, folder: Path) -> list[dict[str, Any]]:
    """Return the examples of a suite as :func:`held_out_examples` does, each once, in order of digest.

    :param base_model: a folder with its tokenizer.
    :param folder: for local copies.
    :raises BadInput: the file is missing, or a row is unusable or has no answer.
    """
    staging = Staging(application.ingest, ANY_TIME, TextMeasures(tokenizer_file(base_model)), "examples")
    found: dict[str, dict[str, Any]] = {}
    for file in raw_files(suite, ANY_TIME, folder / suite.name):
        for piece in file.pieces():
            staged = staging.stage(piece, suite.name, file.name, suite.columns)
            for row in staged.aside[:1]:
                raise _unusable(suite, file.label, row["source_row"], f"{row['reason']}: {row['detail']}")
            for row in staged.rows.select(NEEDED).to_pylist():
                if row["answer"] is None:
                    raise _unusable(suite, file.label, row["source_row"], "it has no answer")
                found[row["digest"]] = row
    return [found[digest] for digest in sorted(found)]


def corrected_examples(snapshot: UPath, manifest: Manifest, most: int, folder: Path) -> list[dict[str, Any]]:
    """Return the held-out rows with an answer that a person corrected: the first `most` in order of digest."""
    names = [file.name for file in manifest.files if file.name in {HELD_OUT, REGRESSION}]
    table = pa.concat_tables(examples_in(fetch(snapshot, manifest, name, folder), NEEDED) for name in names)
    table = table.filter(pc.equal(pc.map_lookup(table["metadata"], KIND, "first"), CORRECTION))
    return list(table.sort_by("digest").slice(0, most).to_pylist())


def _unusable(suite: Source, file: str, row: int, why: str) -> BadInput:
    return BadInput(f"suite {suite.name}: row {row} of {file} is unusable, {why}. Correct or remove the row")
