"""What a row must look like to become an example, beyond what test_bad_input.py shows."""

from datetime import UTC, datetime

import pytest

from nightshift.data.normalise import clean, conversation
from nightshift.data.quarantine import Row
from nightshift.settings.intake import Columns, Ingest


@pytest.fixture
def read(night):
    def read_row(values, **columns):
        return conversation(Row(1, values), Columns(**columns), Ingest(), night)

    return read_row


def test_a_prompt_with_an_answer_is_a_conversation_of_two_turns(read):
    row = read({"text": " Hi ", "label": "greeting"}, prompt="text", answer="label")
    assert row.messages == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "greeting"}]
    assert (row.prompt, row.answer) == ("Hi", "greeting")


@pytest.mark.parametrize("answer", [None, "", "  ", float("nan")])
def test_an_answer_that_is_not_there_is_unknown(read, answer):
    row = read({"text": "Hi", "label": answer}, prompt="text", answer="label")
    assert row.answer is None
    assert len(row.messages) == 1


def test_a_conversation_keeps_its_turns_and_loses_its_system_prompt(read):
    turns = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("human", "Bye"), ("gpt", "Goodbye")]
    row = read({"chat": [{"role": role, "content": content} for role, content in turns]}, messages="chat")
    assert [turn["role"] for turn in row.messages] == ["user", "assistant", "user", "assistant"]
    assert (row.prompt, row.answer) == ("Bye", "Goodbye")


def test_a_conversation_may_come_as_json_text_and_end_with_the_user(read):
    row = read({"chat": '[{"role": "user", "content": "Hi"}]'}, messages="chat")
    assert (row.prompt, row.answer) == ("Hi", None)


def test_a_dot_reaches_into_records_unless_a_column_has_that_name(read):
    assert read({"a": {"b": "deep"}}, prompt="a.b").prompt == "deep"
    assert read({"a.b": "flat", "a": {"b": "deep"}}, prompt="a.b").prompt == "flat"


def test_metadata_is_kept_as_text_without_personal_data(read):
    row = read({"t": "Hi", "n": 3, "who": "a@b.org", "x": {"k": [1]}}, prompt="t", metadata=["n", "who", "x", "none"])
    assert row.metadata == {"n": "3", "who": "<email>", "x": '{"k": [1]}', "none": ""}
    assert row.pii == {"email": 1}


def test_an_id_that_is_an_address_tells_rows_apart_without_telling_whose_they_are(read):
    ids = {read({"t": "Hi", "id": f"{name}@example.org"}, prompt="t", id="id").id for name in ("a", "b", "a")}
    assert len(ids) == 2
    assert all(found.startswith("sha256:") for found in ids)


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-11-02T10:30:00+02:00", datetime(2026, 11, 2, 8, 30, tzinfo=UTC)),
        ("2026-11-02 10:30", datetime(2026, 11, 2, 10, 30, tzinfo=UTC)),
        ("2026-11-02", datetime(2026, 11, 2, tzinfo=UTC)),
        (datetime(2026, 11, 2, 1), datetime(2026, 11, 2, 1, tzinfo=UTC)),
        (datetime(2026, 11, 2).date(), datetime(2026, 11, 2, tzinfo=UTC)),
        (" ", None),
    ],
)
def test_times_become_utc(read, written, moment):
    assert read({"t": "Hi", "at": written}, prompt="t", timestamp="at").timestamp == moment


def test_a_row_from_before_the_interval_is_late_and_kept(read):
    assert read({"t": "Hi", "at": "2026-11-01T23:59:59Z"}, prompt="t", timestamp="at").late
    assert not read({"t": "Hi", "at": "2026-11-02T00:00:00Z"}, prompt="t", timestamp="at").late


def test_cleaning_a_clean_text_changes_nothing():
    for text in ("plain", "two\nlines\tand a tab", "\x00 x\r\ny\u0085 ", "e\u0301", "\ufeffbom"):
        assert clean(clean(text)) == clean(text)


def test_the_digest_depends_on_what_is_stored_and_on_nothing_else(read):
    one = read({"t": "Mail a@b.org\r\n", "id": 1}, prompt="t", id="id")
    other = read({"t": " Mail c@d.org", "id": 2}, prompt="t", id="id")
    assert one.digest == other.digest
    assert one.digest != read({"t": "Mail a@b.org", "l": "yes"}, prompt="t", answer="l").digest


def test_personal_data_in_records_that_become_metadata_is_redacted_behind_escapes_too(read):
    row = read({"text": "Hi", "note": {"said": ["call\n07700 900123"]}}, prompt="text", metadata=["note"])
    assert row.metadata == {"note": '{"said": ["call\\n<phone>"]}'}
    assert row.pii == {"phone": 1}


def test_an_id_with_an_address_behind_its_first_characters_becomes_a_digest(read):
    row = read({"text": "Hi", "id": "x" * 490 + " john.smith@example.com"}, prompt="text", id="id")
    assert row.id.startswith("sha256:")
