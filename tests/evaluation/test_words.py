"""What counts as the same word or number."""

import pytest

from nightshift.data.words import words


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a\u200bb", "ab"),
        ("co\u00adop", "coop"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645",
        ),  # Persian, zero-width non-joiner
        ("e\u034f\u0301", "\u00e9"),
        ("\ufeffcard \u2764\ufe0f", "card"),
    ],
)
def test_what_nobody_sees_makes_no_other_word(text, same):
    assert words(text) == words(same)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("\u0661\u0662\u0663", "123"),  # Arabic
        ("\u06f3\u066b\u06f1\u06f4", "3.14"),  # Persian, with its decimal separator
        ("\u0661\u066c\u0662\u0665\u0660", "1,250"),
        ("-\u0967\u0968", "-12"),  # Devanagari
        ("\u0e51\u0e52", "12"),  # Thai
        ("\uff11\uff12", "12"),
    ],
)
def test_a_number_is_the_same_in_the_digits_of_every_script(text, same):
    assert words(text) == words(same) == [same]
