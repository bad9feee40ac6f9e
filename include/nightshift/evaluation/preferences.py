"""How often a model finds the chosen answer of a held-out preference pair likelier than the rejected one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nightshift.data.examples import both_answers
from nightshift.evaluation.estimates import PREFERENCE, Comparison
from nightshift.evaluation.scores import add_measured
from nightshift.inference.engine import Engine, Report


def preferred(engine: Engine, rows: Sequence[Mapping[str, Any]], report: Report) -> list[float | None]:
    """Return 1 for each pair whose chosen answer is the likelier one, else 0; None for other rows and too long ones.

    Likelihoods are of whole answers (nats, summed), as in the loss of DPO.
    """
    pairs = [place for place, row in enumerate(rows) if row.get("rejected")]
    found: list[float | None] = [None] * len(rows)
    if not pairs:
        return found
    likelihoods = engine.likelihoods([row for place in pairs for row in both_answers(rows[place])], report)
    for place, chosen, rejected in zip(pairs, likelihoods[::2], likelihoods[1::2], strict=True):
        if chosen is not None and rejected is not None:
            found[place] = float(chosen > rejected)
    return found


def add_preferences(comparison: Comparison, preferences: Mapping[str, Sequence[float | None]]) -> None:
    """Add the preference accuracy of each model, and the candidate's gain, over the pairs that all models could read.

    :param preferences: results of :func:`preferred` for the same rows, by role.
    """
    pairs = [values for values in zip(*preferences.values(), strict=True) if None not in values]
    if not pairs:
        return
    comparison.pairs = len(pairs)
    by_role = {role: [values[place] or 0.0 for values in pairs] for place, role in enumerate(preferences)}
    add_measured(comparison, PREFERENCE, by_role)
