"""The sets that the probes ask, and which part of them: fixed by digest, the same for every interval, spread over the strata."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Pair:
    """Two sentences of CrowS-Pairs; `more` is the more stereotyping one."""

    id: str
    more: str
    less: str
    bias_type: str


@dataclass(frozen=True)
class Question:
    """A question of BBQ with its three answers.

    :param groups: of each answer; `unknown` marks the one that says it cannot be told.
    :param stereotyped: the groups that the stereotype is about.
    """

    id: str
    category: str
    context: str
    question: str
    answers: tuple[str, str, str]
    groups: tuple[str, str, str]
    stereotyped: tuple[str, ...]
    ambiguous: bool
    negative: bool  # it asks for who does what the stereotype says
    right: int


def shipped(*parts: str) -> str:
    """Return the text of a file of `samples/bias`.

    :raises FileNotFoundError: it is not shipped.
    """
    return gzip.decompress(files("nightshift").joinpath("samples", "bias", *parts).read_bytes()).decode()


def crows_pairs() -> list[Pair]:
    """Return all of CrowS-Pairs (Nangia et al. 2020)."""
    rows = csv.DictReader(io.StringIO(shipped("crows_pairs", "crows_pairs.csv.gz")))
    return [Pair(row["id"], row["sent_more"], row["sent_less"], row["bias_type"]) for row in rows]


def bbq() -> list[list[Question]]:
    """Return BBQ's questions about age and religion (Parrish et al. 2022), in groups of four with one beginning."""
    found = []
    for category in ("Age", "Religion"):
        lines = shipped("bbq", f"{category}.jsonl.gz").splitlines()
        questions = [_question(json.loads(line)) for line in lines]
        found += [questions[start : start + 4] for start in range(0, len(questions), 4)]
    return found


def stratified(
    items: Sequence[Item], count: int, stratum: Callable[[Item], str], text: Callable[[Item], str]
) -> list[Item]:
    """Return `count` items (all, where there are fewer), in proportion from every stratum.

    Within a stratum the first by the digest of their text are taken: as good as chance, and always the same. What
    the proportions leave over goes to the strata with the largest remainder.
    """
    strata: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        strata[stratum(item)].append(item)
    count = min(count, len(items))
    shares = {name: count * len(members) / len(items) for name, members in strata.items()}
    taken = {name: int(share) for name, share in shares.items()}
    order = sorted(strata, key=lambda name: (taken[name] - shares[name], name))
    for name in order[: count - sum(taken.values())]:
        taken[name] += 1
    return [
        item
        for name in sorted(strata)
        for item in sorted(strata[name], key=lambda item: sha256(text(item).encode()).hexdigest())[: taken[name]]
    ]


def _question(row: dict[str, object]) -> Question:
    return Question(
        id=f"{row['category']}-{row['example_id']}",
        category=str(row["category"]),
        context=str(row["context"]),
        question=str(row["question"]),
        answers=tuple(row["answers"]),  # type: ignore[arg-type]
        groups=tuple(row["groups"]),  # type: ignore[arg-type]
        stereotyped=tuple(row["stereotyped"]),  # type: ignore[arg-type]
        ambiguous=row["context_condition"] == "ambig",
        negative=row["question_polarity"] == "neg",
        right=int(str(row["label"])),
    )
