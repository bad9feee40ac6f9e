"""The same said in other words is similar, another thing is not, and a language that nobody knows has no number."""

import pytest

from nightshift.evaluation.similarity import similarities

WANTED = "You can cancel the transfer in the app as long as it is pending."


def test_the_same_in_other_words_is_more_similar_than_another_thing_in_the_same_words():
    same, other, equal, nothing = similarities(
        ["While a payment has not gone through yet, just stop it from within the application.",
         "You can open the door of the shop as long as it is daytime.", WANTED, "  "],
        [WANTED] * 4, ["en"] * 4,
    )  # fmt: skip
    assert same > other + 0.1
    assert equal == pytest.approx(1, abs=1e-3)
    assert nothing == 0


def test_a_language_that_the_embedder_does_not_know_has_no_number():
    assert similarities(["Die Karte ist da."], ["Die Karte ist da."], ["de"]) == [None]
    assert similarities(["ok"], ["ok"], ["und"]) == [pytest.approx(1, abs=1e-3)]
