"""What tells the rows that are to be erased."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.data.corrections import JUDGED_BY


@dataclass(frozen=True)
class Wanted:
    """What tells the rows that are to be erased: one of subject, id and digest, as examples have it.

    :param typed: the subject or id as it was typed, which the text of a quarantined row may hold.
    """

    subject: str | None = None
    id: str | None = None
    digest: str | None = None
    typed: str | None = None

    @property
    def column(self) -> str:
        """The only column of examples that is looked through."""
        return "subject" if self.subject else "id" if self.id else "digest"

    def rows(self, batch: pa.RecordBatch) -> pa.Array:
        """Which rows of a batch are to be erased; none where it lacks the column."""
        if self.column not in batch.schema.names:
            return pa.array(np.zeros(batch.num_rows, dtype=bool))
        return pc.fill_null(pc.equal(batch[self.column], getattr(self, self.column)), False)

    def corrections(self, batch: pa.RecordBatch, judged: Set[tuple[str, int]]) -> pa.Array:
        """The same of corrections: rows that the user asked for or judged, and those of some sources and numbers."""
        by = pc.equal(pc.map_lookup(batch["metadata"], JUDGED_BY, "first"), self.subject or "")
        places = zip(batch["source"].to_pylist(), batch["source_row"].to_pylist(), strict=True)
        goes = pa.array([place in judged for place in places], pa.bool_())
        return pc.or_(pc.or_(goes, self.rows(batch)), pc.fill_null(by, False))

    def quarantined(self, batch: pa.RecordBatch) -> pa.Array:
        """The same of quarantined rows, whose texts are looked through, too: those of feedback have id and digest in them."""
        hits = self.rows(batch)
        for text in {self.typed, self.id, self.digest} - {None, ""}:
            pattern = rf"(^|[^\pL\pN]){re.escape(str(text))}([^\pL\pN]|$)"
            for name in ("detail", "raw"):
                hits = pc.or_(hits, pc.match_substring_regex(batch[name], pattern))
        return hits


def plain(content: bytes) -> str:
    """Return text whose escapes of JSON are resolved, as far as they are of letters and white space."""
    text = content.decode("utf-8", "replace")
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda escape: chr(int(escape[1], 16)), text)
    return re.sub(r"\\[bfnrt]", " ", text)


def letters(text: str) -> str:
    """Return the letters and digits of a text alone, as texts are compared."""
    return re.sub(r"[\W_]+", "", text.casefold())
