"""Agreement of a judge with what is known: full, none, and too few rows to say."""

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
