"""A released version is a breach where its answers are shown to be worse than promised, and by more than the margin; else not."""

import numpy as np
import pytest
from scipy.stats import binom, norm
from simulated_releases import LEVEL, RELEASES, breaches, passed_promises, promises

from nightshift.evaluation.estimates import Estimate
from nightshift.evaluation.paired import kinds_of
from nightshift.evaluation.rails import rail_values
from nightshift.monitoring.promise import Promise, fell, level_of_look, measures_of, shares, verdict_of
from nightshift.settings.watch import Watch
from nightshift.verdict import Verdict

PROMISE = Promise("shadow", {"exact_match": shares(0.75, 400), "valid": shares(0.99, 400)})


def interval(look, right, of=300, *, valid=1.0, judge=None, reference=True, subjects=None):
    """Rows of an interval, of which so many are right."""
    return [
        {
            "look": look, "unit": f"{look} {n % (subjects or of)}", "reference": float(n < right) if reference else None,
            "judge": judge, "valid": float(n < valid * of),
        }
        for n in range(of)
    ]  # fmt: skip


def said(rows, promise=PROMISE, **settings):
    watch = Watch(**settings)
    measures = measures_of(promise, rows, max(row["look"] for row in rows), watch, rails=watch, metric="exact_match")
    return measures, *verdict_of(measures, promise.scores, watch, watch)


@pytest.mark.parametrize(
    ("right", "verdict"),
    [(240, Verdict.PASS), (225, Verdict.PASS), (212, Verdict.PASS), (207, Verdict.WARN), (180, Verdict.FAIL)],
)
def test_a_version_that_keeps_its_promise_passes_and_one_that_fell_by_more_than_the_margin_is_a_breach(right, verdict):
    (quality, _), found, reasons = said(interval(1, right))
    assert found is verdict
    assert (quality.promised, quality.measured) == (pytest.approx(0.75), pytest.approx(right / 300))
    assert reasons[0].startswith(f"exact match {right / 3:.1f}% in 300 rows against promised 75.0% in 400: ")


def test_a_fall_of_less_than_the_margin_is_no_breach_however_surely_it_is_shown():
    _, found, _ = said(interval(1, 22_800, of=30_000), Promise("shadow", {"exact_match": shares(0.8, 30_000)}))
    assert found is Verdict.PASS
    assert fell(Estimate(value=-0.06, low=-0.2, high=-0.01), 0.05)
    assert not fell(Estimate(value=-0.06, low=-0.2, high=0.01), 0.05)


def test_what_one_interval_does_not_show_several_do():
    rows = interval(1, 102, of=150)
    assert said(rows)[1] is Verdict.WARN
    for look in (2, 3):
        rows += interval(look, 95, of=150)
    assert said(rows)[1] is Verdict.FAIL


def test_answers_that_become_invalid_are_a_breach_whatever_else_they_are():
    _, found, reasons = said(interval(1, 300, valid=0.8))
    assert (found, "valid share 80.0%" in reasons[0]) == (Verdict.FAIL, True)


@pytest.mark.parametrize(
    ("rail", "column", "good", "bad", "title"),
    [
        ({"latency_ms": 500}, "latency_ms", 300.0, 900.0, "share in time 0.0%"),
        ({"cost_limit": 0.01}, "cost", 0.004, 0.007, "cost headroom 30.0%"),
        ({"token_limit": 200}, "generated_tokens", 100, 500, "token headroom 0.0%"),
        ({"guard_rails": ["polite"]}, "polite", 1.0, 0.5, "polite 50.0%"),
    ],
)
def test_right_answers_that_break_a_guard_rail_are_a_breach_and_a_rail_without_data_is_no_pass(
    rail, column, good, bad, title
):
    watch = Watch(**rail)
    (name,) = set(watch.rails) - {"valid"}
    promised = kinds_of(rail_values(name, [good] * 200, watch), range(200))
    promise = Promise("shadow", {**PROMISE.scores, name: promised})

    def answered(value):
        return said([{**row, column: value} for row in interval(1, 240)], promise, **rail)

    assert answered(good)[1] is Verdict.PASS
    _, found, reasons = answered(bad)
    assert (found, reasons[0].startswith(title)) == (Verdict.FAIL, True), reasons
    _, found, reasons = answered(None)
    what = title.rpartition(" ")[0]
    assert (found, f"compared in {what} with" in reasons[0]) == (Verdict.INSUFFICIENT_DATA, True)
    _, found, reasons = said(interval(1, 240), **rail)
    assert (found, reasons[0]) == (
        Verdict.INSUFFICIENT_DATA,
        f"no shadow measured {what}, so nothing was promised of it",
    )


