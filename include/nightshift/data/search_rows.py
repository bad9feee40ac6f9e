"""The rows of a search: which development rows the rungs answer, which ones only the last comparison, and few-shot examples."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.data.examples import example_batches, examples_in
from nightshift.data.review_pairs import is_chosen_of_two

LONGEST_EXAMPLE = 1_000  # characters of a few-shot example, question and answer together
# What an answer is made and judged by.
ASKED = ["digest", "messages", "tools", "metadata", "prompt", "answer", "language"]
UNIT = ["subject", "split_group", "group"]  # the first that a row has says which rows are not independent of it


def drawn_rows(
    file: Path, edges: Sequence[int], final: int, usable: Callable[[Mapping[str, str]], bool] = lambda metadata: True
) -> tuple[list[list[str]], list[str]]:
    """Return the digests of the rows that each rung adds, and of those of the last comparison; fewer where there are no more.

    Both are the first by digest. A hash of its unit says which of the two a row may be in, so that no search with these
    numbers chooses by what another one, or the same, compares with.

    :param file: development rows of a snapshot.
    :param edges: rows that were answered after each rung, ascending.
    :param usable: whether rows with some metadata can be drawn.
    """
    share = final / (final + edges[-1])

    def digests(of_final: bool) -> Iterator[str]:
        for rows in example_batches(file, ["digest", "metadata", *UNIT]):
            for row in rows.to_pylist():
                is_here = (_point(unit_of(row)) < share) == of_final and not is_chosen_of_two(row)
                if is_here and usable(dict(row["metadata"] or ())):
                    yield row["digest"]

    chosen = heapq.nsmallest(edges[-1], digests(of_final=False))
    starts = [0, *edges[:-1]]
    return [chosen[start:end] for start, end in zip(starts, edges, strict=True)], heapq.nsmallest(final, digests(True))


def unit_of(row: dict[str, Any]) -> str:
    """Return whose a row is: its subject, its split group, or what it repeats or resembles."""
    return next(row[name] for name in UNIT if row[name] is not None)


def rows_of(file: Path, digests: Collection[str]) -> list[dict[str, Any]]:
    """Return the rows with these digests, in their order, with `ASKED` and `UNIT`."""
    chosen = pc.field("digest").isin(pa.array(digests, pa.string()))
    found = {row["digest"]: row for row in examples_in(file, [*ASKED, *UNIT], chosen).to_pylist()}
    return [found[digest] for digest in digests]


def few_shot_rows(file: Path, most: int) -> list[dict[str, Any]]:
    """Return the first rows of a training set by digest that are one short question and its answer, `most` at most."""

    def short() -> Iterator[dict[str, Any]]:
        for rows in example_batches(file, ASKED):
            for row in rows.to_pylist():
                alone = [turn["role"] for turn in row["messages"]] == ["user", "assistant"] and not row["tools"]
                if alone and row["answer"] and len(row["prompt"]) + len(row["answer"]) <= LONGEST_EXAMPLE:
                    yield row

    return heapq.nsmallest(most, short(), key=lambda row: str(row["digest"])) if most else []


def _point(unit: str) -> float:
    return int.from_bytes(hashlib.sha256(f"search:{unit}".encode()).digest()[:7], "big") / 2**56
