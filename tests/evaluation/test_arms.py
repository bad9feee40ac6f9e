"""Two arms of a split, simulated: how often a challenger that is worse passes, and one that is as good is stopped."""

from functools import cache, partial

import numpy as np
import pytest

from nightshift.evaluation import arms
from nightshift.evaluation.arms import Evidence, level_of
from nightshift.ledger.records import Split
from nightshift.ledger.splits import next_look
from nightshift.settings.split import Split as Settings

SETTINGS = Settings(shares=[0.5], margin=0.1, min_units=50, intervals=5, level=0.1)
RUNS, INTERVALS, UNITS = 30, 10, 120
SPLIT = Split(
    number=1, decision="d", after=1, settings=SETTINGS, key="k", version="2", model_digest="b", champion="1",
    champion_digest="a", started="2026-11-02T00:00:00Z",
)  # fmt: skip


@pytest.fixture
def quick(monkeypatch):
    """Levels are found once, and not for each simulated split."""
    levels = cache(partial(level_of, SETTINGS))
    monkeypatch.setattr(arms, "level_of", lambda _settings, comparison: levels(comparison))


def ended(chance, champion, challenger):
    """How a split between versions of these shares of right answers ends, of users that come again."""
    users, looks, sums = chance.permutation(1_000), [], np.zeros((2, 4, 1_000, 2))
    for number in range(1, INTERVALS + 1):
        for arm, right in enumerate((champion, challenger)):
            seen = chance.choice(users[:500] if arm else users[500:], UNITS)
            good = chance.random(UNITS) < right
            for place, values in ((0, np.zeros(UNITS)), (1, good), (3, np.ones(UNITS))):
                np.add.at(sums[arm, place], seen, np.column_stack([values, np.ones(UNITS)]))
        evidence = Evidence("exact_match")
        evidence._sums = sums
        found = evidence.compared(SETTINGS, looks[-1].comparisons if looks else 0, number, draws=1_000)
        looks.append(next_look(SPLIT, looks, f"day {number}", found, SPLIT.started))
        if looks[-1].action != "hold":
            break
    return looks[-1].action


def share(action, champion, challenger):
    chance = np.random.default_rng(7)
    return np.mean([ended(chance, champion, challenger) == action for _ in range(RUNS)])


@pytest.mark.usefixtures("quick")
def test_one_that_is_worse_by_the_margin_hardly_ever_passes():
    assert share("pass", 0.8, 0.7) <= SETTINGS.level


@pytest.mark.usefixtures("quick")
def test_one_that_is_as_good_passes_and_one_that_is_much_worse_is_stopped():
    assert share("pass", 0.8, 0.8) > 0.7
    assert share("stop", 0.8, 0.4) == 1


def test_the_levels_of_all_comparisons_together_are_no_more_than_the_level_of_the_step():
    levels = [level_of(SETTINGS, number) for number in range(1, 11)]
    # Of independent comparisons they would add up to more: they share their rows.
    assert max(levels[:5]) < SETTINGS.level / 2 / 2
    assert max(levels[5:]) < SETTINGS.level / 2 / 4


def test_too_few_units_are_no_comparison_and_no_pass():
    found = Evidence("exact_match").compared(SETTINGS, 0, 1)
    assert (found.metric, found.differences, found.comparisons) == (None, {}, 0)
    assert next_look(SPLIT, [], "day 1", found, SPLIT.started).action == "hold"


def test_a_fall_of_valid_answers_stops_it_whatever_the_metric_says():
    evidence = Evidence("exact_match")
    evidence._sums[:, :, :400] = 1.0
    evidence._sums[1, 3, :400, 0] = 0.0
    look = next_look(SPLIT, [], "day 1", evidence.compared(SETTINGS, 0, 1), SPLIT.started)
    assert look.action == "stop"
    assert "valid -100.0%" in look.reason


@pytest.mark.parametrize("shares", [[0.25, 0.05], [0.5, 0.5], [0.0], [1.0], []])
def test_shares_grow_and_end_before_the_release(shares):
    with pytest.raises(ValueError, match="shares"):
        Settings(shares=shares)
