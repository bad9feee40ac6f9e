"""Did a release help? The interval that led to it, answered again by the new champion, row by row against what was said then.

Only rows with a known answer count that no training set holds, nor anything that nearly equals one. They are looked at
apart: those whose answer the earlier champion was trained on, and those with answers that it never saw.
"""

from __future__ import annotations

from collections.abc import Set

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel
from upath import UPath

from nightshift.data.interactions import INTERACTIONS
from nightshift.data.unseen import training_rows
from nightshift.evaluation.estimates import METRICS, Comparison
from nightshift.evaluation.likeness import normalised
from nightshift.evaluation.scores import Answers, compare
from nightshift.settings.gate import Gate
from nightshift.storage.application_version import ApplicationVersion
from nightshift.storage.files import scratch_folder
from nightshift.storage.manifest import Manifest, require_manifest
from nightshift.storage.partition import fetch
from nightshift.verdict import Verdict

# Roles of a Comparison: the earlier champion's answers of the interval, and the new one's.
BEFORE, AFTER = "champion", "candidate"
COLUMNS = ["row", "digest", "prompt", "response", "reference"]


class Replayed(BaseModel):
    """The comparison over all rows that count, over those with answers known to the earlier champion, and with new ones."""

    everything: Comparison
    known: Comparison
    new: Comparison
    left_out: int  # rows without a known answer, or too near to a row that was trained on


def replayed(before: pa.Table, after: pa.Table, known_answers: Set[str], trained_on: Set[str]) -> Replayed:
    """Compare two answers to the same prompts (columns `COLUMNS`).

    :param known_answers: normalised answers that the earlier champion was trained on.
    :param trained_on: digests of rows that do not count.
    """
    now = {row["row"]: row["response"] for row in after.select(["row", "response"]).to_pylist()}
    rows = [row for row in before.select(COLUMNS).to_pylist() if row["row"] in now]
    counted = [row for row in rows if row["reference"] and row["digest"] not in trained_on]
    known = [row for row in counted if normalised(row["reference"]) in known_answers]
    new = [row for row in counted if normalised(row["reference"]) not in known_answers]

    def compared(part: list[dict[str, str]]) -> Comparison:
        references = [row["reference"] for row in part]
        return compare(
            {
                BEFORE: Answers(answer=[row["response"] for row in part], reference=references),
                AFTER: Answers(answer=[now[row["row"]] for row in part], reference=references),
            }
        )

    return Replayed(
        everything=compared(counted), known=compared(known), new=compared(new), left_out=before.num_rows - len(counted)
    )


def helped(measured: Replayed, policy: Gate) -> tuple[Verdict, list[str]]:
    """Decide whether the release helped, by the gate's metric.

    What it should have made better are the rows with new answers; where these are too few, all rows. Better with the
    whole interval: PASS. Better, but perhaps by luck: WARN. Not better: FAIL. A loss on known answers beyond the gate's
    bound is a WARN at least. Too few rows: INSUFFICIENT_DATA.
    """
    enough = policy.min_examples
    goal, what = (
        (measured.new, "rows with new answers")
        if measured.new.examples >= enough
        else (measured.everything, "all rows")
    )
    if goal.examples < enough:
        reason = f"{goal.examples} rows can be compared, at least {enough} are asked for"
        return Verdict.INSUFFICIENT_DATA, [reason]
    gain = goal.differences[BEFORE][policy.metric]
    verdict = Verdict.PASS if gain.low > 0 else Verdict.WARN if gain.value > 0 else Verdict.FAIL
    reasons = [_sentence(what, goal, policy)]
    if goal is measured.new and measured.known.examples >= enough:
        reasons.append(_sentence("rows with known answers", measured.known, policy))
        if measured.known.differences[BEFORE][policy.metric].value < -policy.max_loss_to_champion:
            verdict = Verdict.FAIL if verdict is Verdict.FAIL else Verdict.WARN
    return verdict, reasons


def _sentence(what: str, compared: Comparison, policy: Gate) -> str:
    before, after = (compared.scores[role][policy.metric].value for role in (BEFORE, AFTER))
    gain = compared.differences[BEFORE][policy.metric]
    return (
        f"{METRICS[policy.metric].title} on {compared.examples:,} {what}: {before:.1%} before, {after:.1%} after "
        f"({gain.value:+.1%} [{gain.low:+.1%}, {gain.high:+.1%}])"
    )


def read_interactions(partition: UPath, manifest: Manifest) -> pa.Table:
    """Return the columns `COLUMNS` of a partition of interactions.

    :raises BadInput: the file is missing, or not what the manifest says.
    """
    with scratch_folder(partition.parent) as folder:
        return pq.read_table(fetch(partition, manifest, INTERACTIONS, folder), columns=COLUMNS)


def trained_answers(version: ApplicationVersion) -> frozenset[str]:
    """Return the normalised answers that a version's weights were trained on; none where nobody wrote down on what.

    :raises BadInput: the snapshot is gone or damaged.
    """
    if version.snapshot is None:
        return frozenset()
    snapshot = UPath(version.snapshot.uri)
    return frozenset(
        map(normalised, training_rows(snapshot, require_manifest(snapshot), "answer")["answer"].to_pylist())
    )
