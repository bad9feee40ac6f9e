"""Held-out rows that resemble training rows: found as an exhaustive comparison finds them."""

import csv
from pathlib import Path

import pytest

import nightshift
from nightshift.data.leakage import HeldOut, asked, shingles, similarity

SAMPLE = Path(nightshift.__file__).parent / "samples" / "banking77"


def messages(text):
    return asked([{"role": "user", "content": text}, {"role": "assistant", "content": "an answer"}])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("How do I get a real card?", "how do i   get a REAL card?", True),
        ("How is my card payment still pending?", "Why is my card payment still pending?", True),
        ("I withdrew cash and was charged. Why?", "I withdrew cash and was charged", True),
        ("Where is my card?", "Where is my refund?", False),
        ("ok", "ok", True),
        ("", "", True),
        ("", "ok", False),
    ],
)
def test_case_spaces_and_a_word_do_not_make_another_question(one, other, same):
    held_out = HeldOut({"one": messages(one)})
    held_out.take_away([("other", messages(other))])
    assert held_out.seen == ({"one": "other"} if same else {})


def test_a_conversation_counts_with_all_that_was_said_before_the_last_answer():
    first = [
        {"role": "user", "content": "My card is gone."},
        {"role": "assistant", "content": "Where did you lose it?"},
    ]
    second = [*first, {"role": "user", "content": "In a taxi."}, {"role": "assistant", "content": "I froze it."}]
    assert asked(first) == "my card is gone."
    assert asked(second) == "my card is gone. where did you lose it? in a taxi."
    assert asked(second[:3]) == asked(second)


def test_a_system_message_that_rows_share_does_not_make_them_alike():
    rules = {"role": "system", "content": "You work for a bank. " * 50}
    asked_of_two = [
        asked([rules, {"role": "user", "content": text}]) for text in ("Where is my card?", "I want a loan")
    ]
    assert asked_of_two == ["where is my card?", "i want a loan"]


def test_on_real_messages_it_finds_what_comparing_all_with_all_finds():
    texts = []
    for path in sorted(SAMPLE.glob("*.csv"))[:2]:
        with path.open() as file:
            texts += [messages(row["text"]) for row in csv.DictReader(file)]
    trained = [(f"t{number}", text) for number, text in enumerate(texts[::2])]
    judged = {f"h{number}": text for number, text in enumerate(texts[1::4])}
    # Of some training messages, variants that lack a word at one end.
    judged |= {f"first{number}": text.partition(" ")[2] for number, text in enumerate(texts[:400:8])}
    judged |= {f"last{number}": text.rpartition(" ")[0] for number, text in enumerate(texts[4:400:8])}
    expected = set()
    sets = [shingles(text) for _, text in trained]
    for digest, text in judged.items():
        own = shingles(text)
        sizes = (0.8 * len(own), len(own) / 0.8)
        if any(similarity(own, other) >= 0.8 for other in sets if sizes[0] <= len(other) <= sizes[1]):
            expected.add(digest)
    held_out = HeldOut(judged)
    held_out.take_away(trained)
    assert set(held_out.seen) == expected
    assert 20 < len(expected) < 120


def test_nothing_held_out_and_nothing_trained_are_fine():
    HeldOut({}).take_away([("one", "text")])
    held_out = HeldOut({"one": "text"})
    held_out.take_away([])
    assert held_out.seen == {}
