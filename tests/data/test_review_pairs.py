"""Between which answers of a shadow people choose."""

import pytest

from nightshift.data.review_pairs import drawn_pairs


def pair(champion, candidate, unit="u", digest="d"):
    digests = {"champion_model_digest": "7", "candidate_model_digest": "8"}
    return {"champion": champion, "candidate": candidate, "unit": unit, "digest": digest, **digests}


@pytest.mark.parametrize(
    ("champion", "candidate", "drawn"),
    [
        ("Yes.", "No.", True),
        ("if x:\n    pass", "if x:\n  pass", True),
        ("Yes.\n", "Yes.", False),
        ("a \nb", "a\nb", False),
        ("Yes.", " ", False),
        ("x" * 20_000 + "a", "x" * 20_000 + "b", False),
    ],
)
def test_both_answers_say_something_and_look_different(champion, candidate, drawn):
    assert bool(drawn_pairs([pair(champion, candidate)], 4)) is drawn


def test_of_who_asked_often_one_pair_is_drawn():
    asked = [pair("Yes.", f"No {n}.", unit=f"user {n % 3}", digest=str(n)) for n in range(30)]
    assert sorted(one["unit"] for one in drawn_pairs(asked, 20)) == ["user 0", "user 1", "user 2"]
    assert drawn_pairs(asked, 2) == drawn_pairs(asked[::-1], 2) == drawn_pairs(asked, 20)[:2]
