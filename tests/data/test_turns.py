"""Conversations in the forms that people keep them in, as turns."""

import json

import pytest

from nightshift.data.normalise import clean
from nightshift.data.quarantine import Unusable
from nightshift.data.turns import turns_of


def turns(value):
    return [tuple(turn)[:2] for turn in turns_of(value, "'chat'", lambda text, _where: clean(text))]


def test_a_system_message_and_the_turns_are_kept():
    said = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "Goodbye")]
    assert turns([{"role": role, "content": content} for role, content in said]) == said


def test_sharegpt_is_the_same_in_other_words():
    said = [("system", "Be kind."), ("human", "Hi"), ("gpt", "Hello")]
    assert turns([{"from": role, "value": text} for role, text in said]) == [
        ("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello")
    ]  # fmt: skip


def test_fields_of_another_form_that_are_null_are_not_there():
    nulls = {"role": None, "content": None, "tool_calls": None, "refusal": None}
    assert turns([nulls | {"from": "human", "value": "Hi"}, nulls | {"from": "gpt", "value": "Hello"}]) == [
        ("user", "Hi"), ("assistant", "Hello")
    ]  # fmt: skip


def test_a_conversation_may_come_as_json_text_and_end_with_the_user():
    assert turns(json.dumps([{"role": "user", "content": "Hi"}])) == [("user", "Hi")]


def test_several_system_messages_at_the_beginning_are_one_and_an_empty_one_is_none():
    texts = ["You work for a bank.", " ", "Be brief."]
    messages = [{"role": "developer", "content": text} for text in texts] + [{"role": "user", "content": "Hi"}]
    assert turns(messages) == [("system", "You work for a bank.\n\nBe brief."), ("user", "Hi")]


@pytest.mark.parametrize(
    "last",
    [
        {"content": ""}, {"content": None}, {}, {"content": "\u200b"}, {"content": []}, {"content": "no", "weight": 0},
        {"content": "no", "weight": "0"}, {"content": "no", "weight": " 0.0"},
    ],
)  # fmt: skip
def test_an_empty_answer_at_the_end_is_unknown(last):
    assert turns([{"role": "user", "content": "is the shop open"}, {"role": "assistant"} | last]) == [
        ("user", "is the shop open")
    ]


def test_parts_of_text_are_one_text_and_a_refusal_is_what_was_said():
    parts = [{"type": "text", "text": "Where is"}, {"type": "text", "text": "my parcel?"}]
    refused = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
    assert turns([{"role": "user", "content": parts}, refused]) == [
        ("user", "Where is\nmy parcel?"), ("assistant", "I cannot help with that.")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        {"content": [{"type": "refusal", "refusal": "No."}]},
        {"content": [{"text": "No."}]},
        {"content": [{"type": None, "text": "No.", "image": None}]},
        {"content": None, "parts": [{"text": "No."}]},
        {"parts": [{"text": "I should refuse", "thought": True}, {"text": "No.", "thoughtSignature": "x"}]},
        {"text": "No."},
    ],
)
@pytest.mark.parametrize("role", ["model", "bot", "bard", "bing"])
def test_what_the_formats_of_other_providers_say_is_read(role, answer):
    asked = {"role": "user", "parts": [{"text": "May I"}, {"text": "come in?"}]}
    assert turns([asked, {"role": role} | answer]) == [("user", "May I\ncome in?"), ("assistant", "No.")]


@pytest.mark.parametrize("part", [{"image": {"format": "png"}}, {"text": None, "image": {"format": "png"}},
                                  {"text": "look", "image": {"format": "png"}}])  # fmt: skip
def test_a_part_without_a_type_is_refused_by_the_name_of_its_field(part):
    with pytest.raises(Unusable, match=r"not_text_part.*'image'"):
        turns([{"role": "user", "content": [part]}])


def test_only_a_system_message_is_no_conversation():
    with pytest.raises(Unusable, match="missing_prompt"):
        turns([{"role": "system", "content": "Be kind."}])


@pytest.mark.parametrize("weight", [1, "1", None, "", "none"])
def test_an_answer_of_another_weight_is_kept(weight):
    asked, answered = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "weight": weight}
    assert turns([asked, answered])[-1] == ("assistant", "Hello")
