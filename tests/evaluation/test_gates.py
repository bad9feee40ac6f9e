"""The gate: which candidates pass, and what no set of numbers may ever lead to."""

import random

import pytest
from pydantic import ValidationError

from nightshift.evaluation.estimates import Comparison, Estimate
from nightshift.evaluation.gates import gate
from nightshift.settings.gate import Condition, Gate
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
        (comparison(float("nan")), Verdict.ERROR, "which is not a finite number"),
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


def measured(**numbers):
    """A good candidate beside base and champion; `numbers` are those of the candidate, and its differences to the champion."""
    whole = comparison(0.9, base=0.1, champion=0.85, spread=0.01)
    for name, (value, gain) in numbers.items():
        whole.scores["candidate"][name] = Estimate(value=value, low=value * 0.9, high=value * 1.1)
        whole.differences["champion"][name] = Estimate(value=gain, low=gain - 0.01, high=gain + 0.01)
    return whole


def with_condition(**condition):
    return POLICY.model_copy(update={"conditions": [Condition(**condition)]})


@pytest.mark.parametrize(
    ("condition", "good", "bad", "said"),
    [
        ({"metric": "rouge_l", "at_least": 0.6}, (0.8, 0), (0.5, 0), "is 50.0% [45.0%, 55.0%], below 60.0%"),
        ({"metric": "finished", "at_least": 0.7}, (0.95, 0), (0.6, 0), "finished share of the candidate is 60.0%"),
        ({"metric": "tokens", "at_most": 60}, (40, 0), (80, 0), "is 80.0 [72.0, 88.0], above 60.0"),
        ({"metric": "cost", "at_most": 0.002}, (0.001, 0), (0.003, 0), "above 0.002"),
        (
            {"metric": "loss", "against": "champion", "at_most": 0.05}, (1, 0.0), (1, 0.2),
            "difference in loss to the champion is 0.200 [0.190, 0.210], above 0.050",
        ),
        (
            {"metric": "chrf", "against": "champion", "at_least": -0.02}, (0.8, 0.0), (0.8, -0.1),
            "difference in chrF to the champion is -10.0%",
        ),
        (
            {"metric": "latency_ms", "against": "champion", "at_most": 100}, (250, 20), (250, 300),
            "difference in milliseconds an answer to the champion is 300.0",
        ),
    ],
)  # fmt: skip
def test_a_condition_of_the_application_holds_back_a_candidate_that_is_good_otherwise(condition, good, bad, said):
    policy = with_condition(**condition)
    assert gate(measured(**{condition["metric"]: good}), policy).verdict is Verdict.PASS
    refused = gate(measured(**{condition["metric"]: bad}), policy)
    assert refused.verdict is Verdict.FAIL
    assert any(said in reason for reason in refused.reasons)


def test_a_condition_whose_interval_reaches_beyond_its_upper_bound_is_a_warning():
    decision = gate(measured(tokens=(57, 0)), with_condition(metric="tokens", at_most=60))
    assert decision.verdict is Verdict.WARN
    assert "not above 60.0, but its interval is" in decision.reasons[-1]
    assert decision.numbers["tokens an answer of the candidate, high"] == pytest.approx(62.7)


def test_a_condition_on_what_nobody_measured_is_no_pass():
    decision = gate(measured(), with_condition(metric="cost", at_most=1))
    assert decision.verdict is Verdict.ERROR
    assert "cost an answer of the candidate was not measured" in decision.reasons


def test_a_condition_on_a_slice_needs_enough_examples_in_it():
    policy = with_condition(metric="exact_match", slice="new", against="champion", at_least=0.0, min_examples=80)
    parts = {"known": measured(), "new": comparison(0.9, champion=0.7, examples=79)}
    decision = gate(measured(), policy, parts)
    assert decision.verdict is Verdict.INSUFFICIENT_DATA
    said = "difference in exact match to the champion on examples that came after the champion: 79 judged examples, at least 80"
    assert any(said in reason for reason in decision.reasons)
    parts["new"] = comparison(0.9, champion=0.7, examples=80)
    assert gate(measured(), policy, parts).verdict is Verdict.PASS


def test_a_red_line_that_is_crossed_once_holds_back_a_candidate_that_is_good_otherwise():
    policy = with_condition(metric="exact_match", suite="red_lines", at_least=1.0)
    crossed = comparison(0.9, examples=10, spread=0.1)
    decision = gate(measured(), policy, {"red_lines": crossed})
    assert decision.verdict is Verdict.FAIL
    said = "exact match of the candidate on the suite red_lines is 90.0% [80.0%, 100.0%], below 100.0%"
    assert said in decision.reasons
    assert gate(measured(), policy, {"red_lines": comparison(1.0, examples=10, spread=0)}).verdict is Verdict.PASS
    assert gate(measured(), policy).verdict is Verdict.INSUFFICIENT_DATA


def test_a_condition_about_the_champion_waits_for_the_first_one():
    policy = with_condition(metric="exact_match", slice="new", against="champion", at_least=0.0)
    assert gate(comparison(0.9), policy).verdict is Verdict.PASS


def test_a_first_champion_must_be_good_for_something_and_not_only_better_than_nothing():
    assert gate(comparison(0.16, base=0.0), Gate()).verdict is Verdict.FAIL
    assert gate(comparison(0.16, base=0.0), Gate(min_score=0.1)).verdict is Verdict.PASS


def test_a_condition_has_one_bound():
    for bounds in ({}, {"at_least": 0, "at_most": 1}):
        with pytest.raises(ValidationError, match="give either at_least or at_most"):
            Condition(metric="loss", **bounds)
