"""Agreement of people on the review page, and of scorers with them."""

from datetime import UTC, datetime

import pytest

from nightshift.evaluation.reviewers import agreement_of, krippendorff_alpha
from nightshift.ledger.records import Review

# Of four observers: Krippendorff (2011), section C.
OBSERVED = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]


def test_alpha_is_that_of_the_published_example():
    units = [[value for value in unit if value != "."] for unit in zip(*OBSERVED, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=0.001)
    assert krippendorff_alpha([[True, True], [False, False]]) == 1
    assert krippendorff_alpha([[True, False], [False, True]]) < 0
    assert krippendorff_alpha([[True], [True, True]]) is None


def said(key, good, by="ann", chosen="random"):
    return Review(
        interval="2026-11-03", key=key, digest="d", chosen=chosen, version="1", good=good, by=by,
        at=datetime(2026, 11, 4, tzinfo=UTC),
    )  # fmt: skip


def test_a_judge_is_held_against_people_on_what_was_chosen_by_chance():
    good = {f"a{number}": number % 3 > 0 for number in range(30)}
    scores = {key: {"judge": 0.9 if (value or key == "a0") else 0.2, "toxicity": 0.5} for key, value in good.items()}
    scores |= {f"low{number}": {"judge": 0.9} for number in range(30)}
    reviews = [said(key, value) for key, value in good.items()]
    reviews += [said("a0", False, by="ben"), said("a1", False, by="ben")]  # on a1 they disagree, so it has no majority
    reviews += [said(f"low{number}", False, chosen="lowest") for number in range(30)]
    found = agreement_of(reviews, scores)
    assert (found["reviewers"], found["reviews"], found["answers"], found["answers_of_several"]) == (2, 62, 60, 2)
    assert found["strata"] == {"lowest": {"answers": 30, "bad": 30}, "random": {"answers": 29, "bad": 10}}
    judge = found["scorers"]["judge"]
    assert judge["answers"] == 29
    assert judge["agrees"] == pytest.approx(28 / 29)
    assert judge["low"] < judge["agrees"] < judge["high"]
    assert judge["auc"] == pytest.approx(0.95)
    assert found["scorers"]["toxicity"]["auc"] == 0.5


def test_few_reviews_say_nothing_of_a_judge():
    found = agreement_of([said("a", True)], {"a": {"judge": 1.0}})
    assert found["alpha"] is None
    assert found["scorers"]["judge"] == {"answers": 1, "good": 1, "auc": None}
