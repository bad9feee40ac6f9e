"""Quarantine is read by people: nothing personal is left in it, however a row hides or cuts it."""

import json

import pytest

from nightshift.data.quarantine import RAW_CHARACTERS
from nightshift.settings.intake import Ingest

PERSONAL = {
    "phone": "07700 900123",
    "iban": "GB82 WEST 1234 5698 7654 32",
    "ip": "192.168.17.4",
    "email": "john.smith@example.com",
    "secret": "AKIAIOSFODNN7EXAMPLE",
}


@pytest.mark.parametrize(("kind", "text"), PERSONAL.items())
@pytest.mark.parametrize("before", ["call me:\n", "a\tb\t", "\r\n"], ids=["line feed", "tab", "line end"])
def test_an_escape_before_personal_data_does_not_hide_it(ingest, source_of, kind, text, before):
    rows = [
        json.dumps({"id": "good", "text": "When does my card arrive?"}),
        json.dumps({"id": "late", "text": before + text, "at": "2027-01-01"}),
        json.dumps({"id": "cut", "text": before + text})[:-1],
        json.dumps({"id": "number", "text": 5, "note": [{"of": before + text}]}),
        json.dumps({"id": "text in text", "text": ["x"], "note": json.dumps({"of": before + text})}),
    ]
    result = ingest(source_of("rows.jsonl", "\n".join(rows) + "\n"))
    assert [aside["reason"] for aside in result.quarantine] == ["future_timestamp", "not_json", "not_text", "not_text"]
    for aside in result.quarantine:
        assert text not in aside["raw"]
        assert f"<{kind}>" in aside["raw"]


@pytest.mark.parametrize("spared", range(0, 24, 4))
def test_what_lies_across_the_cut_does_not_stay_there_in_half(ingest, source_of, spared):
    filler = "x" * (RAW_CHARACTERS - len('{"text": "') - 2 - spared)
    rows = [
        json.dumps({"text": f"{filler} {PERSONAL['email']} {'y' * 5_000}", "at": "2027-01-01"}),
        f'{{"text": "{filler} {PERSONAL["email"]} {"y" * 5_000}',
    ]
    result = ingest(source_of("rows.jsonl", "\n".join(rows) + "\n"), settings=Ingest(near_duplicates=1))
    for aside in result.quarantine:
        assert "john" not in aside["raw"]
        assert len(aside["raw"]) <= RAW_CHARACTERS


def test_a_row_full_of_addresses_does_not_end_in_half_of_one(ingest, source_of):
    row = json.dumps({"text": f"{PERSONAL['email']} " * 1_000})[:-1]
    (aside,) = ingest(source_of("rows.jsonl", row + "\n")).quarantine
    assert "john" not in aside["raw"]


def test_a_reason_does_not_quote_half_of_an_address(ingest, source_of):
    at = "it was about noon, says the customer who writes from john.smith@example.com"
    (aside,) = ingest(source_of("rows.jsonl", json.dumps({"text": "Hi", "at": at}) + "\n")).quarantine
    assert "john" not in aside["detail"]


def test_what_is_not_personal_stays_as_it_was(ingest, source_of):
    row = '{"text": "C:\\new\\u0041 12 \\n'
    (aside,) = ingest(source_of("rows.jsonl", row + "\n")).quarantine
    assert aside["raw"].rstrip("\n") == row
