"""What tells the rows that are to be erased."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


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

    def quarantined(self, batch: pa.RecordBatch) -> pa.Array:
        """The same of quarantined rows, whose texts are looked through, too."""
        hits = self.rows(batch)
        if self.typed:
            pattern = rf"(^|[^\pL\pN]){re.escape(self.typed)}([^\pL\pN]|$)"
            for name in ("detail", "raw"):
                hits = pc.or_(hits, pc.match_substring_regex(batch[name], pattern))
        return hits
