"""How often the chosen answer of a pair is the likelier one, over the pairs that every model could read."""

import pytest

from nightshift.evaluation.estimates import Comparison
from nightshift.evaluation.gates import gate
from nightshift.evaluation.preferences import add_preferences
from nightshift.settings.gate import Gate
from nightshift.verdict import Verdict


def compared(told):
    comparison = Comparison(examples=100, scores={role: {} for role in told}, differences={"champion": {}})
    add_preferences(comparison, told)
    return comparison


def test_only_pairs_that_all_models_read_count_and_gains_are_of_the_same_pairs():
    found = compared({"champion": [None, 0.0, 1.0, 0.0, None], "candidate": [None, 1.0, 1.0, 0.0, 1.0]})
    assert found.pairs == 3
    assert found.scores["champion"]["preference_accuracy"].value == pytest.approx(1 / 3)
    assert found.scores["candidate"]["preference_accuracy"].value == pytest.approx(2 / 3)
    assert found.differences["champion"]["preference_accuracy"].value == pytest.approx(1 / 3)


@pytest.mark.parametrize("told", [[], [None] * 100, [1.0] * 49])
def test_few_pairs_or_none_are_no_pass_however_many_examples_there_are(told):
    policy = Gate(conditions=[{"metric": "preference_accuracy", "at_least": 0.5}])
    decision = gate(compared({"champion": told, "candidate": told}), policy)
    assert decision.verdict is not Verdict.PASS
    count = sum(value is not None for value in told)
    assert (
        f"preference accuracy of the candidate: {count} judged preference pairs, at least 50 are asked for"
        in decision.reasons
    )
