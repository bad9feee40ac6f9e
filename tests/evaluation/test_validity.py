"""Which responses count as valid, by the format that an application asks for."""

import pytest

from nightshift.evaluation.validity import is_valid


@pytest.mark.parametrize(
    ("response", "reason", "response_format", "valid"),
    [
        ("card arrival", "stop", "text", True),
        ("two\nlines", "stop", "text", True),
        (" \n\t", "stop", "text", False),
        ("", "stop", "text", False),
        ("\u200b\u2060 \ufe0f", "stop", "text", False),
        (" \u200b", "stop", "line", False),
        ("\u2800\u2800", "stop", "text", False),
        ("cut in the mid", "length", "text", False),
        ("served elsewhere", None, "text", True),
        ("card arrival\n", "stop", "line", True),
        ("card arrival\n\nIs there anything else?", "stop", "line", False),
        ("card arrival\u2028lost card", "stop", "line", False),
        ("", "stop", "line", False),
        ('{"intent": "card arrival"}', "stop", "json", True),
        ('[{"intent": "card arrival"}]\n', "stop", "json", True),
        ('"card arrival"', "stop", "json", False),
        ("12", "stop", "json", False),
        ('```json\n{"intent": 1}\n```', "stop", "json", False),
        ('{"intent": NaN}', "stop", "json", False),
        ('{"intent": "card', "length", "json", False),
        ("[" * 200_000, "stop", "json", False),
    ],
)
def test_a_response_is_valid_when_it_is_whole_and_has_the_form(response, reason, response_format, valid):
    assert is_valid(response, reason, response_format) is valid
