"""Sources of rows: which columns a layout stands for."""

import jsonschema
import pytest
from pydantic import ValidationError

from nightshift.settings.applications import application_schema
from nightshift.settings.intake import Columns, Source


def test_columns_add_to_those_of_a_layout_and_change_them():
    source = Source(uri="rows.jsonl", layout="alpaca", columns={"id": "key", "input": None})
    assert source.columns.model_dump(exclude_defaults=True) == {
        "prompt": "instruction",
        "answer": "output",
        "id": "key",
    }
    assert Source.model_validate(source.model_dump(mode="json")) == source


def test_a_source_says_its_columns_or_a_layout():
    assert Source(uri="rows.jsonl", layout="openai").columns.messages == "messages"
    with pytest.raises(ValidationError, match="columns"):
        Source(uri="rows.jsonl")
    with pytest.raises(ValidationError, match="'openai', 'sharegpt', 'alpaca', 'completion', 'preference' or"):
        Source(uri="rows.jsonl", layout="llama")


def test_editors_take_a_layout_in_place_of_columns():
    schema = application_schema()
    jsonschema.validate({"sources": [{"uri": "rows.jsonl", "layout": "openai"}]}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"sources": [{"uri": "rows.jsonl"}]}, schema)


@pytest.mark.parametrize(("subject", "stored"), [("user", "user"), ("user.id", "user"), ("user", "user.id")])
def test_a_subject_that_another_column_would_store_as_it_is_is_refused(subject, stored):
    with pytest.raises(ValueError, match=f"`subject` is kept as a keyed hash only; leave '{stored}' out"):
        Columns(prompt="text", subject=subject, metadata=["shop", stored])
    assert Columns(prompt="text", subject=subject, metadata=["user_agent"]).subject == subject
