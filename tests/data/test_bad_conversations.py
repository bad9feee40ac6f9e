"""Conversations that cannot be learned from: each is set aside with its reason."""

import json

import pytest
from raw_rows import jsonl, parquet

from nightshift.settings.intake import Columns, Ingest

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


ASKED = {"role": "user", "content": "a"}


def calling(arguments, **fields):
    return {
        "role": "assistant",
        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": arguments}} | fields],
    }


BAD_TOOLS = {
    "a result that nobody asked for": [ASKED, {"role": "tool", "content": "42"}],
    "the result of another call": [ASKED, calling("{}"), {"role": "tool", "tool_call_id": "2", "content": "42"}],
    "no result before the next answer": [ASKED, calling("{}"), {"role": "assistant", "content": "b"}],
    "one of two results": [
        ASKED, {"role": "assistant", "tool_calls": calling("{}")["tool_calls"] * 2}, {"role": "tool", "content": "42"}
    ],
    "a call by the user": [ASKED | {"tool_calls": calling("{}")["tool_calls"]}],
    "a call without a name": [ASKED, {"role": "assistant", "tool_calls": [{"id": "1"}]}],
    "a name that is a sentence": [ASKED, calling("{}", function={"name": "call me <b>", "arguments": "{}"})],
    "a call of another kind": [ASKED, calling("{}", type="custom")],
    "arguments that were cut": [ASKED, calling('{"city": "Par')],
    "arguments that are a list": [ASKED, calling("[1]")],
    "arguments that are nested 600 deep": [ASKED, calling('{"a":' * 600 + "1" + "}" * 600)],
    "arguments with a number that is none": [ASKED, calling('{"a": NaN}')],
    "a call as ShareGPT has it that is no json": [
        {"from": "human", "value": "a"}, {"from": "function_call", "value": "look it up"}
    ],
}  # fmt: skip


@pytest.mark.parametrize("messages", BAD_TOOLS.values(), ids=BAD_TOOLS)
def test_tools_that_are_called_in_no_readable_way_are_set_aside(ingest, source_of, messages):
    source = source_of("a.jsonl", jsonl({"messages": messages}), columns=Columns(messages="messages"))
    assert [aside["reason"] for aside in ingest(source).quarantine] == ["tool_calls"]


@pytest.mark.parametrize("tools", ["no json", [7], [{"type": "web_search"}], "[" * 600 + "]" * 600, [{"name": "a b"}]])
def test_tools_that_are_no_functions_are_set_aside(ingest, source_of, tools):
    columns = Columns(messages="messages", tools="tools")
    source = source_of("a.jsonl", jsonl({"messages": [ASKED], "tools": tools}), columns=columns)
    assert [aside["reason"] for aside in ingest(source).quarantine] == ["tool_calls"]


def test_calls_and_tools_above_the_limit_are_set_aside(ingest, source_of):
    rows = [{"m": [ASKED, calling({"a": "x" * 200})]}, {"m": [ASKED], "t": [{"name": "f", "description": "x" * 200}]}]
    source = source_of("a.jsonl", jsonl(*rows), columns=Columns(messages="m", tools="t"))
    aside = ingest(source, settings=Ingest(max_characters=100)).quarantine
    assert [one["reason"] for one in aside] == ["too_long", "too_long"]


BAD_PAIRS = {
    "equal answers": {"prompt": "a", "chosen": "b", "rejected": " b\n"},
    "answers that differ in what is redacted": {"prompt": "a", "chosen": "a@b.org", "rejected": "c@d.org"},
    "no rejected answer": {"prompt": "a", "chosen": "b"},
    "an empty chosen answer": {"prompt": "a", "chosen": " ", "rejected": "c"},
    "two prompts": {
        "chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: other\n\nAssistant: c"
    },
    "another prompt beside": {
        "prompt": "other", **{name: [ASKED, {"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    },
}  # fmt: skip


@pytest.mark.parametrize("pair", BAD_PAIRS.values(), ids=BAD_PAIRS)
def test_a_preference_pair_that_is_none_is_set_aside(ingest, source_of, pair):
    (aside,) = ingest(source_of("a.jsonl", jsonl(pair), columns={}, layout="preference")).quarantine
    assert aside["reason"] == "bad_pair"


def test_quarantine_shows_bytes_as_text(ingest, source_of):
    rows = parquet({"text": [""], "who": ["caf\u00e9".encode()], "raw": [b"\xff\x00"]})
    (aside,) = ingest(source_of("a.parquet", rows, columns=Columns(prompt="text", metadata=["who", "raw"]))).quarantine
    assert json.loads(aside["raw"]) == {"text": "", "who": "caf\u00e9", "raw": "ff00"}


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
def test_a_part_that_is_no_text_is_refused_by_its_name(ingest, source_of, kind):
    parts = [{"type": "text", "text": "what is this?"}, {"type": kind, kind: {"url": "https://example.org/a.png"}}]
    source = source_of("a.jsonl", jsonl({"m": [{"role": "user", "content": parts}]}), columns=Columns(messages="m"))
    (aside,) = ingest(source).quarantine
    assert aside["reason"] == "not_text_part"
    assert kind in aside["detail"]
