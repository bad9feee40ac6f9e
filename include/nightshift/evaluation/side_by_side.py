"""Held-out examples with the answers of two models side by side, for people who decide about a candidate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nightshift.evaluation.score_file import Example, Examples

FEW = 3  # examples of each kind
LONGEST_TEXT = 1_000  # characters of a message or an answer
COLUMNS = ["role", "digest", "prompt", "wanted", "answer", "exact_match", "chrf"]  # of `answers.parquet`, that are read


def side_by_side(rows: Iterable[Mapping[str, Any]], against: str) -> list[Examples]:
    """Return examples that only one of the two models gets right, and that neither does.

    :param rows: one per model and example, with `COLUMNS`.
    :param against: role of the model that the candidate is compared with.
    """
    by_role: dict[str, dict[str, Mapping[str, Any]]] = {against: {}, "candidate": {}}
    for row in rows:
        if row["role"] in by_role:
            by_role[row["role"]][row["digest"]] = row
    pairs = [(by_role[against][key], row) for key, row in by_role["candidate"].items() if key in by_role[against]]
    kinds = {
        f"Only the {against} is right": (True, False),
        "Only the candidate is right": (False, True),
        "Both are wrong": (False, False),
    }
    return [
        _examples(title, [pair for pair in pairs if tuple(row["exact_match"] == 1 for row in pair) == right])
        for title, right in kinds.items()
    ]


def _examples(title: str, pairs: list[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Examples:
    # The candidate's worst first; equal ones by digest.
    pairs.sort(key=lambda pair: (pair[1]["chrf"], pair[1]["digest"]))
    few = [
        Example(
            prompt=row["prompt"][:LONGEST_TEXT],
            wanted=row["wanted"][:LONGEST_TEXT],
            other=other["answer"][:LONGEST_TEXT],
            candidate=row["answer"][:LONGEST_TEXT],
        )
        for other, row in pairs[:FEW]
    ]
    return Examples(title=title, count=len(pairs), few=few)
