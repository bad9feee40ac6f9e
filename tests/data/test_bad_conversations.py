"""Conversations that cannot be learned from: each is set aside with its reason."""

import pytest
from raw_rows import jsonl

from nightshift.settings.intake import Columns

BAD_MESSAGES = {
    "no list": "hello",
    "an empty list": [],
    "a message that is a text": ["hello"],
    "no role": [{"content": "hello"}],
    "no content": [{"role": "user"}],
    "an unknown role": [{"role": "root", "content": "hello"}],
    "the assistant first": [{"role": "assistant", "content": "hello"}],
    "the user twice": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    "an empty answer that is not the last": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": " "}, {"role": "user", "content": "b"}
    ],
    "a system message between the turns": [
        {"role": "user", "content": "a"}, {"role": "system", "content": "b"}, {"role": "assistant", "content": "c"}
    ],
    "a part that is none": [{"role": "user", "content": [7]}],
    "json text that is nested too deep": "[" * 600 + "]" * 600,
}  # fmt: skip


@pytest.mark.parametrize("messages", BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_a_conversation_that_is_none_is_set_aside(ingest, source_of, messages):
    source = source_of("a.jsonl", jsonl({"messages": messages}), columns=Columns(messages="messages"))
    assert [aside["reason"] for aside in ingest(source).quarantine] == ["bad_messages"]


TOOLS = {
    "a call": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}],
    "a call of the old form": [{"role": "user", "content": "a"}, {"role": "assistant", "function_call": {"name": "f"}}],
    "a result": [{"role": "user", "content": "a"}, {"role": "tool", "content": "42"}],
    "a call as ShareGPT has it": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{}"}],
}


@pytest.mark.parametrize("messages", TOOLS.values(), ids=TOOLS)
def test_a_conversation_with_tools_is_set_aside_by_name(ingest, source_of, messages):
    source = source_of("a.jsonl", jsonl({"messages": messages}), columns=Columns(messages="messages"))
    assert [aside["reason"] for aside in ingest(source).quarantine] == ["tool_calls"]


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
def test_a_part_that_is_no_text_is_refused_by_its_name(ingest, source_of, kind):
    parts = [{"type": "text", "text": "what is this?"}, {"type": kind, kind: {"url": "https://example.org/a.png"}}]
    source = source_of("a.jsonl", jsonl({"m": [{"role": "user", "content": parts}]}), columns=Columns(messages="m"))
    (aside,) = ingest(source).quarantine
    assert aside["reason"] == "not_text_part"
    assert kind in aside["detail"]
