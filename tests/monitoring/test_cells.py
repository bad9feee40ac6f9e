"""Histograms of cells that depend on no data."""

import numpy as np
import pytest

from nightshift.monitoring.cells import centres, histogram, sum_of, tally


def rows_of(one):
    return np.repeat(one.values, one.counts)


def test_counts_and_shares_are_exact():
    numbers = np.concatenate([np.arange(-4096, 4097), [0.0, 1.0, -1.0, 0.5]])
    assert sorted(rows_of(histogram(numbers))) == sorted(numbers)


def test_every_number_is_held_within_a_4096th_of_itself():
    rng = np.random.default_rng(1)
    numbers = np.sort(rng.lognormal(0, 20, 10_000) * rng.choice([-1, 1], 10_000)).astype(np.float32)
    assert np.allclose(rows_of(histogram(numbers)), numbers, rtol=1 / 4096, atol=0)


def test_cells_are_in_the_order_of_their_values_and_there_is_one_zero():
    one = histogram(np.array([1.5, -0.0, -2.0, 0.0, 1e-45, -1e-45, 3e38, -3e38], np.float32))
    assert (np.diff(one.values) > 0).all()
    assert one.counts[one.values == 0].tolist() == [4]


def test_what_is_no_number_is_counted_apart():
    odd = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0x7F800000, 0xFF800000], np.uint32).view(np.float32)
    one = histogram(np.append(odd, np.float32(7)))
    assert (one.values.tolist(), one.counts.tolist(), one.missing) == ([7.0], [1], 5)


def test_the_largest_number_stays_finite():
    assert np.isfinite(histogram(np.array([np.finfo(np.float32).max])).values).all()


def test_a_histogram_of_the_whole_is_the_sum_of_its_parts():
    numbers = np.random.default_rng(2).normal(0, 100, 5_000)
    numbers[::50] = np.nan
    whole, parts = histogram(numbers), sum_of([histogram(part) for part in np.array_split(numbers, 7)])
    assert np.array_equal(whole.cells, parts.cells)
    assert np.array_equal(whole.counts, parts.counts)
    assert whole.missing == parts.missing == 100


def test_mean_deviation_and_quantiles_are_those_of_the_numbers():
    numbers = np.random.default_rng(3).gamma(2, 30, 20_000)
    one = histogram(numbers)
    assert one.mean == pytest.approx(numbers.mean(), rel=1e-4)
    assert one.deviation == pytest.approx(numbers.std(), rel=1e-4)
    assert one.quantile(0.95) == pytest.approx(np.quantile(numbers, 0.95), rel=1e-3)


def test_keys_far_apart_are_counted_as_well():
    found, counts = tally(np.array([5, 1 << 40, 5, 0]))
    assert (found.tolist(), counts.tolist()) == ([0, 5, 1 << 40], [1, 2, 1])


def test_nothing_is_a_histogram_too():
    assert histogram(np.array([])).rows == sum_of([]).rows == 0
    assert centres(np.array([], np.int32)).size == 0
