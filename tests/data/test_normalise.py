"""What a row must look like to become an example, beyond what test_bad_input.py shows."""

import random
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from test_ingestion_digests import texts

from nightshift.data.normalise import clean, conversation
from nightshift.data.quarantine import Row, Unusable
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


def test_a_question_and_an_answer_say_the_same_as_a_conversation_of_them_does(night):
    chance, signs = random.Random(2), "ab cd\u00e9\u5b57\u00a0\u200b\t\n 0123456789@.-+"
    says = [*texts(), "x" * 41, "\ufb2c" * 16, "+44 20 7946 0958", 5.0, float("nan"), "half \udc00"]
    says += ["".join(chance.choices(signs, k=chance.randint(0, 45))) for _ in range(300)]
    # What rows lack says nothing, and is no single question and answer all the same.
    plain, general = (Columns(prompt="text", answer="label", id="id", system=system) for system in (None, "none"))
    assert (plain.single_turn, general.single_turn) == (True, False)
    settings = Ingest(max_characters=40)
    for text in says:
        row = Row(1, {"text": text, "label": chance.choice(says), "id": chance.choice(says)})
        one, other = (outcome(row, columns, settings, night) for columns in (plain, general))
        assert one == other
    prompts, general = (Columns(prompt="text", system=system) for system in (None, "none"))
    for text in says:
        one, other = (outcome(Row(1, {"text": text}), columns, settings, night) for columns in (prompts, general))
        assert one == other


def outcome(row, columns, settings, night):
    try:
        return conversation(row, columns, settings, night, b"key")
    except Unusable as unusable:
        return unusable.reason, unusable.detail


@pytest.mark.parametrize("answer", [None, "", "  ", float("nan")])
def test_an_answer_that_is_not_there_is_unknown(read, answer):
    row = read({"text": "Hi", "label": answer}, prompt="text", answer="label")
    assert row.answer is None
    assert len(row.messages) == 1


def test_a_system_message_of_a_column_stands_before_that_of_the_conversation(read):
    pair = read({"text": "Hi", "rules": "Be kind."}, prompt="text", system="rules")
    assert pair.messages == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert (pair.prompt, pair.answer) == ("Hi", None)
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    both = read({"chat": chat, "rules": "Be kind."}, messages="chat", system="rules")
    assert both.messages[0] == {"role": "system", "content": "Be kind.\n\nBe brief."}
    assert read({"text": "Hi", "rules": " "}, prompt="text", system="rules").messages == [pair.messages[1]]


def test_rows_that_differ_only_in_their_system_message_are_two(read):
    one, other = (read({"text": "Hi", "rules": rules}, prompt="text", system="rules") for rules in ("a", "b"))
    assert one.digest != other.digest


def test_personal_data_in_a_system_message_is_redacted(read):
    row = read({"text": "Hi", "rules": "You answer for a@b.org"}, prompt="text", system="rules")
    assert row.messages[0]["content"] == "You answer for <email>"
    assert row.pii == {"email": 1}


@pytest.mark.parametrize("completion", ["Hello", [{"role": "assistant", "content": "Hello"}]])
def test_prompt_and_completion_may_be_messages(read, completion):
    prompt = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    row = read({"prompt": prompt, "completion": completion}, prompt="prompt", answer="completion")
    assert [message["role"] for message in row.messages] == ["system", "user", "assistant"]
    assert (row.prompt, row.answer) == ("Hi", "Hello")
    assert read({"prompt": prompt, "completion": None}, prompt="prompt", answer="completion").answer is None


def test_bytes_that_are_a_text_are_one(read):
    row = read({"text": "größe".encode(), "label": b"size"}, prompt="text", answer="label")
    assert (row.prompt, row.answer) == ("größe", "size")
    with pytest.raises(Unusable, match="not_utf8"):
        read({"text": b"gr\xf6\xdfe"}, prompt="text")


def test_an_instruction_is_followed_by_its_input(read):
    columns = {"prompt": "instruction", "input": "input", "answer": "output"}
    row = {"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"}
    assert read(row, **columns).prompt == "Translate.\n\nGuten Tag"
    assert read(row | {"input": ""}, **columns).prompt == "Translate."


@pytest.mark.parametrize(
    "text", ["\u00a0\u200b", "\u2060", "\u3164 \u115f", "\u202e\u202c", "\U000e0041", "\ufe0f\u2800"]
)
def test_a_text_that_nobody_sees_is_empty(read, text):
    assert clean(text) == ""
    assert read({"text": "Hi", "label": text}, prompt="text", answer="label").answer is None


def test_what_joins_visible_letters_stays():
    assert clean("\u200bco\u00adop 👩\u200d👧") == "\u200bco\u00adop 👩\u200d👧"


def test_a_dot_reaches_into_records_unless_a_column_has_that_name(read):
    assert read({"a": {"b": "deep"}}, prompt="a.b").prompt == "deep"
    assert read({"a.b": "flat", "a": {"b": "deep"}}, prompt="a.b").prompt == "flat"


def test_metadata_is_kept_as_text_without_personal_data(read):
    row = read({"t": "Hi", "n": 3, "who": "a@b.org", "x": {"k": [1]}}, prompt="t", metadata=["n", "who", "x", "none"])
    assert row.metadata == {"n": "3", "who": "<email>", "x": '{"k": [1]}', "none": ""}
    assert row.pii == {"email": 1}


