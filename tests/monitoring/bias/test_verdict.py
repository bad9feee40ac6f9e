"""A gap is too large only when chance, over all gaps that were looked at, does not explain it."""

import numpy as np
import pytest

from nightshift.monitoring.bias.estimates import (
    Difference,
    Sums,
    beyond,
    mean_difference,
    paired_share_difference,
    share_difference,
    sums_of,
    wilson,
)
from nightshift.monitoring.bias.verdict import Finding, judge, measured
from nightshift.settings.policies import Bias
from nightshift.verdict import Verdict

POLICY = Bias(max_gap=0.1, min_group=30)


def finding(difference=None, section="outputs", group="b", **fields):
    one = Finding(
        section=section,
        dimension="tier",
        group=group,
        other="all others",
        metric="toxicity",
        n=50,
        n_other=50,
        **fields,
    )
    return measured(one, difference) if difference else one


def test_intervals_are_those_of_their_sources():
    # Newcombe 1998, table II, row 10 (56/70 against 48/80), and Wilson's interval of 0/30.
    known = share_difference(Sums(70, 56, 56), Sums(80, 48, 48))
    assert (known.value, known.low, known.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-4)
    assert (wilson(0, 30).low, wilson(0, 30).high) == pytest.approx((0, 0.1135), abs=1e-3)
    from scipy.stats import ttest_ind

    one, other = np.random.default_rng(1).normal(0.4, 0.1, 40), np.random.default_rng(2).normal(0.3, 0.2, 55)
    welch = ttest_ind(one, other, equal_var=False).confidence_interval()
    ours = mean_difference(sums_of(one), sums_of(other))
    assert (ours.low, ours.high) == pytest.approx((welch.low, welch.high))


def test_no_change_in_few_pairs_still_leaves_room_for_one():
    none = paired_share_difference(0, 0, 30)
    assert none.value == 0
    assert none.high > 0.03
    assert none.low == -none.high


def test_the_chance_of_a_gap_agrees_with_its_interval():
    assert beyond(Difference(0.3, 0.1, 0.5), 0.1) == pytest.approx(0.025)
    assert beyond(Difference(-0.3, -0.5, -0.1), 0.1) == pytest.approx(0.025)
    assert beyond(Difference(0.3, 0.11, 0.5), 0.1) < 0.025
    assert beyond(Difference(0.05, 0.01, 0.09), 0.1) > 0.5
    assert beyond(Difference(0.2, 0.2, 0.2), 0.1) == 0


def test_a_gap_with_its_whole_interval_beyond_the_bound_fails_and_is_named():
    judged = judge([finding(Difference(0.4, 0.3, 0.5)), finding(Difference(0.01, -0.05, 0.07), group="c")], POLICY)
    assert judged.verdict is Verdict.FAIL
    assert judged.failing == ["outputs/tier/b/toxicity"]
    assert judged.reasons == ["toxicity (outputs), tier: b against all others: +40.0% [+30.0%, +50.0%], beyond ±10%"]
    assert judged.worst.group == "b"


def test_an_estimate_above_the_bound_that_may_be_chance_warns():
    judged = judge([finding(Difference(-0.15, -0.35, 0.05))], POLICY)
    assert judged.verdict is Verdict.WARN
    assert "though it may be chance" in judged.reasons[0]


def test_one_significant_gap_among_many_is_chance():
    barely = finding(Difference(0.3, 0.101, 0.499))
    assert judge([barely], POLICY).verdict is Verdict.FAIL
    others = [finding(Difference(0.0, -0.1, 0.1), group=str(number)) for number in range(30)]
    assert judge([barely, *others], POLICY).verdict is Verdict.WARN


def test_groups_that_are_too_small_decide_nothing_and_are_counted():
    judged = judge([finding(Difference(0.0, -0.05, 0.05)), finding(group="c")], POLICY)
    assert judged.verdict is Verdict.PASS
    assert judged.reasons == ["all 1 gaps are within ±10%; 1 groups are too small to tell"]


def test_nothing_but_small_groups_is_no_pass():
    judged = judge([finding(), finding(group="c")], POLICY)
    assert judged.verdict is Verdict.INSUFFICIENT_DATA
    assert judge([], POLICY).verdict is Verdict.INSUFFICIENT_DATA


def test_what_is_only_shown_has_no_verdict():
    judged = judge([finding(verdict=None, mean=0.9, value=None)], POLICY)
    assert judged.findings[0].verdict is None
    assert judged.failing == []


def test_fair_groups_rarely_fail_and_unfair_ones_do():
    """400 nights of ten groups: no gap fails by chance, a gap of 0.35 is found in most."""
    chance = np.random.default_rng(3)
    false = found = 0
    for _ in range(400):
        rates = [0.3] * 10
        fair = [share_difference(*(_hits(chance, rate, 60) for rate in (rate, 0.3))) for rate in rates]
        false += judge([finding(one, group=str(at)) for at, one in enumerate(fair)], POLICY).verdict is Verdict.FAIL
        unfair = [share_difference(_hits(chance, 0.65, 100), _hits(chance, 0.3, 100)), *fair]
        found += judge([finding(one, group=str(at)) for at, one in enumerate(unfair)], POLICY).verdict is Verdict.FAIL
    assert false <= 4
    assert found > 320


def _hits(chance, rate, n):
    hits = float(chance.binomial(n, rate))
    return Sums(n, hits, hits)
