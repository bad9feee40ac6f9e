"""Distances between distributions, against scipy on the raw columns."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from nightshift.monitoring.cells import histogram
from nightshift.monitoring.counting import Categories
from nightshift.monitoring.effects import jensen_shannon, named_side_by_side, side_by_side, unit, wasserstein
from nightshift.settings.metrics import Metric


def distance(night, reference):
    values, counts = side_by_side(histogram(night), histogram(reference))
    return float(wasserstein(values, counts[0], counts[1]))


@pytest.mark.parametrize("seed", range(3))
def test_the_distance_of_numbers_is_that_of_scipy_on_the_raw_ones(seed):
    random = np.random.default_rng(seed)
    for night, reference in (
        (random.lognormal(4, 1, 3_000), random.lognormal(4.1, 1, 900)),
        (random.normal(0, 1, 500), random.normal(0.2, 1.5, 2_000)),
        (random.beta(0.3, 9, 2_000), random.beta(0.3, 8, 2_000)),
    ):
        assert distance(night, reference) == pytest.approx(
            wasserstein_distance(night, reference), abs=5e-4 * reference.std()
        )


def test_the_distance_of_counts_is_exact():
    random = np.random.default_rng(5)
    night, reference = random.integers(0, 4_000, 700), random.integers(0, 3_900, 300)
    assert distance(night, reference) == pytest.approx(wasserstein_distance(night, reference), rel=1e-12)


def test_a_shift_of_the_mean_by_a_fifth_of_the_deviation_is_a_fifth():
    reference = np.random.default_rng(6).normal(50, 10, 50_000)
    one = histogram(reference)
    assert distance(reference + 2, reference) / unit(Metric.PROMPT_CHARACTERS, one) == pytest.approx(0.2, abs=0.002)


def test_the_distance_of_categories_is_that_of_scipy():
    random = np.random.default_rng(7)
    names = [f"topic {number}" for number in range(20)]
    night, reference = ({name: int(random.integers(0, 50)) for name in names} for _ in range(2))
    reference["gone"] = 9
    _, counts = named_side_by_side(Categories(night), Categories(reference))
    expected = jensenshannon(*([one.get(name, 0) for name in sorted(reference)] for one in (night, reference)), base=2)
    assert jensen_shannon(counts[0], counts[1]) == pytest.approx(expected, rel=1e-12)


def test_nothing_in_common_is_one_and_the_same_is_nought():
    _, counts = named_side_by_side(Categories({"stop": 5}), Categories({"length": 50}))
    assert jensen_shannon(counts[0], counts[1]) == 1
    assert jensen_shannon(counts[0], counts[0] * 7) == pytest.approx(0, abs=1e-7)


def test_a_column_that_was_constant_and_changes_is_a_large_effect():
    reference = histogram(np.full(1_000, 12.0))
    assert distance(np.full(300, 13.0), np.full(1_000, 12.0)) / unit(Metric.PROMPT_TOKENS, reference) > 5


def test_one_invalid_answer_in_a_hundred_is_no_large_effect():
    reference, night = np.ones(1_000), np.repeat([0.0, 1.0], [1, 99])
    assert distance(night, reference) / unit(Metric.VALID, histogram(reference)) == pytest.approx(0.1)
    # Directions of an embedding have small units of their own.
    assert unit(Metric.PROMPT_EMBEDDING, histogram(np.random.default_rng(8).normal(0, 0.01, 1_000))) < 0.02
