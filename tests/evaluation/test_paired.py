"""A mean of paired differences is bounded as theory says, and as thousands of simulated pairs show, with early looks or not."""

import numpy as np
import pytest
from scipy.stats import beta, binom, norm
from simulated_pairs import LEVEL, PAIRS, simulate

from nightshift.evaluation.paired import Difference, bounds, ended, levels_of_looks

MARGIN = 0.05


def test_equal_answers_to_few_prompts_show_less_than_the_bootstrap_would_say():
    found = bounds([0.0] * 50, range(50), LEVEL)
    assert (found.value, found.low) == (0, pytest.approx(-(1 - LEVEL ** (1 / 50)), abs=0.002))
    assert ended(found, MARGIN) is None
    assert ended(bounds([0.0] * 65, range(65), LEVEL), MARGIN) == "no worse"


def test_answers_that_only_one_model_gets_wrong_have_the_bounds_of_clopper_and_pearson():
    found = bounds([-1.0] * 3 + [0.0] * 97, range(100), LEVEL)
    assert found.low == pytest.approx(-beta.ppf(1 - LEVEL, 4, 97), abs=0.002)


def test_rows_of_one_subject_tell_no_more_than_the_subject_does():
    alone = bounds([1.0, -1.0, 0.0, 0.0] * 10, range(40), LEVEL)
    repeated = bounds([1.0, -1.0, 0.0, 0.0] * 100, list(range(40)) * 10, LEVEL)
    assert repeated == pytest.approx(alone, abs=1e-12)


def test_an_interval_below_the_margin_shows_that_the_candidate_is_worse():
    assert ended(Difference(-0.3, -0.4, -0.2), 0.1) == "worse"
    assert ended(Difference(-0.3, -0.4, -0.05), 0.1) is None


@pytest.mark.parametrize("shares", [[1.0], [0.25, 0.5, 0.75, 1.0], [0.1, 1.0], [0.3, 0.35, 0.9, 1.0]])
def test_looks_share_the_level_and_spend_little_before_much_is_known(shares):
    levels = levels_of_looks(LEVEL, shares)
    assert levels[0] < LEVEL / 3 or len(shares) == 1
    assert levels[-1] <= LEVEL + 1e-4
    steps = np.sqrt(np.diff([0, *shares])) * np.random.default_rng(1).standard_normal((200_000, len(shares)))
    crossed = (steps.cumsum(axis=1) / np.sqrt(shares) > norm.isf(levels)).any(axis=1).mean()
    assert crossed == pytest.approx(LEVEL, abs=0.0025)


WRONG = [  # gain, loss, margin: what must not pass more often than the level says
    ("equal models, asked to be better", 0.08, 0.08, 0.0),
    ("worse by the margin", 0.05, 0.10, MARGIN),
    ("worse by the margin, and never better", 0.0, 0.05, MARGIN),
    ("worse by the margin, and often different", 0.20, 0.25, MARGIN),
]


@pytest.mark.slow
@pytest.mark.parametrize("looks", [1, 4])
@pytest.mark.parametrize(("gain", "loss", "margin"), [one[1:] for one in WRONG], ids=[one[0] for one in WRONG])
def test_wrong_passes_are_no_more_than_the_level_with_one_look_or_four(gain, loss, margin, looks):
    passed = simulate(gain, loss, margin=margin, prompts=400, looks=looks).passed
    assert binom.sf(round(passed * PAIRS) - 1, PAIRS, LEVEL) > 0.01, passed


@pytest.mark.slow
def test_subjects_that_ask_several_times_do_not_let_more_pass():
    passed = simulate(0.05, 0.10, margin=MARGIN, prompts=400, size=4).passed
    assert binom.sf(round(passed * PAIRS) - 1, PAIRS, LEVEL) > 0.01, passed
    assert simulate(0.05, 0.10, margin=MARGIN, prompts=400, size=4, as_rows=True).passed > 2 * LEVEL


@pytest.mark.slow
@pytest.mark.parametrize("looks", [1, 4])
def test_what_is_better_or_as_good_passes_with_the_stated_power(looks):
    better = simulate(0.16, 0.06, margin=0.0, prompts=500, looks=looks)
    equal = simulate(0.04, 0.04, margin=MARGIN, prompts=500, looks=looks)
    assert min(better.passed, equal.passed) > 0.9
    assert (better.prompts < 350) == (looks == 4)
