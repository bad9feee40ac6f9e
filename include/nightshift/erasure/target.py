"""The target of an erasure: one subject, id or digest, with methods that match its rows."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightshift.data.corrections import JUDGED_BY


@dataclass(frozen=True)
class ErasureTarget:
    """One of subject, id and digest, as stored in examples.

    :param typed: the subject or id as typed, which the text of a quarantined row may contain.
    """

    subject: str | None = None
    id: str | None = None
    digest: str | None = None
    typed: str | None = None

    @property
    def column(self) -> str:
        """The column of examples that is searched."""
        return "subject" if self.subject else "id" if self.id else "digest"

    def rows(self, batch: pa.RecordBatch) -> pa.Array:
        """Return which rows of a batch match; none if the column is missing."""
        if self.column not in batch.schema.names:
            return pa.array(np.zeros(batch.num_rows, dtype=bool))
        return pc.fill_null(pc.equal(batch[self.column], getattr(self, self.column)), False)

    def corrections(self, batch: pa.RecordBatch, judged: Set[tuple[str, int]]) -> pa.Array:
        """The same for corrections: rows of the subject's prompts or by the subject, and those of `judged` (source, row)."""
        by = pc.equal(pc.map_lookup(batch["metadata"], JUDGED_BY, "first"), self.subject or "")
        places = zip(batch["source"].to_pylist(), batch["source_row"].to_pylist(), strict=True)
        goes = pa.array([place in judged for place in places], pa.bool_())
        return pc.or_(pc.or_(goes, self.rows(batch)), pc.fill_null(by, False))

    def quarantined(self, batch: pa.RecordBatch) -> pa.Array:
        """The same for quarantined rows, whose texts are searched, too: feedback has its id and digest in them."""
        hits = self.rows(batch)
        for text in {self.typed, self.id, self.digest} - {None, ""}:
            pattern = rf"(^|[^\pL\pN]){re.escape(str(text))}([^\pL\pN]|$)"
            for name in ("detail", "raw"):
                hits = pc.or_(hits, pc.match_substring_regex(batch[name], pattern))
        return hits


def plain(content: bytes) -> str:
    """Return text with JSON escapes of letters and white space resolved."""
    text = content.decode("utf-8", "replace")
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda escape: chr(int(escape[1], 16)), text)
    return re.sub(r"\\[bfnrt]", " ", text)


def letters(text: str) -> str:
    """Return only the letters and digits of a text, for comparisons."""
    return re.sub(r"[\W_]+", "", text.casefold())
