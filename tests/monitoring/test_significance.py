"""What chance gives, and how improbable an effect is by chance."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from nightshift.monitoring.cells import histogram
from nightshift.monitoring.effects import side_by_side, wasserstein
from nightshift.monitoring.significance import (
    Chance,
    chance_of_categories,
    chance_of_numbers,
    mean_of,
    q_values,
)  # fmt: skip


def compared(night, reference):
    values, counts = side_by_side(histogram(night), histogram(reference))
    return float(wasserstein(values, counts[0], counts[1])), chance_of_numbers(values, counts, 1.0, "seed")


def test_chance_is_what_two_samples_of_the_same_rows_differ_by():
    random = np.random.default_rng(1)
    pairs = [compared(random.lognormal(0, 1, 200), random.lognormal(0, 1, 600)) for _ in range(50)]
    effects = np.array([effect for effect, _ in pairs])
    expected = np.mean([chance.expected for _, chance in pairs])
    assert expected == pytest.approx(np.sqrt(np.mean(effects**2)), rel=0.15)


def test_p_values_under_no_drift_are_even():
    random = np.random.default_rng(2)
    p_values = []
    for _ in range(100):
        effect, chance = compared(random.gamma(2, 1, 150), random.gamma(2, 1, 500))
        p_values.append(chance.p_value(effect))
    for level in (0.05, 0.25, 0.5):
        assert np.mean(np.array(p_values) < level) == pytest.approx(level, abs=3.5 * np.sqrt(level * (1 - level) / 100))


def test_an_effect_above_all_draws_has_a_p_value_below_one_in_so_many_draws():
    random = np.random.default_rng(3)
    effect, chance = compared(random.normal(0.6, 1, 200), random.normal(0, 1, 500))
    assert effect > chance.effects.max()
    assert chance.p_value(effect) < 1e-5


def test_the_fitted_tail_agrees_with_counting():
    random = np.random.default_rng(4)
    many = np.abs(random.standard_normal((20_000, 12))).mean(axis=1)
    few = Chance(many[:400])
    for share in (0.005, 0.001):
        assert few.p_value(np.quantile(many, 1 - share)) == pytest.approx(share, rel=0.8)


def test_chance_falls_with_the_root_of_the_rows():
    counts = np.array([[50, 30, 20], [500, 300, 200]])
    once, hundredfold = (
        chance_of_categories(counts, "seed").expected,
        chance_of_categories(counts * 100, "seed").expected,
    )
    assert once / hundredfold == pytest.approx(10, rel=0.15)


def test_what_chance_explains_is_taken_off_in_squares():
    chance = Chance(np.full(10, 0.3))
    assert chance.excess(0.5) == pytest.approx(0.4)
    assert chance.excess(0.2) == 0


def test_the_same_seed_gives_the_same_draws():
    counts = np.array([[50, 30, 20], [500, 300, 200]])
    assert np.array_equal(chance_of_categories(counts, "a").effects, chance_of_categories(counts, "a").effects)
    assert not np.array_equal(chance_of_categories(counts, "a").effects, chance_of_categories(counts, "b").effects)


def test_the_mean_of_effects_is_taken_to_vary_as_much_as_each():
    random = np.random.default_rng(5)
    chances = [Chance(random.permutation(np.linspace(0, 1, 400))) for _ in range(16)]
    assert mean_of(chances).effects.std() == pytest.approx(chances[0].effects.std(), rel=0.01)


def test_the_p_value_of_a_mean_is_not_too_small_where_effects_replace_each_other_in_the_tail():
    # Two exponential effects: together up to their upper fiftieth, and in it the one is small where the other is large.
    tail = 0.02
    shares = (np.arange(200_000) + 0.5) / 200_000
    in_tail = shares < tail
    one, other = -np.log(shares), -np.log(np.where(in_tail, tail - shares, shares))
    assert np.sort(other) == pytest.approx(np.sort(one), rel=1e-3)  # the same distribution
    mean = (one + other) / 2
    effect = float(mean[in_tail].min())
    true = float((mean >= effect).mean())
    rising_together = float((one >= effect).mean())
    assert (true, rising_together) == (pytest.approx(0.02, abs=1e-4), pytest.approx(0.01, abs=1e-4))
    drawn = Chance(-np.log((np.arange(400) + 0.5) / 400))
    assert true <= mean_of([drawn, drawn]).p_value(effect) < 2 * true


def test_q_values_are_those_of_scipy():
    chances = [0.001, 0.2, 0.03, 0.03, 0.9, 0.004]
    assert q_values(chances) == pytest.approx(list(false_discovery_control(chances)))
    assert q_values([]) == []
