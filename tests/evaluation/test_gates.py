"""The gate: which candidates pass, and what no set of numbers may ever lead to."""

import random

import pytest

from nightshift.evaluation.estimates import Comparison, Estimate
from nightshift.evaluation.gates import gate
from nightshift.settings.application import Gate
from nightshift.verdict import Verdict

POLICY = Gate(min_examples=50, min_score=0.5, min_gain_over_base=0.1, max_loss_to_champion=0.02)
ORDER = list(Verdict)


def estimate(value, spread=0.04):
    return {"exact_match": Estimate(value=value, low=value - spread, high=value + spread)}


def comparison(candidate, base=0.0, champion=None, examples=300, spread=0.04):
    others = {"base": base} | ({} if champion is None else {"champion": champion})
    return Comparison(
        examples=examples,
        scores={"candidate": estimate(candidate, spread)} | {role: estimate(v, spread) for role, v in others.items()},
        differences={role: estimate(candidate - value, spread) for role, value in others.items()},
    )


def test_a_clearly_better_candidate_passes_and_the_reasons_hold_the_numbers():
    decision = gate(comparison(0.9, champion=0.7), POLICY)
    assert decision.verdict is Verdict.PASS
    assert decision.reasons == [
        "exact match of the candidate is 90.0% [86.0%, 94.0%], at least 50.0%",
        "gain in exact match over the base model is 90.0% [86.0%, 94.0%], at least 10.0%",
        "difference in exact match to the champion is 20.0% [16.0%, 24.0%], at least -2.0%",
    ]
    assert decision.numbers["examples"] == 300


@pytest.mark.parametrize(
    ("measured", "verdict", "said"),
    [
        (comparison(0.4), Verdict.FAIL, "below 50.0%"),
        (comparison(0.6, base=0.55), Verdict.FAIL, "gain in exact match over the base model is 5.0%"),
        (comparison(0.8, champion=0.9), Verdict.FAIL, "difference in exact match to the champion is -10.0%"),
        (comparison(0.52), Verdict.WARN, "not below 50.0%, but its interval is"),
        (comparison(0.8, champion=0.8), Verdict.WARN, "not below -2.0%, but its interval is"),
        (comparison(0.8, champion=0.8, spread=0.01), Verdict.PASS, "at least -2.0%"),
        (comparison(1.0, examples=49), Verdict.INSUFFICIENT_DATA, "49 judged examples, at least 50"),
        (comparison(float("nan")), Verdict.ERROR, "which is no number"),
        (Comparison(examples=300, scores={"base": estimate(0.1)}, differences={}), Verdict.ERROR, "was not measured"),
    ],
)
def test_each_condition_has_its_verdict_and_its_reason(measured, verdict, said):
    decision = gate(measured, POLICY)
    assert decision.verdict is verdict
    assert any(said in reason for reason in decision.reasons)


def test_no_numbers_at_all_are_no_pass():
    assert gate(Comparison(examples=0, scores={}, differences={}), POLICY).verdict is Verdict.INSUFFICIENT_DATA


def test_a_better_candidate_never_gets_a_worse_verdict():
    chance = random.Random(1)
    for _ in range(2_000):
        base, champion = chance.random(), chance.choice([None, chance.random()])
        worse, better = sorted([chance.random(), chance.random()])
        spread, examples = chance.random() / 5, chance.choice([10, 50, 300])
        low = gate(comparison(worse, base, champion, examples, spread), POLICY).verdict
        high = gate(comparison(better, base, champion, examples, spread), POLICY).verdict
        assert ORDER.index(high) <= ORDER.index(low)


def test_a_pass_means_that_every_interval_lies_beyond_its_bound():
    chance = random.Random(2)
    for _ in range(2_000):
        candidate, base, champion = chance.random(), chance.random(), chance.choice([None, chance.random()])
        measured = comparison(candidate, base, champion, chance.randrange(1, 100), chance.random() / 10)
        if gate(measured, POLICY).verdict is Verdict.PASS:
            assert measured.examples >= 50
            assert measured.scores["candidate"]["exact_match"].low >= 0.5
            assert measured.differences["base"]["exact_match"].low >= 0.1
            assert champion is None or measured.differences["champion"]["exact_match"].low >= -0.02
