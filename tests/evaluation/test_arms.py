"""Two arms of a split, simulated: how often a challenger that is worse passes, and one that is as good is stopped."""

from functools import cache, partial

import numpy as np
import pytest
from simulated_splits import ends

from nightshift.evaluation import arms
from nightshift.evaluation.arms import Evidence, level_of, standardised
from nightshift.ledger.records import Split
from nightshift.ledger.splits import next_look, step_of
from nightshift.settings.split import Split as Settings

SETTINGS = Settings(shares=[0.2, 0.5], margin=0.1, min_units=50, intervals=5, level=0.1)
RUNS, INTERVALS, UNITS = 30, 10, 400
SPLIT = Split(
    number=1, decision="d", after=1, settings=SETTINGS, key="k", version="2", model_digest="b", champion="1",
    champion_digest="a", started="2026-11-02T00:00:00Z",
)  # fmt: skip


@pytest.fixture
def quick(monkeypatch):
    """Levels are found once, and not for each simulated split."""
    levels = cache(partial(level_of, SETTINGS))
    monkeypatch.setattr(arms, "level_of", lambda _settings, known: levels(tuple(known)))


def ended(chance, champion, challenger):
    """How a split between versions of these shares of right answers ends, of users that come again and ask simpler things."""
    users, looks, known = chance.permutation(1_000), [], []
    evidence = Evidence("exact_match", SETTINGS)
    for number in range(1, INTERVALS + 1):
        sums, new = np.zeros_like(evidence._sums), int(1_000 * SETTINGS.shares[step_of(looks)])
        for arm, right in enumerate((champion, challenger)):
            mine = users[:new] if arm else users[new:]
            rows = UNITS * len(mine) // 1_000
            seen, good = chance.choice(mine, rows), chance.random(rows) < right - 0.02 * (INTERVALS - number)
            for place, values in ((0, np.zeros(rows)), (1, good), (3, np.ones(rows))):
                np.add.at(sums[arm, place], seen, np.column_stack([values, np.ones(rows)]))
        evidence._sums += standardised(sums)
        found = evidence.compared(known, number, draws=1_000)
        known = found.known
        looks.append(next_look(SPLIT, looks, f"day {number}", found, SPLIT.started))
        if looks[-1].action in {"pass", "stop"}:
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


def test_the_levels_of_all_comparisons_together_are_no_more_than_the_level_of_the_split():
    levels = [level_of(SETTINGS, [100.0 * known for known in range(1, number + 1)]) for number in (1, 5, 10, 20)]
    # Of independent comparisons they would add up to more: they share their rows.
    assert levels[0] < levels[1] < levels[2] < SETTINGS.level / 2 / 2
    assert levels[3] < SETTINGS.level / 2


def test_of_simulated_splits_whose_questions_become_simpler_as_the_share_grows_the_error_is_held():
    settings = Settings(intervals=5, level=0.1, margin=0.1)
    released, _ = ends(settings, 1_000, -settings.margin, intervals=10, splits=80)
    _, stopped = ends(settings, 1_000, 0, intervals=10, splits=50)
    assert (released <= settings.level, stopped <= settings.level) == (True, True)
    assert ends(settings, 1_000, 0.02, intervals=10, splits=20)[0] > 0.8


def test_that_another_share_was_answered_at_another_time_is_no_difference_between_the_arms():
    evidence = Evidence("exact_match", SETTINGS)
    for challenger, right in ((50, 0.5), (250, 0.9)):  # groups of the challenger, and right answers of both
        sums = np.zeros_like(evidence._sums)
        for arm, groups in ((0, slice(challenger, 1_000)), (1, slice(challenger))):
            sums[arm, :, groups, 0], sums[arm, :, groups, 1] = right, 1
        evidence._sums += standardised(sums)
    found = evidence.compared([], 1)
    assert found.differences["exact_match"][0] == pytest.approx(0)
    assert found.means["exact_match"]["champion"] == pytest.approx((50 * 0.5 + 250 * 0.9) / 300)


def test_what_has_no_new_rows_is_no_further_comparison():
    evidence = Evidence("exact_match", SETTINGS)
    evidence._sums[:, :, :400] = 1.0
    once = evidence.compared([], 1)
    assert (evidence.compared(once.known, 2).comparisons, once.comparisons) == (1, 1)


def test_too_few_units_are_no_comparison_and_no_pass():
    found = Evidence("exact_match", SETTINGS).compared([], 1)
    assert (found.metric, found.differences, found.comparisons) == (None, {}, 0)
    assert next_look(SPLIT, [], "day 1", found, SPLIT.started).action == "hold"


def test_a_fall_of_valid_answers_stops_it_whatever_the_metric_says():
    evidence = Evidence("exact_match", SETTINGS)
    evidence._sums[:, :, :400] = 1.0
    evidence._sums[1, 3, :400, 0] = 0.0
    look = next_look(SPLIT, [], "day 1", evidence.compared([], 1), SPLIT.started)
    assert look.action == "stop"
    assert "valid -100.0%" in look.reason


@pytest.mark.parametrize(("fall", "action"), [(0.0, "step"), (1.0, "stop"), (None, "hold")])
def test_a_guard_rail_of_the_project_stops_it_and_without_values_of_it_no_step_is_passed(fall, action):
    settings = SETTINGS.model_copy(update={"guard_rails": ["polite"]})
    evidence = Evidence("exact_match", settings)
    evidence._sums[:, :, :400] = 1.0
    evidence._sums[1, -1, :400] = (1.0 - fall, 1.0) if fall is not None else 0.0
    split = SPLIT.model_copy(update={"settings": settings})
    look = next_look(split, [], "day 1", evidence.compared([], 1), SPLIT.started)
    assert look.action == action
    assert ("polite -100.0%" in look.reason) is (action == "stop")


@pytest.mark.parametrize("shares", [[0.25, 0.05], [0.5, 0.5], [0.0], [1.0], []])
def test_shares_grow_and_end_before_the_release(shares):
    with pytest.raises(ValueError, match="shares"):
        Settings(shares=shares)
