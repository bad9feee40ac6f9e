"""Agreement of a judge with what is known: full, none, and too few rows to say."""

import random
import tracemalloc

import pytest

from nightshift.evaluation.agreement import agreement


def test_a_judge_that_is_always_right_agrees_fully():
    found = agreement([0.9, 0.1] * 20, [1.0, 0.0] * 20)
    assert (found.rows, found.positive, found.kappa, found.auc) == (40, 20, 1.0, 1.0)


def test_a_judge_that_praises_everything_agrees_no_more_than_chance():
    found = agreement([1.0] * 40, [1.0] * 30 + [0.0] * 10)
    assert (found.kappa, found.auc) == (0.0, 0.5)


def test_kappa_is_cohens():
    both, only_judge, only_label, neither = 20, 5, 10, 15
    scores = [1.0] * (both + only_judge) + [0.0] * (only_label + neither)
    labels = [1.0] * both + [0.0] * only_judge + [1.0] * only_label + [0.0] * neither
    assert agreement(scores, labels).kappa == pytest.approx(0.4)


def test_an_order_that_is_right_counts_even_where_all_scores_are_high():
    found = agreement([0.95, 0.7] * 20, [1.0, 0.0] * 20)
    assert (found.kappa, found.auc) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("scores", "labels", "rows"),
    [
        ([0.9, 0.1] * 5, [1.0, 0.0] * 5, 10),
        ([0.9] * 40, [1.0] * 40, 40),
        ([None] * 40, [1.0, 0.0] * 20, 0),
        ([0.9, 0.1] * 20, [None] * 40, 0),
        ([], [], 0),
    ],
)
def test_too_few_rows_or_only_one_kind_say_nothing(scores, labels, rows):
    found = agreement(scores, labels)
    assert (found.rows, found.kappa, found.auc) == (rows, None, None)


def test_auc_counts_pairs_and_a_hundred_thousand_rows_need_no_matrix_of_pairs():
    chance = random.Random(3)
    labels = [float(chance.random() < 0.6) for _ in range(100_000)]
    scores = [min(1.0, max(0.0, round(chance.gauss(0.3 + 0.3 * label, 0.3), 2))) for label in labels]
    right = [score for score, label in zip(scores[:2_000], labels, strict=False) if label]
    wrong = [score for score, label in zip(scores[:2_000], labels, strict=False) if not label]
    pairs = [(one > other) + (one == other) / 2 for one in right for other in wrong]
    assert agreement(scores[:2_000], labels[:2_000]).auc == pytest.approx(sum(pairs) / len(pairs))
    tracemalloc.start()
    found = agreement(scores, labels)
    assert (found.rows, found.auc) == (100_000, pytest.approx(0.74, abs=0.02))
    assert tracemalloc.get_traced_memory()[1] < 200_000_000
    tracemalloc.stop()
