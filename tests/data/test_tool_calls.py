"""Conversations with tools, from OpenAI's form, its old one, ShareGPT's and Parquet's, as one."""

import hashlib
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightshift.data.examples import EXAMPLE_SCHEMA, digest_of_messages, examples_in, without_calls
from nightshift.errors import BadInput
from nightshift.settings.intake import Columns

ASKED = {"role": "user", "content": "Is it warm in Paris and in Rome?"}
CITIES = ("Paris", "Rome")
WEATHER = {"name": "weather", "description": "Today's weather", "parameters": {"type": "object", "properties": {}}}
STORED = {
    city: {"id": f"call{number:05}", "type": "function", "function": {"name": "weather", "arguments": {"city": city}}}
    for number, city in enumerate(CITIES, 1)
}


def openai_call(city):
    function = {"name": "weather", "arguments": json.dumps({"city": city})}
    return {"id": f"call_{city}_x7", "type": "function", "function": function}


OPENAI = [
    ASKED,
    {"role": "assistant", "content": None, "tool_calls": [openai_call(city) for city in CITIES]},
    # Results come in any order.
    {"role": "tool", "tool_call_id": "call_Rome_x7", "content": "21"},
    {"role": "tool", "tool_call_id": "call_Paris_x7", "content": "14"},
    {"role": "assistant", "content": "In Rome."},
]
# Those of Hugging Face and of Parquet: arguments are records, ids are missing, and whatever is not there is null.
RECORDS = [
    ASKED,
    {"role": "assistant", "tool_calls": [{"function": STORED[city]["function"] | {"x": None}} for city in CITIES]},
    {"role": "tool", "name": "weather", "content": "14"},
    {"role": "tool", "name": "weather", "content": "21"},
    {"role": "assistant", "content": "In Rome."},
]


@pytest.fixture
def rows_of(ingest, source_of):
    """A function that ingests rows and returns what became of them."""

    def run(*rows, layout="openai", settings=None, **columns):
        content = "".join(json.dumps(row) + "\n" for row in rows)
        source = source_of("rows.jsonl", content, columns=columns, layout=layout)
        return ingest(source, **({"settings": settings} if settings else {}))

    return run


def test_the_calls_and_results_of_openai_are_kept_in_their_order_with_short_ids(rows_of):
    (row,) = rows_of({"messages": OPENAI, "tools": [{"type": "function", "function": WEATHER}]}).examples
    asked, called, rome, paris, answer = row["messages"]
    assert json.loads(called["tool_calls"]) == [STORED["Paris"], STORED["Rome"]]
    assert called["content"] == ""
    assert (rome["role"], rome["content"], rome["tool_call_id"]) == ("tool", "21", "call00002")
    assert (paris["content"], paris["tool_call_id"]) == ("14", "call00001")
    assert [asked["tool_calls"], answer["tool_calls"], answer["tool_call_id"]] == [None] * 3
    assert (row["prompt"], row["answer"]) == (ASKED["content"], "In Rome.")
    assert json.loads(row["tools"]) == [{"type": "function", "function": WEATHER}]


def test_calls_without_ids_and_with_records_for_arguments_get_their_results_in_order(rows_of):
    (row,) = rows_of({"messages": RECORDS, "tools": json.dumps([WEATHER])}).examples
    assert [json.loads(row["messages"][1]["tool_calls"]), row["messages"][2]["tool_call_id"]] == [
        [STORED["Paris"], STORED["Rome"]], "call00001",
    ]  # fmt: skip
    assert json.loads(row["tools"]) == [{"type": "function", "function": WEATHER}]


ONE = [STORED["Paris"]]
OF_ONE_CALL = {
    "openai, old": [
        ASKED,
        {"role": "assistant", "content": None, "function_call": openai_call("Paris")["function"]},
        {"role": "function", "name": "weather", "content": "14"},
        {"role": "assistant", "content": "No."},
    ],
    "sharegpt": [
        {"from": "human", "value": ASKED["content"]},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Paris"}}'},
        {"from": "observation", "value": "14"},
        {"from": "gpt", "value": "No."},
    ],
    "sharegpt with a list, and another name for arguments": [
        {"from": "human", "value": ASKED["content"]},
        {"from": "function_call", "value": '[{"name": "weather", "parameters": {"city": "Paris"}}]'},
        {"from": "tool", "value": "14"},
        {"from": "gpt", "value": "No."},
    ],
}


