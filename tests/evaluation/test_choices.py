"""What people prefer of two answers, and how far they and scorers agree on it."""

from datetime import UTC, datetime

import pytest
from scipy.stats import binomtest

from nightshift.evaluation.choices import agreement_of_choices, preference_of
from nightshift.ledger.records import Review


def chose(key, better, by="ann", first="champion"):
    return Review(
        interval="2026-11-03", key=key, digest="d", chosen="pair", shadow="s", version="1", candidate="2", better=better,
        first=first, good=better != "neither", by=by, at=datetime(2026, 11, 4, tzinfo=UTC),
    )  # fmt: skip


def test_a_pair_counts_once_however_many_chose():
    choices = [chose("won", "candidate", by) for by in ("ann", "ben", "eve")]
    choices += [chose("lost", "champion"), chose("lost", "champion", "ben"), chose("lost", "candidate", "eve")]
    choices += [chose("split", "champion"), chose("split", "candidate", "ben")]
    choices += [
        chose("alike", "same"),
        chose("bad", "neither"),
        chose("unsure", "neither"),
        chose("unsure", "same", "ben"),
    ]
    found = preference_of(choices)
    assert (found.candidate, found.champion, found.same, found.neither, found.pairs) == (1, 1, 3, 1, 6)
    wilson = binomtest(1, 2).proportion_ci(method="wilson")
    assert found.share == pytest.approx((0.5, wilson.low, wilson.high))


def test_without_a_preference_there_is_no_share():
    assert preference_of([]).share is None
    assert preference_of([chose("alike", "same")]).share is None


def test_scorers_are_held_against_what_most_people_prefer():
    sides = ["candidate" if number % 3 else "champion" for number in range(30)]
    choices = [chose(str(number), side) for number, side in enumerate(sides)]
    choices += [chose("0", "champion", "ben"), chose("1", "champion", "ben"), chose("gone", "candidate")]
    pairs = {
        str(number): {
            "champion_scores": {"judge": 0.5, "valid": 1},
            "candidate_scores": {"judge": 0.4 + number % 3 / 5, "valid": 1},
        }
        for number in range(30)
    }
    found = agreement_of_choices(choices, pairs)
    assert (found["reviewers"], found["choices"], found["pairs"], found["pairs_of_several"]) == (2, 33, 31, 2)
    assert found["alpha"] == pytest.approx(0, abs=0.01), "as often the same as not"
    assert found["first"] == pytest.approx(12 / 33)
    judge = found["scorers"]["judge"]
    assert (judge["pairs"], judge["equal"], judge["agrees"]) == (29, 0, 1), "the one on which people differ is left out"
    assert judge["low"] < 1 == judge["high"]
    assert found["scorers"]["valid"] == {"pairs": 29, "equal": 29, "agrees": None}
