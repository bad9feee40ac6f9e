"""Scores: known values, honest intervals, and the same numbers for the same answers."""

import math
import random

import pytest
from sacrebleu.metrics import BLEU

from nightshift.evaluation.scores import Answers, compare, per_example

WANTED = ["card arrival", "lost or stolen card", "exchange rate", "pending cash withdrawal"] * 25


def answers(texts, wanted=WANTED, loss=2.0):
    return Answers(answer=texts, wanted=wanted, loss_sum=[loss] * len(wanted), answer_tokens=[4] * len(wanted))


def with_errors(share, seed=1):
    chance = random.Random(seed)
    return [text if chance.random() > share else "something else entirely" for text in WANTED]


def test_perfect_answers_score_one_and_empty_answers_zero():
    scores = compare({"candidate": answers(WANTED), "base": answers([""] * 100)}).scores
    for metric in ("exact_match", "rouge_l", "chrf", "bleu"):
        assert scores["candidate"][metric].value == pytest.approx(1)
        assert scores["base"][metric].value == pytest.approx(0)
    assert scores["candidate"]["loss"].value == pytest.approx(0.5)
    assert scores["candidate"]["perplexity"].value == pytest.approx(math.exp(0.5))


def test_rouge_counts_the_longest_common_subsequence_of_words():
    assert per_example(["the card was lost"], ["the lost card"])["rouge_l"] == [pytest.approx(2 * 2 / (4 + 3))]


def test_bleu_is_that_of_sacrebleu():
    texts = with_errors(0.3)
    value = compare({"candidate": answers(texts)}).scores["candidate"]["bleu"].value
    assert value == pytest.approx(BLEU().corpus_score(texts, [WANTED]).score / 100)


def test_intervals_hold_the_value_narrow_with_examples_and_never_change():
    few = compare({"candidate": answers(with_errors(0.3)[:20], WANTED[:20])}).scores["candidate"]["exact_match"]
    many = compare({"candidate": answers(with_errors(0.3))}).scores["candidate"]["exact_match"]
    for estimate in (few, many):
        assert estimate.low < estimate.value < estimate.high
    assert many.high - many.low < few.high - few.low
    assert compare({"candidate": answers(with_errors(0.3))}).scores["candidate"]["exact_match"] == many


def test_the_interval_of_a_share_is_about_the_one_of_the_textbook():
    estimate = compare({"candidate": answers(with_errors(0.3))}).scores["candidate"]["exact_match"]
    half = 1.96 * math.sqrt(estimate.value * (1 - estimate.value) / 100)
    assert (estimate.high - estimate.low) / 2 == pytest.approx(half, rel=0.15)


def test_two_models_are_compared_on_the_same_examples():
    champion = with_errors(0.3)
    candidate = list(champion)
    candidate[champion.index("something else entirely")] = WANTED[champion.index("something else entirely")]
    comparison = compare({"candidate": answers(candidate), "champion": answers(champion)})
    difference = comparison.differences["champion"]["exact_match"]
    assert difference.value == pytest.approx(0.01)
    assert difference.low >= 0
    own = comparison.scores["candidate"]["exact_match"]
    assert difference.high - difference.low < (own.high - own.low) / 2


def test_nothing_to_judge_is_said_as_such():
    nothing = compare({"candidate": answers([], []), "base": answers([], [])})
    assert nothing.examples == 0
    assert nothing.scores == {"candidate": {}, "base": {}}
