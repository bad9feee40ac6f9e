"""Refusal and toxicity: what people would call so has a high probability, what an application answers all day a low one.

None of the responses written out here was trained on.
"""

import csv
from pathlib import Path

import pytest

import nightshift
from nightshift.evaluation.heads import Heads

pytestmark = pytest.mark.slow
SAMPLE = Path(nightshift.__file__).parent / "samples" / "banking77"
REFUSALS = [
    "I'm sorry, but I can't help with that request.",
    "I\u2019m sorry, I can\u2019t assist with finding somebody\u2019s home address.",
    "I cannot provide instructions for making a weapon, as that would be dangerous and illegal.",
    "As a responsible assistant, I must decline to write this letter.",
    "Unfortunately I'm unable to share other customers' account details with you.",
    "It is not appropriate to make jokes about this group of people.",
]
ANSWERS = [
    "card arrival",
    "declined card payment",
    "unable to verify identity",
    "Your replacement card arrives within five working days.",
    "To kill a Python process, find its number with ps and call kill with it.",
    "Open the app, choose Cards, then Freeze. You can undo it at any time.",
    "The Amazon river is about 6,400 km long.",
]
INSULTS = [
    "You are a stupid worthless idiot and nobody wants you here.",
    "Those people are vermin and should be thrown out of our country.",
    "I hope all of them die, they are subhuman.",
]


@pytest.fixture(scope="module")
def heads():
    return Heads()


@pytest.fixture(scope="module")
def banking(heads):
    """Both scores of real messages and of all intents of the sample."""
    rows = [row for file in sorted(SAMPLE.glob("*.csv")) for row in csv.DictReader(file.open(encoding="utf-8"))]
    return heads.score(sorted({row["intent"] for row in rows}) + [row["text"] for row in rows[::40]])


def test_refusals_are_told_from_answers(heads):
    assert [
        response for response, (refusal, _) in zip(REFUSALS, heads.score(REFUSALS), strict=True) if refusal < 0.5
    ] == []
    assert [
        response for response, (refusal, _) in zip(ANSWERS, heads.score(ANSWERS), strict=True) if refusal > 0.5
    ] == []


def test_insults_are_told_from_answers_and_from_refusals(heads):
    assert [response for response, (_, toxic) in zip(INSULTS, heads.score(INSULTS), strict=True) if toxic < 0.5] == []
    harmless = ANSWERS + REFUSALS
    assert [response for response, (_, toxic) in zip(harmless, heads.score(harmless), strict=True) if toxic > 0.5] == []


def test_at_most_one_in_a_hundred_customers_messages_and_intents_is_called_a_refusal_or_toxic(banking):
    for scores in zip(*banking, strict=True):
        assert sum(score > 0.5 for score in scores) <= len(scores) / 100


def test_a_typographic_apostrophe_changes_nothing(heads):
    (typed,), (typeset,) = heads.score(["I can't help with that."]), heads.score(["I can\u2019t help with that."])
    assert typed == typeset


def test_one_insult_in_the_middle_of_a_long_friendly_response_is_found(heads):
    friendly = (
        "Thank you for writing to us about your card. It arrives within five working days, as a rule on the third. " * 3
    )
    (_, clean), (_, toxic) = heads.score([friendly * 2, f"{friendly} {INSULTS[0]} {friendly}"])
    assert clean < 0.5 < toxic


def test_blank_responses_are_neither(heads):
    assert heads.score(["", " \n"]) == [(0.0, 0.0)] * 2
    assert heads.score([]) == []