def test_too_few_rows_are_no_pass():
    _, found, reasons = said(interval(1, 60, of=60))
    assert (found, "fewer than 100 rows" in reasons[0]) == (Verdict.INSUFFICIENT_DATA, True)
    assert said(interval(1, 0, reference=False))[1] is Verdict.INSUFFICIENT_DATA
    assert said(interval(1, 300), Promise("evaluation", {}))[1] is Verdict.INSUFFICIENT_DATA


def test_without_known_answers_the_judge_says_whether_they_became_worse():
    promise = Promise("shadow", {"judge": kinds_of([0.8] * 200, range(200))})
    measures, found, _ = said(interval(1, 0, reference=False, judge=0.6), promise)
    assert ([measure.metric for measure in measures], found) == (["judge"], Verdict.FAIL)


def test_a_few_subjects_that_ask_often_show_less_than_many_that_ask_once():
    assert said(interval(1, 195))[1] is Verdict.FAIL
    assert said(interval(1, 195, subjects=10))[1] is Verdict.WARN


def test_looks_share_the_level_whatever_the_sizes_of_their_intervals():
    rows, promised = [100, 2_000, 2_100], 400
    spent = [1 / 3, 2 / 3, 1]
    levels = [level_of_look(LEVEL, rows[:look], promised, spent[:look]) for look in (1, 2, 3)]
    assert levels[0] == pytest.approx(LEVEL / 3, abs=2e-4)
    chance = np.random.default_rng(1)
    new = np.sqrt(np.diff([0, *rows])) * chance.standard_normal((200_000, 3))
    old = chance.standard_normal((200_000, 1)) / np.sqrt(promised)
    z = (new.cumsum(axis=1) / rows - old) / np.sqrt(1 / np.array(rows) + 1 / promised)
    assert (z > norm.isf(levels)).any(axis=1).mean() == pytest.approx(LEVEL, abs=0.0025)


def wrongly(share, level):
    """Whether a share of the releases is significantly above a level."""
    return binom.sf(round(share * RELEASES) - 1, RELEASES, level) <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("intervals", [1, 3])
@pytest.mark.parametrize(("rows", "margin"), [(150, 0.05), (500, 0.05), (500, 0.0)])
def test_versions_as_good_as_promised_are_a_breach_no_more_often_than_the_level_says(intervals, rows, margin):
    found = breaches(promises(rows), 0, rows=rows, intervals=intervals, margin=margin)
    assert not wrongly(found, LEVEL / 2), found


@pytest.mark.slow
def test_versions_that_passed_their_shadow_by_luck_stay_below_the_level_too():
    found = breaches(passed_promises(240), 0, rows=250)
    assert not wrongly(found, LEVEL), found


@pytest.mark.slow
def test_subjects_that_ask_several_times_make_no_more_of_them_a_breach():
    found, as_rows = (breaches(promises(500), 0, rows=500, margin=0, size=5, as_rows=rows) for rows in (False, True))
    assert not wrongly(found, LEVEL / 2), found
    assert as_rows > 2 * LEVEL


@pytest.mark.slow
def test_a_fall_of_twice_the_margin_is_found_with_the_stated_power():
    assert breaches(promises(500), 0.10, rows=500) > 0.95
    assert breaches(promises(500), 0.10, rows=500, intervals=1) > 0.9
    assert 0.5 < breaches(promises(150), 0.10, rows=150) < 0.75
    assert breaches(promises(150), 0.15, rows=150) > 0.9
