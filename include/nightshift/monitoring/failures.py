"""Scores that an interval should have and has not: how often a scorer failed, and which metrics were lost.

Rows whose score failed are counted beside the scores, as `<score>/failed` in a profile, and those to which it does not apply
as `<score>/not_applicable`. Those, and rows that were not sampled, are no failures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightshift.data.interactions import UNSCORED, Unscored
from nightshift.monitoring.cells import Numbers, histogram
from nightshift.monitoring.counting import ALL_ROWS
from nightshift.monitoring.profiles import Profile, read_batches
from nightshift.monitoring.significance import chance_of_numbers, q_values
from nightshift.monitoring.wording import share
from nightshift.settings.metrics import SMALLEST_SCORE_DEVIATION, Metric
from nightshift.settings.policies import Drift

COUNTED = (Unscored.FAILED, Unscored.NOT_APPLICABLE)


@dataclass(frozen=True)
class Failures:
    """How often the scorer of one metric failed, against the reference; `scored` and `failed` rows were to be scored.

    `excess` is the growth of the share of failed rows beyond chance, in the unit of a score's effect (effects.py), so that
    one failure in a hundred, where there was none, is 0.1.
    """

    metric: Metric
    scored: int
    failed: int
    reference_scored: int
    reference_failed: int
    excess: float
    q_value: float

    @property
    def words(self) -> str:
        """What happened, for people."""
        return (
            f"the scorer failed on {share(self.failed / (self.scored + self.failed))} of "
            f"{self.scored + self.failed:,} rows, "
            f"{share(self.reference_failed / (self.reference_scored + self.reference_failed))} in the reference"
        )


def missing_values(
    profile: Profile,
    reference: Profile,
    policy: Drift,
    scores: Sequence[Metric],
    counted: Mapping[Metric, tuple[int, int, float]],
) -> dict[Metric, str]:
    """Return what is missing of the metrics that should have more values, in words for people.

    :param scores: the metrics that scorers give, whose failures are looked for.
    :param counted: of each metric the rows of the interval and of the reference that have a value, and its WARN floor.
    """
    failures = _growing_failures(profile, reference, scores, policy.min_rows)
    missing = {}
    for metric, (rows, reference_rows, warn) in counted.items():
        said = []
        found = failures.get(metric)
        if found and found.q_value < policy.significance and found.excess >= warn:
            said.append(found.words)
        usual = min(reference_rows, _usual(profile, reference, metric, reference_rows))
        if rows < policy.min_rows <= usual:
            why = (
                f"; to {inapplicable:,} of them it does not apply"
                if (inapplicable := rows_without(profile, metric, Unscored.NOT_APPLICABLE))
                else ""
            )
            said.append(
                f"the interval lost it, {rows:,} of its rows and {reference_rows:,} of the reference have it, "
                f"{policy.min_rows:,} of each are needed{why}"
            )
        dead = rows_without(profile, metric, Unscored.FAILED)
        if dead and not (rows or said):
            said.append(f"the scorer failed on all of {dead:,} rows, in the reference as well")
        if said:
            missing[metric] = "; ".join(said)
    return missing


def rows_without(profile: Profile, metric: str, why: Unscored) -> int:
    """Return how many rows of a profile lack a score for a reason that is counted: failed, or not applicable."""
    return _rows(profile, f"{metric}/{why}")


def count_unscored(file: Path) -> Profile:
    """Return the rows that lack each score, as a profile of `<score>/failed` and `<score>/not_applicable`, where there are any.

    :param file: Parquet with the columns of `interaction_schema`. One without the column `unscored` is of a time when no
        reasons were kept: nothing is known of them.
    :raises BadInput: the file cannot be read.
    """
    schema = pq.read_schema(file)
    if UNSCORED not in schema.names:
        return Profile({})
    scores = [field.name for field in schema.field(UNSCORED).type]
    lacking: Counter[tuple[str, Unscored]] = Counter()
    for batch in read_batches(file, [UNSCORED]):
        for score in scores:
            reasons = pc.struct_field(batch[UNSCORED], score)
            if reasons.null_count == len(reasons):
                continue
            for why in COUNTED:
                lacking[score, why] += pc.sum(pc.equal(reasons, pa.scalar(why.value))).as_py() or 0
    one = histogram(np.ones(1, np.float32)).cells
    return Profile(
        {
            (ALL_ROWS, f"{score}/{why}"): Numbers(one, np.array([rows], np.int64))
            for (score, why), rows in lacking.items()
            if rows
        }
    )


def _growing_failures(
    profile: Profile, reference: Profile, scores: Sequence[Metric], min_rows: int
) -> dict[Metric, Failures]:
    """Return how much more often each scorer failed in the interval than in the reference.

    Only where both sides have at least `min_rows` rows that were to be scored. All are corrected together, apart from
    the metrics' own changes; a smaller share than in the reference has the p-value 1.
    """
    found, p_values, excesses = [], [], []
    for metric in scores:
        scored, failed = _rows(profile, metric), rows_without(profile, metric, Unscored.FAILED)
        before, failed_before = _rows(reference, metric), rows_without(reference, metric, Unscored.FAILED)
        rows, reference_rows = scored + failed, before + failed_before
        if min(rows, reference_rows) < max(min_rows, 1):
            continue
        was = failed_before / reference_rows
        unit = max((was * (1 - was)) ** 0.5, SMALLEST_SCORE_DEVIATION)
        effect = (failed / rows - was) / unit
        found.append((metric, scored, failed, before, failed_before))
        if effect <= 0:
            excesses.append(0.0)
            p_values.append(1.0)
            continue
        counts = np.array([[scored, failed], [before, failed_before]], np.int64)
        seed = f"{metric}/{Unscored.FAILED}/{rows}/{reference_rows}"
        chance = chance_of_numbers(np.array([0.0, 1.0]), counts, unit, seed)
        excesses.append(chance.excess(effect))
        p_values.append(chance.p_value(effect))
    corrected = zip(found, excesses, q_values(p_values), strict=True)
    return {one[0]: Failures(*one, excess, q_value) for one, excess, q_value in corrected}


def _usual(profile: Profile, reference: Profile, metric: Metric, reference_rows: int) -> float:
    """Rows of the interval that would have a value, were it as often there as in the reference."""
    found = reference.get(metric)
    return profile.rows() * (reference_rows / max(found.rows + found.missing, 1) if found else 1.0)


def _rows(profile: Profile, name: str) -> int:
    found = profile.get(name)
    return found.rows if found else 0
