"""The difference of two samples' means is bounded as exact tests say, by subjects and not by rows."""

import pytest
from scipy.stats import fisher_exact

from nightshift.evaluation.paired import kinds_of
from nightshift.evaluation.unpaired import difference_of

LEVEL = 0.05


def shares(good, of, size=1):
    return kinds_of(
        [float(one < good) for one in range(of) for _ in range(size)], [one for one in range(of) for _ in range(size)]
    )


@pytest.mark.parametrize(("good", "of", "before", "of_before"), [(30, 50, 40, 50), (0, 20, 4, 20), (150, 200, 82, 100)])
def test_a_fall_is_shown_where_the_exact_test_of_fisher_shows_it(good, of, before, of_before):
    new, old = shares(good, of), shares(before, of_before)
    exact = fisher_exact([[good, of - good], [before, of_before - before]], "less").pvalue
    assert difference_of(new, old, exact + 0.01).high < 0 < difference_of(new, old, exact - 0.01).high
    assert difference_of(new, old, LEVEL).value == pytest.approx(good / of - before / of_before)


def test_bounds_turn_around_with_the_samples():
    one, other = shares(30, 50), shares(40, 50)
    found, turned = difference_of(one, other, LEVEL), difference_of(other, one, LEVEL)
    assert turned == pytest.approx((-found.value, -found.high, -found.low), abs=0.005)


def test_rows_of_one_subject_tell_no_more_than_the_subject_does():
    once, often = (difference_of(shares(30, 50, size), shares(40, 50, size), LEVEL) for size in (1, 10))
    assert often == pytest.approx(once, abs=1e-12)


def test_few_equal_answers_show_little():
    found = difference_of(shares(10, 10), shares(10, 10), LEVEL)
    assert found.value == 0
    assert found.low < -0.2
    assert found.high > 0.2
