"""Trials are halved by their scores, and the best of many equal ones is called better than today no more often than stated."""

import numpy as np
from scipy.stats import binom
from simulated_pairs import found

from nightshift.evaluation.estimates import Estimate
from nightshift.evaluation.halving import Trial, pareto, ranked, survivors
from nightshift.evaluation.search_scores import conclusion, gain, mean

SEARCHES, LEVEL = 2_000, 0.05


def test_the_best_part_goes_on_with_today_whatever_today_scores():
    assert survivors({0: 0.1, 1: 0.5, 2: 0.9, 3: 0.7, 4: 0.7, 5: 0.2, 6: 0.3}, 3) == [0, 2, 3]
    assert survivors({0: 0.9, 1: 0.5}, 3) == [0, 1]
    assert survivors({0: 0.1, 1: 0.5, 2: 0.9, 3: 0.7}, 2, spent=True) == [0, 2]
    assert ranked({0: 1.0, 2: 0.5, 1: 0.5}) == [1, 2]


def test_on_the_front_are_trials_than_which_none_gives_as_much_for_less():
    points = {0: (0.5, 10.0), 1: (0.9, 30.0), 2: (0.9, 40.0), 3: (0.4, 10.0), 4: (0.5, 10.0), 5: (0.7, 20.0)}
    assert pareto(points) == [0, 1, 4, 5]


def test_a_trial_is_called_by_what_it_chooses():
    given = {"model": "m", "model_digest": "d"}
    assert Trial(choices={}, **given).name == "as today"
    chosen = {"prompt": "prompts/a.yaml", "few_shot": 4, "decoding": {"temperature": 0.3}}
    assert Trial(choices=chosen, **given).name == 'prompt prompts/a.yaml, few_shot 4, decoding {"temperature": 0.3}'


def test_rows_without_a_score_of_both_count_for_neither_and_too_few_show_nothing():
    shown, rows = gain([0.0, None, 0.0], [1.0, 1.0, None], "abc", LEVEL, fewest=2)
    assert (shown, rows) == (None, 1)
    assert conclusion("a trial", "judge", shown, rows, LEVEL) == (
        False, "nothing better than today: only 1 rows have both scores, too few to compare",
    )  # fmt: skip
    assert mean([None, 0.5, 1.0]) == 0.75


def better(gained, lost, rows):
    difference = found(gained, lost, rows, LEVEL, 1)
    return conclusion("a trial", "exact_match", Estimate(**difference._asdict()), rows, LEVEL)[0]


def searched(trials, *, right=0.7, best=0.7, rows=50, eta=3, final=300, searches=SEARCHES, on_the_same=False):
    """Return how many searches propose a candidate; all trials but the last are right as often as today.

    :param on_the_same: the best is compared on the rows by which it was chosen.
    """
    chance = np.random.default_rng(1)
    rates = np.array([right] * trials + [best])
    edges = [rows, rows * eta, rows * eta**2]
    proposed = 0
    for _ in range(searches):
        answers = chance.random((trials + 1, edges[-1])) < rates[:, None]
        left = list(range(trials + 1))
        for edge in edges:
            scores = {one: float(answers[one, :edge].mean()) for one in left}
            left = survivors(scores, eta)
        winner = ranked(scores)[0]
        fresh = chance.random((2, final)) < rates[[0, winner], None]
        today, other = (answers[0], answers[winner]) if on_the_same else fresh
        proposed += better(int((other & ~today).sum()), int((today & ~other).sum()), len(today))
    return proposed


def test_of_trials_that_are_all_equal_none_is_proposed_more_often_than_the_level_says():
    proposed = searched(16)
    assert binom.sf(proposed - 1, SEARCHES, LEVEL) > 0.01, proposed


def test_on_the_rows_that_chose_it_the_best_of_equal_trials_would_be_proposed_too_often():
    assert searched(16, searches=200, on_the_same=True) > 2 * LEVEL * 200


def test_a_trial_that_is_clearly_better_is_found_and_proposed():
    assert searched(16, best=0.85, searches=200) > 0.9 * 200
