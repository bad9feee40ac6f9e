"""Exact match and ROUGE-L of single rows: the numbers of rouge-score, on real texts and hostile ones."""

import csv
import itertools
import random
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer

import nightshift
from nightshift.evaluation.likeness import exact_match, rouge_l

SAMPLE = Path(nightshift.__file__).parent / "samples" / "banking77"


def real_pairs():
    """Messages paired with other messages and with a shuffle of their own words."""
    with (SAMPLE / "2026-11-02.csv").open(encoding="utf-8") as file:
        texts = [row["text"] for row in itertools.islice(csv.DictReader(file), 150)]
    chance = random.Random(1)
    shuffled = [" ".join(chance.sample(words, len(words))) for words in map(str.split, texts)]
    return [*itertools.pairwise(texts), *zip(texts, shuffled, strict=True)]


def test_rouge_l_is_that_of_rouge_score():
    pairs, scorer = real_pairs(), RougeScorer(["rougeL"], use_stemmer=True)
    known = [scorer.score(reference, response)["rougeL"].fmeasure for response, reference in pairs]
    assert [rouge_l(*pair) for pair in pairs] == pytest.approx(known)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("Card  arrival.", "card arrival", True),
        (" card\narrival ", "CARD ARRIVAL", True),
        ("ﬁne", "fine", True),
        ("card arrivals", "card arrival", False),
        ("card, arrival", "card arrival", False),
        ("", "card arrival", False),
    ],
)
def test_exact_match_forgives_case_and_spaces_and_nothing_else(one, other, equal):
    assert exact_match(one, other) == equal


@pytest.mark.parametrize(
    ("response", "reference", "score"),
    [
        ("the card was lost", "the lost card", 4 / 7),
        ("", "card arrival", 0.0),
        ("card arrival", "", 0.0),
        ("...", "!!!", 0.0),
        ("cards arriving", "card arrived", 1.0),
    ],
)
def test_known_values(response, reference, score):
    assert rouge_l(response, reference) == pytest.approx(score)


def test_long_and_hostile_texts_end():
    assert rouge_l("y" * 200_000, "y" * 200_000) == 1.0
    assert rouge_l("card lost " * 20_000, "lost card " * 20_000) == pytest.approx(1, abs=0.001)
