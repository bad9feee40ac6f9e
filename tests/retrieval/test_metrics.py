"""Measures of a ranking, against values worked out by hand."""

from math import log2

import pytest

from nightshift.retrieval.metrics import ndcg_at, recall_at, reciprocal_rank


def test_a_ranking_is_measured_by_what_it_finds_and_where():
    ranking, relevant = ["a", "b", "c", "d"], {"b", "d", "x"}
    assert recall_at(2, ranking, relevant) == pytest.approx(1 / 3)
    assert reciprocal_rank(ranking, relevant) == 0.5
    best = 1 + 1 / log2(3) + 1 / log2(4)
    assert ndcg_at(4, ranking, relevant) == pytest.approx((1 / log2(3) + 1 / log2(5)) / best)
    assert (recall_at(2, [], relevant), reciprocal_rank([], relevant), ndcg_at(2, [], relevant)) == (0, 0, 0)


def test_a_question_to_which_nothing_is_relevant_has_no_value():
    assert [recall_at(2, ["a"], ()), reciprocal_rank(["a"], ()), ndcg_at(2, ["a"], ())] == [None, None, None]
