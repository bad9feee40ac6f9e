"""What a model thinks is no part of its answer."""

import pytest

from nightshift.inference.reasoning import apart


@pytest.mark.parametrize(
    ("text", "begun", "expected"),
    [
        ("card arrival", False, ("", "card arrival")),
        ("<think>\nIt waits.\n</think>\n\ncard arrival", False, ("It waits.", "card arrival")),
        ("It waits.\n</think>\n\ncard arrival", True, ("It waits.", "card arrival")),
        ("It waits.</think>card arrival", False, ("It waits.", "card arrival")),
        ("<think>It wai", False, ("It wai", "")),
        ("It wai", True, ("It wai", "")),
        ("<think></think>card arrival", False, ("", "card arrival")),
        ("a < b, so <think> is a tag", False, ("", "a < b, so <think> is a tag")),
        ("", False, ("", "")),
    ],
)
def test_reasoning_is_told_from_the_answer(text, begun, expected):
    assert apart(text, begun) == expected
