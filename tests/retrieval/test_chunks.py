"""Passages cover a document once, overlap as asked, and are made of words of any script."""

from itertools import pairwise

import pytest

from nightshift.retrieval.chunks import chunks
from nightshift.settings.retrieval import Chunk

SETTINGS = Chunk(words=20, overlap=5)


@pytest.mark.parametrize(
    "text", ["word " * 100, "猫が好きです。" * 30, "слово, " * 73, "คำภาษาไทย" * 20, "🇩🇪 flag " * 50]
)
def test_passages_hold_a_whole_text_in_order_and_each_begins_with_the_end_of_the_one_before(text):
    found = list(chunks(text, SETTINGS))
    assert len(found) > 2
    assert (found[0][0], found[-1][1]) == (0, len(text))
    assert all(one[0] < other[0] < one[1] < other[1] for one, other in pairwise(found))


def test_a_short_text_is_one_passage_and_one_without_a_word_is_none():
    assert list(chunks("Only three words.", SETTINGS)) == [(0, 17)]
    assert list(chunks(" … !? ", SETTINGS)) == []