@pytest.mark.parametrize("personal", ["{}@example.org", "+44 20 7946 095{}", "10.0.0.{}"])
def test_an_id_that_is_personal_tells_rows_apart_without_telling_whose_they_are(read, personal):
    ids = {read({"t": "Hi", "id": personal.format(name)}, prompt="t", id="id").id for name in (1, 2, 1)}
    assert len(ids) == 2
    assert all(found.startswith("hmac-sha256:") for found in ids)


def test_the_same_id_is_another_one_under_another_key_so_that_nobody_finds_it_by_guessing(night):
    row, columns = Row(1, {"t": "Hi", "id": "a@example.org"}), Columns(prompt="t", id="id")
    ids = [conversation(row, columns, Ingest(), night, key).id for key in (b"one", b"other", b"one")]
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize("plain", ["b3f1c9d2-77aa-4b1e-9c3e-0123456789ab", "1234567890", "chat-2026-11-02-17", "7"])
def test_an_id_that_says_nothing_of_anybody_stays(read, plain):
    assert read({"t": "Hi", "id": plain}, prompt="t", id="id").id == plain


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-11-02T10:30:00+02:00", datetime(2026, 11, 2, 8, 30, tzinfo=UTC)),
        ("2026-11-02 10:30", datetime(2026, 11, 2, 10, 30, tzinfo=UTC)),
        ("2026-11-02", datetime(2026, 11, 2, tzinfo=UTC)),
        (datetime(2026, 11, 2, 1), datetime(2026, 11, 2, 1, tzinfo=UTC)),
        (datetime(2026, 11, 2).date(), datetime(2026, 11, 2, tzinfo=UTC)),
        (" ", None),
        (1793577600, datetime(2026, 11, 2, tzinfo=UTC)),
        (1793577600.25, datetime(2026, 11, 2, 0, 0, 0, 250_000, tzinfo=UTC)),
        (1793577600250, datetime(2026, 11, 2, 0, 0, 0, 250_000, tzinfo=UTC)),
        ("1793577600", datetime(2026, 11, 2, tzinfo=UTC)),
        (
            "1712012312345",
            datetime(2024, 4, 1, 22, 58, 32, 345_000, tzinfo=UTC),
        ),  # ISO 8601 could read 1712-01-23T23:45
        ("2026-11-02T10:30:00z", datetime(2026, 11, 2, 10, 30, tzinfo=UTC)),
        ("2026-11-02 10:30:00.5 UTC", datetime(2026, 11, 2, 10, 30, 0, 500_000, tzinfo=UTC)),
        ("2026-11-02 10:30:00 +0530", datetime(2026, 11, 2, 5, tzinfo=UTC)),
        (1793577600250000, datetime(2026, 11, 2, 0, 0, 0, 250_000, tzinfo=UTC)),
        ("1793577600250000999", datetime(2026, 11, 2, 0, 0, 0, 250_001, tzinfo=UTC)),
        (Decimal("1793577600.5"), datetime(2026, 11, 2, 0, 0, 0, 500_000, tzinfo=UTC)),
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


def test_what_a_column_is_called_tells_that_its_numbers_are_of_a_phone(read):
    values = {"text": "Hi", "phone": 447700900123, "homePhone": "4155552671", "call_id": 415555267, "n": 4155552671}
    row = read(values, prompt="text", metadata=["phone", "homePhone", "call_id", "n"])
    assert row.metadata == {"phone": "<phone>", "homePhone": "<phone>", "call_id": "415555267", "n": "4155552671"}


def test_an_id_with_an_address_behind_its_first_characters_becomes_a_digest(read):
    row = read({"text": "Hi", "id": "x" * 490 + " john.smith@example.com"}, prompt="text", id="id")
    assert row.id.startswith("hmac-sha256:")


def test_what_is_personal_alone_is_redacted_whatever_its_column_is_called(read):
    values = {
        "user_id": "07700900123",
        "order": "(415) 555-2671",
        "release": "84.17.45.3",
        "phone_primary": 447700900123,
    }
    row = read({"t": "Hi"} | values, prompt="t", metadata=list(values))
    assert list(row.metadata.values()) == ["<phone>", "<phone>", "<ip>", "<phone>"]


def test_what_is_personal_beside_what_only_the_name_of_its_column_shows_is_redacted_too(read):
    values = {"phone": "447700900123, a@b.com", "ssn": "123456789 (jo@example.com)"}
    row = read({"t": "Hi"} | values, prompt="t", metadata=list(values))
    assert list(row.metadata.values()) == ["<phone>, <email>", "<ssn> (<email>)"]


def test_bytes_that_become_metadata_or_an_id_are_text_without_personal_data(read):
    values = {
        "text": "Hi",
        "who": b"a@b.org",
        "note": {"by": "j\u00fcrgen@b.org".encode()},
        "raw": b"\xff\x00",
        "id": b"c-1",
    }
    row = read(values, prompt="text", id="id", metadata=["who", "note", "raw"])
    assert row.metadata == {"who": "<email>", "note": '{"by": "<email>"}', "raw": "ff00"}
    assert row.id == "c-1"
