"""Metrics of retrieval and citations: whether the right passages were found, and whether an answer cites existing ones.

Each metric is of one answer, 0 to 1; over many answers it is the mean of those that have it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

from nightshift.data.words import words
from nightshift.evaluation.groundedness import groundedness
from nightshift.evaluation.retrieved import is_relevant, ranked_well

CITED = re.compile(r"\[\s*([0-9]{1,4}(?:\s*,\s*[0-9]{1,4})*)\s*\]")  # [1], [1, 3]


def of_passages(
    passages: Sequence[Mapping[str, Any]], context: str | None, relevant: Set[str], k: int
) -> dict[str, float]:
    """Return how well the passages of a question were retrieved, and their number of words.

    If the relevant ids are known, `context_precision` is the share of relevant passages (the ID-based context precision of
    Ragas), 0 if none was found; recall, reciprocal rank and nDCG are as in an evaluation.

    :param relevant: ids of documents or passages that should be found; empty: unknown.
    """
    found: dict[str, float] = {"context_words": len(words(context or ""))}
    if relevant:
        right = sum(is_relevant(one, relevant) for one in passages)
        found |= {**ranked_well(passages, relevant, k), "context_precision": right / len(passages) if passages else 0.0}
    return found


def of_answer(answer: str, passages: Sequence[Mapping[str, Any]], context: str, relevant: Set[str]) -> dict[str, float]:
    """Return how an answer cites its passages, at least one.

    `citing` is 1 if it cites by number. Of the cited numbers, `citations_existing` is the share with a passage, and
    `citations_relevant`, if the relevant ids are known, the share whose passage is relevant: the citation precision of
    ALCE (Gao et al. 2023, arXiv:2305.14627), with relevance in place of entailment.
    """
    numbers = {int(number) for group in CITED.findall(answer) for number in group.split(",")}
    cited = [passages[number - 1] for number in numbers if 1 <= number <= len(passages)]
    found: dict[str, float] = {"citing": float(bool(numbers))}
    if (grounded := groundedness(answer, context)) is not None:
        found["groundedness"] = grounded
    if numbers:
        found["citations_existing"] = len(cited) / len(numbers)
        if relevant:
            found["citations_relevant"] = sum(is_relevant(one, relevant) for one in cited) / len(numbers)
    return found
