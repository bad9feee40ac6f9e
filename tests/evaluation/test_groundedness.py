"""What the lexical groundedness tells apart, and what it cannot."""

import pytest

from nightshift.evaluation.groundedness import groundedness

CONTEXT = "Cards arrive within 5 working days. A replacement costs £10.50 and is sent by the customer's local branch."


@pytest.mark.parametrize(
    ("response", "score"),
    [
        ("Your card arrives within 5 working days.", 1.0),
        ("The replacement costs £10.50.", 1.0),
        ("It is the customer\u2019s branch that sends it.", 2 / 3),
        ("Mortgage rates fell sharply in Norway.", 0.0),
        ("A replacement costs £99.", 2 / 3),
        ("REPLACEMENT cost 10.50", 1.0),
    ],
)
def test_it_is_the_share_of_content_words_that_the_context_has(response, score):
    assert groundedness(response, CONTEXT) == pytest.approx(score)


def test_a_response_without_content_words_cannot_be_told():
    assert groundedness("Yes, it is.", CONTEXT) is None
    assert groundedness("", CONTEXT) is None


def test_a_contradiction_in_the_contexts_own_words_is_not_seen():
    assert groundedness("Cards never arrive within 5 working days.", CONTEXT) >= 0.8


@pytest.mark.parametrize(
    ("response", "context", "score"),
    [
        ("Карта придёт завтра", "Завтра придёт карта", 1.0),
        ("कार्ड रास्ते में", "कार्ड बैंक में", 2 / 3),
        ("卡片丢失", "您的卡片已经丢失", 2 / 3),  # 卡片 and 丢失, not 片丢
        ("卡片丢失", "失去 丢人 片子 卡住", 0.0),  # the same characters in other words
        ("-5", "5 degrees", 0.0),
    ],
)
def test_a_response_in_another_script_has_words_too(response, context, score):
    assert groundedness(response, context) == pytest.approx(score)