@pytest.mark.parametrize("messages", OF_ONE_CALL.values(), ids=OF_ONE_CALL)
def test_every_form_gives_the_same_conversation(rows_of, messages):
    layout, column = ("sharegpt", "conversations") if "from" in messages[0] else ("openai", "messages")
    (row,) = rows_of({column: messages}, layout=layout).examples
    stored = [
        {"role": "user", "content": ASKED["content"]},
        {"role": "assistant", "content": "", "tool_calls": json.dumps(ONE)},
        {"role": "tool", "content": "14", "tool_call_id": "call00001"},
        {"role": "assistant", "content": "No."},
    ]
    assert row["digest"] == digest_of_messages(stored)
    assert [{name: said for name, said in one.items() if said is not None} for one in row["messages"]] == stored


def test_a_call_may_be_the_answer_and_a_result_may_wait_for_one(rows_of):
    said = OPENAI[1] | {"content": "Let me look."}
    results = rows_of({"messages": [ASKED, said]}, {"messages": OPENAI[:4]})
    called, waiting = results.examples
    assert called["answer"] == "Let me look.\n" + called["messages"][1]["tool_calls"]
    assert waiting["answer"] is None
    assert waiting["prompt"] == called["prompt"] == ASKED["content"]


def test_a_call_at_the_end_that_is_not_to_be_learned_is_no_answer(rows_of):
    (row,) = rows_of({"messages": [ASKED, OPENAI[1] | {"weight": 0}]}).examples
    assert (row["answer"], len(row["messages"])) == (None, 1)


def test_fields_that_are_null_or_empty_call_nothing(rows_of):
    answer = {"role": "assistant", "content": "No.", "tool_calls": [], "function_call": None}
    rows = rows_of({"messages": [ASKED, answer], "tools": []}, {"messages": [ASKED | {"content": "b"}, answer]})
    assert [(row["answer"], row["tools"]) for row in rows.examples] == [("No.", None)] * 2


def test_rows_that_differ_only_in_calls_results_or_tools_are_all_kept(rows_of):
    def row(city="Paris", result="14", tools=None):
        call = [{"id": "1", "function": {"name": "weather", "arguments": {"city": city}}}]
        turns = [ASKED, {"role": "assistant", "tool_calls": call}, {"role": "tool", "content": result}]
        return {"messages": [*turns, {"role": "assistant", "content": "No."}], "tools": tools}

    found = rows_of(row(), row(city="Rome"), row(result="15"), row(tools=[WEATHER]), row())
    assert found.counts["kept"] == 4
    assert found.counts["duplicates"] == 1
    assert len({one["digest"] for one in found.examples}) == 4
    # They ask the same, whatever tools found: none is held out while another is trained on.
    assert len({one["split"] for one in found.examples}) == 1


def test_personal_data_in_arguments_results_and_tools_is_redacted_and_json_stays_json(rows_of):
    arguments = {
        "to": "ann@b.org", "cc": ["c@d.org"], "note": "call\n07700 900123", "phone": 447700900123, "n": 3, "ok": True,
        "code": "  if x:\n", "e@f.org": None,
    }  # fmt: skip
    call = {"id": "call-ann@b.org", "function": {"name": "mail", "arguments": json.dumps(arguments)}}
    results = [ASKED, {"role": "assistant", "tool_calls": [call]}]
    results.append({"role": "tool", "tool_call_id": "call-ann@b.org", "content": '{"said": "ask\\n07700 900123"}'})
    tools = [{"name": "mail", "description": "Ask help@b.org"}]
    (row,) = rows_of({"messages": [*results, {"role": "assistant", "content": "Sent."}], "tools": tools}).examples
    (stored,) = json.loads(row["messages"][1]["tool_calls"])
    assert stored["function"]["arguments"] == {
        "to": "<email>", "cc": ["<email>"], "note": "call\n<phone>", "phone": "<phone>", "n": 3, "ok": True,
        "code": "  if x:\n", "<email>": None,
    }  # fmt: skip
    assert json.loads(row["messages"][2]["content"]) == {"said": "ask\n<phone>"}
    assert json.loads(row["tools"])[0]["function"]["description"] == "Ask <email>"
    assert dict(row["pii"]) == {"email": 4, "phone": 3}
    assert "@" not in json.dumps(row, default=str)


