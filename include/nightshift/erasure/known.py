"""What one look through an application's folder has found of the rows that are to be erased: it tells further rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.data.examples import digest_of_messages
from nightshift.data.quarantine import Reason
from nightshift.data.waiting_feedback import about
from nightshift.erasure.wanted import Wanted


@dataclass
class Known:
    """Digests and ids of rows that were found; the methods tell which rows of a batch go with these."""

    wanted: Wanted
    digests: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)  # which may be those of other rows in another interval
    trained: set[str] = field(default_factory=set)  # those of snapshots
    corrected: set[str] = field(default_factory=set)  # those of corrections

    def learned_rows(self, batch: pa.RecordBatch) -> pa.Array:
        """Rows of snapshots."""
        known = pc.is_in(batch["digest"], value_set=pa.array(sorted(self.corrected), pa.string()))
        return pc.or_(known, self.wanted.rows(batch))

    def judged_rows(self, batch: pa.RecordBatch) -> pa.Array:
        """The same of judged answers, whose digests are of their own: of these, also by what was asked."""
        goes = self.digests | {self.wanted.digest}
        asked = [digest_of_messages(turns) in goes for turns in batch["messages"].to_pylist()]
        return pc.or_(self.learned_rows(batch), pa.array(asked, pa.bool_()))

    def trained_rows(self, batch: pa.RecordBatch) -> pa.Array:
        """What was made of rows of snapshots."""
        return pc.is_in(batch["digest"], value_set=pa.array(sorted(self.trained), pa.string()))

    def same_text_rows(self, batch: pa.RecordBatch) -> pa.Array:
        """Rows about the same text, whoever said it."""
        known = pc.is_in(batch["digest"], value_set=pa.array(sorted(self.digests | self.trained), pa.string()))
        return pc.or_(known, self.wanted.rows(batch))

    def waited_rows(self, batch: pa.RecordBatch) -> pa.Array:
        """Feedback whose interaction nobody has found: its id says what it is about where it has no digest."""
        known = pc.is_in(batch["id"], value_set=pa.array(sorted(self.ids), pa.string()))
        return pc.or_(self.same_text_rows(batch), pc.and_(known, pc.is_null(batch["digest"])))

    def given_up_rows(self, batch: pa.RecordBatch) -> pa.Array:
        """The same of feedback in the quarantine that waited for too long."""
        goes = self.digests | self.trained
        found = (
            reason == Reason.NO_INTERACTION and (digest in goes if digest else name in self.ids)
            for reason, (name, digest) in zip(
                batch["reason"].to_pylist(), map(about, batch["raw"].to_pylist()), strict=True
            )
        )
        return pa.array(found, pa.bool_())

    def unit_rows(self, batch: pa.RecordBatch) -> pa.Array:
        """Rows whose unit is the subject, or, as that of a row without one, a digest."""
        known = pa.array(sorted(self.digests | self.trained | {self.wanted.subject or ""}), pa.string())
        hits = [pc.is_in(column, value_set=known) for column in batch.columns]
        return hits[0] if len(hits) == 1 else pc.or_(*hits)
