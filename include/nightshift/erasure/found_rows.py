"""Rows that an erasure has found so far, by which further rows are found."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.data.examples import digest_of_messages
from nightshift.data.quarantine import Reason
from nightshift.data.waiting_feedback import about
from nightshift.erasure.target import ErasureTarget


@dataclass
class FoundRows:
    """Digests and ids of found rows; the methods return which rows of a batch must be erased with them."""

    target: ErasureTarget
    digests: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)  # other rows may have the same ids in another interval
    trained: set[str] = field(default_factory=set)  # digests of rows in snapshots
    corrected: set[str] = field(default_factory=set)  # digests of corrections

    def learned_rows(self, batch: pa.RecordBatch) -> pa.Array:
        """Rows of snapshots."""
        known = pc.is_in(batch["digest"], value_set=pa.array(sorted(self.corrected), pa.string()))
        return pc.or_(known, self.target.rows(batch))

    def judged_rows(self, batch: pa.RecordBatch) -> pa.Array:
        """Judged answers, which have digests of their own, and so are also matched by their prompts."""
        goes = self.digests | {self.target.digest}
        asked = [digest_of_messages(turns) in goes for turns in batch["messages"].to_pylist()]
        return pc.or_(self.learned_rows(batch), pa.array(asked, pa.bool_()))

    def trained_rows(self, batch: pa.RecordBatch) -> pa.Array:
        """Rows derived from rows of snapshots."""
        return pc.is_in(batch["digest"], value_set=pa.array(sorted(self.trained), pa.string()))

    def same_text_rows(self, batch: pa.RecordBatch) -> pa.Array:
        """Rows with the same text, whoever wrote it."""
        known = pc.is_in(batch["digest"], value_set=pa.array(sorted(self.digests | self.trained), pa.string()))
        return pc.or_(known, self.target.rows(batch))

    def waited_rows(self, batch: pa.RecordBatch) -> pa.Array:
        """Feedback without a known interaction: matched by its digest, or without one by its id."""
        known = pc.is_in(batch["id"], value_set=pa.array(sorted(self.ids), pa.string()))
        return pc.or_(self.same_text_rows(batch), pc.and_(known, pc.is_null(batch["digest"])))

    def given_up_rows(self, batch: pa.RecordBatch) -> pa.Array:
        """Feedback in the quarantine that waited too long for its interaction."""
        goes = self.digests | self.trained
        found = (
            reason == Reason.NO_INTERACTION and (digest in goes if digest else name in self.ids)
            for reason, (name, digest) in zip(
                batch["reason"].to_pylist(), map(about, batch["raw"].to_pylist()), strict=True
            )
        )
        return pa.array(found, pa.bool_())

    def unit_rows(self, batch: pa.RecordBatch) -> pa.Array:
        """Rows whose unit is the subject, or for rows without a subject a digest."""
        known = pa.array(sorted(self.digests | self.trained | {self.target.subject or ""}), pa.string())
        hits = [pc.is_in(column, value_set=known) for column in batch.columns]
        return hits[0] if len(hits) == 1 else pc.or_(*hits)