def test_parquet_has_every_field_in_every_record_and_may_lack_the_column_of_tools(ingest, source_of):
    function = {"name": "weather", "arguments": {"city": "Paris", "street": None}}
    none = dict.fromkeys(("content", "tool_calls", "tool_call_id"))
    messages = [
        none | ASKED,
        none | {"role": "assistant", "tool_calls": [{"id": "a", "function": function}]},
        none | {"role": "tool", "tool_call_id": "a", "content": "14"},
    ]
    other = [none | ASKED, none | {"role": "assistant", "tool_calls": [
        {"id": "b", "function": {"name": "road", "arguments": {"city": None, "street": "Via Appia"}}}]}]  # fmt: skip
    for tools in ({}, {"tools": ['[{"name": "weather"}]', ""]}):
        file = io.BytesIO()
        pq.write_table(pa.table({"messages": [messages, other], **tools}), file)
        rows = ingest(source_of("rows.parquet", file.getvalue(), columns={}, layout="openai")).examples
        assert [json.loads(row["messages"][1]["tool_calls"])[0]["function"]["arguments"] for row in rows] == [
            {"city": "Paris"}, {"street": "Via Appia"},
        ]  # fmt: skip
        assert [bool(row["tools"]) for row in rows] == [bool(tools), False]


def test_a_row_without_tools_has_the_digest_that_it_always_had(rows_of):
    (row,) = rows_of(
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    ).examples
    assert row["digest"] == digest_of_messages(row["messages"])
    assert row["digest"] == hashlib.sha256(b"user\0Hi\0assistant\0Hello\0").hexdigest()


def test_partitions_from_before_tools_are_read_as_those_of_today(tmp_path):
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    columns = {"digest": pa.array(["d"]), "messages": pa.array([[ASKED]], pa.list_(message)), "answer": pa.array(["b"])}
    pq.write_table(pa.table(columns), tmp_path / "old.parquet")
    assert examples_in(tmp_path / "old.parquet").schema.equals(EXAMPLE_SCHEMA)
    (row,) = examples_in(tmp_path / "old.parquet", ["messages", "tools"]).to_pylist()
    assert row == {"messages": [ASKED | {"tool_calls": None, "tool_call_id": None}], "tools": None}


def test_a_column_of_tools_that_was_named_must_be_there(ingest, source_of):
    source = source_of("rows.csv", "m\n[]\n", columns=Columns(messages="m", tools="functions"))
    with pytest.raises(BadInput, match="no column 'functions'"):
        ingest(source)


def test_an_answer_that_calls_a_tool_is_no_reference_for_a_text(tmp_path):
    said = {"role": "assistant", "content": "No."}
    rows = [
        {"messages": [ASKED, said | {"tool_calls": "[{}]"}], "answer": "[{}]"},
        {"messages": [ASKED, said | {"tool_calls": "[{}]"}, {"role": "tool", "content": "14"}, said], "answer": "No."},
        {"messages": [ASKED], "answer": None},
        {"messages": [ASKED, said], "answer": "No."},
    ]
    table = pa.Table.from_pylist(rows, schema=pa.schema([EXAMPLE_SCHEMA.field(name) for name in rows[0]]))
    for part, answers in ((table, [None, "No.", None, "No."]), (table.slice(1, 2), ["No.", None])):
        assert without_calls(part["answer"], part["messages"]).to_pylist() == answers


def test_numbers_in_what_a_tool_answers_are_redacted_behind_every_name_that_they_stand_in(ingest, source_of):
    result = {"phone": {"value": 612345678}, "others": [{"phone": [1, 698765432]}], "note": "a\nb", "temperature": 21}
    messages = [
        ASKED, {"role": "assistant", "tool_calls": [openai_call("Rome")]},
        {"role": "tool", "tool_call_id": "call_Rome_x7", "content": json.dumps(result)},
    ]  # fmt: skip
    (row,) = ingest(source_of("a.jsonl", json.dumps({"m": messages}) + "\n", columns=Columns(messages="m"))).examples
    shown = {"phone": {"value": "<phone>"}, "others": [{"phone": [1, "<phone>"]}], "note": "a\nb", "temperature": 21}
    assert json.loads(row["messages"][2]["content"]) == shown


def test_a_last_answer_of_weight_0_is_unknown_also_where_it_calls_a_tool(ingest, source_of):
    rest = [{"role": "tool", "tool_call_id": "call_Rome_x7", "content": "21"}]
    call = {"role": "assistant", "tool_calls": [openai_call("Rome")]}
    messages = [ASKED, call, *rest, {**call, "weight": 0}]
    (row,) = ingest(source_of("a.jsonl", json.dumps({"m": messages}) + "\n", columns=Columns(messages="m"))).examples
    assert (len(row["messages"]), row["answer"]) == (3, None)


def test_a_record_of_nulls_is_no_call_of_a_user(ingest, source_of):
    asked = {**ASKED, "function_call": {"name": None, "arguments": None}}
    (row,) = ingest(source_of("a.jsonl", json.dumps({"m": [asked]}) + "\n", columns=Columns(messages="m"))).examples
    assert row["prompt"] == ASKED["content"]
