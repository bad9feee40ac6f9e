"""Production traffic: what users ask repeats itself, and what a serving system answered is kept beside it."""

import json

import pytest

from nightshift.data.examples import EXAMPLES, digest_of_messages
from nightshift.data.ingestion import Ingestion
from nightshift.data.sources import raw_files
from nightshift.settings.intake import Columns, Ingest
from nightshift.settings.interval import Interval

SERVED = Columns(prompt="text", id="id", response="said", context="page", answer="wanted")


@pytest.fixture
def traffic(tmp_path, measures, night):
    """A function that ingests rows as traffic and returns the ingestion's numbers, rows and quarantine."""
    import pyarrow.parquet as pq

    from nightshift.settings.intake import Source

    def run(rows, columns=SERVED, settings=None, interval: Interval = night):
        target = tmp_path / "target"
        target.mkdir()
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        files = raw_files(Source(uri=str(tmp_path / "rows.jsonl"), columns=columns), interval, tmp_path / "files")
        ingestion = Ingestion(settings or Ingest(), interval, measures, tmp_path, "traffic")
        ingested = ingestion.run(files, target, lambda _rows: None)
        return (
            ingested,
            pq.read_table(target / EXAMPLES).to_pylist(),
            pq.read_table(target / "quarantine.parquet").to_pylist(),
        )

    return run


def test_equal_and_nearly_equal_prompts_are_all_kept_in_one_split(traffic):
    texts = ["where is my card", "where is my card", "where is my card?", "Where is my card ?", "something else"]
    ingested, rows, _ = traffic([{"text": text} for text in texts], Columns(prompt="text"))
    assert [row["prompt"] for row in rows] == texts
    assert {row["split"] for row in rows} == {"traffic"}
    assert ingested.counts == {"rows_in": 5, "kept": 5, "duplicates": 0, "near_duplicates": 0, "quarantined": 0}
    assert all(row["response"] is None and row["context"] is None for row in rows)


def test_an_id_tells_a_row_that_came_twice_from_one_that_says_something_else(traffic):
    first = {"id": "a", "text": "where is my card", "said": "on its way", "page": "Cards take a week."}
    same = dict(first)
    others = [first | {"said": "lost"}, first | {"page": None}, first | {"text": "where is it"}]
    ingested, rows, aside = traffic([first, same, *others, first | {"id": "b"}, first | {"id": None}])
    assert [row["id"] for row in rows] == ["a", "b", None]
    assert ingested.duplicates == 1
    assert [(row["reason"], row["source_row"]) for row in aside] == [("duplicate_id", line) for line in (3, 4, 5)]
    assert '"lost"' in aside[0]["raw"]


def test_response_and_context_are_cleaned_redacted_and_bounded_and_leave_the_digest_alone(traffic):
    row = {"id": "a", "text": "who are you", "said": "ask\x1b me@example.org\r\n", "page": "call 212-555-0123"}
    long = [row | {"id": "b", "said": "x" * 101}, row | {"id": "c", "page": "x" * 101}]
    _, (kept,), aside = traffic([row, *long], settings=Ingest(max_characters=100))
    assert (kept["response"], kept["context"]) == ("ask <email>", "call <phone>")
    assert dict(kept["pii"]) == {"email": 1, "phone": 1}
    assert kept["digest"] == digest_of_messages([{"role": "user", "content": "who are you"}])
    assert [one["reason"] for one in aside] == ["too_long", "too_long"]


def test_a_missing_response_is_set_aside_and_an_empty_one_is_an_answer(traffic):
    rows = [{"text": "a"}, {"text": "b", "said": None}, {"text": "c", "said": 5}, {"text": "d", "said": " "}]
    _, kept, aside = traffic(rows)
    assert [one["reason"] for one in aside] == ["missing_response", "missing_response", "not_text"]
    assert [(row["prompt"], row["response"], row["context"]) for row in kept] == [("d", "", None)]
