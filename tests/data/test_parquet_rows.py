"""Rows of Parquet files: what Parquet can hold and an example cannot costs its row only."""

from datetime import UTC, date, datetime

import pyarrow as pa
from raw_rows import parquet

from nightshift.settings.intake import Columns


def test_wrong_types_in_parquet_are_set_aside_row_by_row(ingest, source_of):
    content = parquet({"text": [1, 2], "answer": ["a", "b"], "id": [1, 2], "at": [None, None]})
    result = ingest(source_of("a.parquet", content))
    assert [aside["reason"] for aside in result.quarantine] == ["not_text", "not_text"]


def test_parquet_values_that_python_cannot_hold_cost_their_row_only(ingest, source_of):
    times = pa.array([0, 2**62, None], pa.timestamp("us"))
    content = parquet({"text": ["a a", "b b", "c c"], "answer": [None] * 3, "id": [None] * 3, "at": times})
    result = ingest(source_of("a.parquet", content))
    assert [(aside["reason"], aside["source_row"]) for aside in result.quarantine] == [("bad_value", 2)]
    assert [example["prompt"] for example in result.examples] == ["a a", "c c"]


def test_the_last_year_of_the_calendar_is_no_year_of_the_past_in_old_files(ingest, source_of):
    content = parquet(
        {"text": ["a"], "at": pa.array([253402300799], pa.timestamp("s"))}, use_deprecated_int96_timestamps=True
    )
    result = ingest(source_of("a.parquet", content, columns=Columns(prompt="text", timestamp="at")))
    assert [aside["reason"] for aside in result.quarantine] == ["future_timestamp"]


def test_a_time_zone_that_nobody_knows_costs_no_row(ingest, source_of):
    times = pa.array([1793577600_000_000_000], pa.timestamp("ns", tz="Mars/Phobos"))
    zoned = pa.timestamp("s", tz="Mars/Phobos")
    nested = pa.array([{"seen": [1793577600]}], pa.struct([("seen", pa.list_(zoned))]))
    pairs = pa.array([[1793577600, None]], pa.list_(zoned, 2))
    content = parquet({"text": ["a"], "at": times, "meta": nested, "pair": pairs})
    columns = Columns(prompt="text", timestamp="at", metadata=["meta", "pair"])
    (example,) = ingest(source_of("a.parquet", content, columns=columns)).examples
    assert example["timestamp"] == datetime(2026, 11, 2, tzinfo=UTC)
    assert dict(example["metadata"]) == {
        "meta": '{"seen": ["2026-11-02 00:00:00+00:00"]}',
        "pair": '["2026-11-02 00:00:00+00:00", null]',
    }


def test_maps_in_parquet_are_records(ingest, source_of):
    notes = pa.array([[("note", "call me\n07700 900123")], [("a", "1"), ("a", "2")], None], pa.map_("string", "string"))
    days = pa.array([[(date(2026, 11, 2), 1)], None, None], pa.map_(pa.date32(), pa.int32()))
    content = parquet({"text": ["a a", "b b", "c c"], "m": notes, "days": days})
    columns = Columns(prompt="text", metadata=["m", "m.note", "days"])
    result = ingest(source_of("a.parquet", content, columns=columns))
    assert [dict(example["metadata"]) for example in result.examples] == [
        {"m": '{"note": "call me\\n<phone>"}', "m.note": "call me\n<phone>", "days": '{"2026-11-02": 1}'},
        {"m": "", "m.note": "", "days": ""},
    ]
    # A key that is there twice has no one value.
    assert [(aside["reason"], aside["source_row"]) for aside in result.quarantine] == [("bad_value", 2)]
