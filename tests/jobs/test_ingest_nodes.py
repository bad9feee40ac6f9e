"""The job `ingest` on many nodes and in many processes: the partition of one, whoever comes late, dies, or is overtaken."""

import io
import json
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest
from several_nodes import NODES, comes_late, dies_in, is_overtaken, left_of, node_runner, times_called
from upath import UPath

from nightshift.data import pieces, readers, shared_staging, staging_processes
from nightshift.data.shared_staging import SharedStaging
from nightshift.data.staging import Staging
from nightshift.errors import BadEnvironment, BadInput
from nightshift.jobs import ingest
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.storage import sharing
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import fetch

pytestmark = pytest.mark.slow

FILES = 3
ROWS = 60  # of each file


def rows_of(number):
    """Rows of a file: equal ones, alike ones, with personal data, late ones, and some that cannot be used."""
    for row in range(ROWS):
        asked = row % 47
        text = f"where is card {asked} of customer {number}-{asked * 7919}, ordered on my phone 0171 12345{asked:02}?"
        yield {
            "text": text if asked % 11 else "",
            "answer": "card arrival" if asked % 3 else "lost card",
            "id": f"{number}-{asked if asked % 13 else 7}",
            "at": f"2026-11-0{asked % 2 + 1}T08:00:00Z",
        }


@pytest.fixture
def spec(storage, tmp_path, mlflow_store, wordless_model, monkeypatch):
    """A night of three files; pieces and stretches are of few rows."""
    for module in (pieces, readers):
        monkeypatch.setattr(module, "PIECE_ROWS", 5)
    monkeypatch.setattr(shared_staging, "STRETCH_PIECES", 2)
    monkeypatch.setattr(sharing, "POLL_SECONDS", 0.01)
    (tmp_path / "in").mkdir()
    for number in range(FILES):
        lines = "\n".join(map(json.dumps, rows_of(number)))
        (tmp_path / "in" / f"{number}.jsonl").write_text(f"{lines}\n[not json\n")
    columns = {"prompt": "text", "answer": "answer", "id": "id", "timestamp": "at"}
    application = Application(
        name="shared_" + tmp_path.name.replace("-", "_")[-30:],
        base_model=str(wordless_model),
        sources=[{"uri": f"{tmp_path}/in/*.jsonl", "columns": columns}],
    )
    interval = Interval(start=datetime(2026, 11, 2, tzinfo=UTC), end=datetime(2026, 11, 3, tzinfo=UTC))
    return ingest.Spec(application=application, storage=storage, interval=interval)


@pytest.fixture
def run_on(spec, progress, monkeypatch):
    """A function that ingests the night as one of the nodes, or as the only one."""
    return node_runner(lambda spec=spec: ingest.run(spec, progress), monkeypatch)


def content_of(result, folder):
    """The bytes of both files of a partition, and what its manifest says of them."""
    partition = UPath(result.examples)
    manifest = require_manifest(partition, result.digest)
    folder.mkdir()
    files = [fetch(partition, manifest, f"{name}.parquet", folder).read_bytes() for name in ("examples", "quarantine")]
    return files, manifest.counts, manifest.facts


def forget(spec):
    """Remove all that was made of the night, and the split map."""
    place = UPath(spec.storage) / spec.application.name
    place.fs.rm(place.path, recursive=True)


@pytest.mark.parametrize("storage", ["folder", "s3"], indirect=True)
def test_any_number_of_nodes_makes_the_files_of_one_byte_for_byte(spec, run_on, tmp_path):
    alone = run_on(count=1)
    assert not left_of(spec, "staged")
    assert alone.rows_in == FILES * (ROWS + 1)
    assert min(alone.kept, alone.duplicates, alone.quarantined) > FILES
    of_one = content_of(alone, tmp_path / "one")
    for count in (2, 3):
        forget(spec)
        for index in range(1, count):
            assert run_on(index, count) is None
        assert left_of(spec, "staged")
        together = run_on(0, count)
        assert together == alone
        assert content_of(together, tmp_path / str(count)) == of_one
        assert not left_of(spec, "staged")


def test_no_shared_row_shows_personal_data(spec, run_on, tmp_path):
    run_on(1)
    left = left_of(spec, "staged")
    assert len(left) > FILES
    content = [UPath(spec.storage).fs.cat_file(path) for path in left]
    tables = [pq.read_table(io.BytesIO(one)).to_pylist() for one in content if one[:4] == b"PAR1"]
    assert "where is card" in str(tables)
    assert "0171 12345" not in str(tables)
    assert not any(b"0171 12345" in one for one in content)


def test_nodes_that_die_are_started_again_and_stage_only_what_they_had_not(spec, run_on, monkeypatch):
    dies_in(monkeypatch, run_on, 1, 3, of=(SharedStaging, "_make"))
    made = times_called(monkeypatch, SharedStaging, "_make")
    assert run_on(1) is None
    assert run_on(2) is None
    # 61 rows are 13 pieces, so 7 stretches of a file, 21 in all: each node has seven, of which two were there.
    assert len(made) == 5 + 7
    dies_in(monkeypatch, run_on, 0, 1, of=(ingest, "_publish"))
    assert run_on(0).rows_in == FILES * (ROWS + 1)
    assert len(made) == 5 + 7 + 7
    assert not left_of(spec, "staged")


def test_a_node_that_comes_late_ends_quietly_and_clears_what_an_earlier_start_of_it_left(spec, run_on, monkeypatch):
    published = comes_late(monkeypatch, run_on, ingest._Intake)
    assert left_of(spec, "staged")
    made = times_called(monkeypatch, SharedStaging, "_make")
    assert run_on(1) is None
    assert not left_of(spec, "staged")
    assert not made
    assert run_on(0) == published


@pytest.mark.parametrize("when", ["at work", "waiting", "joining"])
def test_another_attempt_at_the_same_night_may_overtake(spec, run_on, monkeypatch, when):
    """It publishes the night and takes the staged rows away, while this one is at work, waits for others, or joins."""
    work, fetch = (SharedStaging, "_make"), (shared_staging, "fetch")
    result, other = is_overtaken(monkeypatch, run_on, when, work=work, fetch=fetch)
    assert result == other
    assert not left_of(spec, "staged")


def test_the_first_node_gives_up_when_another_never_comes(spec, run_on, monkeypatch):
    monkeypatch.setattr(sharing, "PATIENCE_SECONDS", 0.05)
    assert run_on(1) is None
    with pytest.raises(
        BadEnvironment, match=r"1 of 3 nodes published nothing new .* 7 of 21 parts are missing \(rows 20-29"
    ):
        run_on(0)


def test_a_file_that_cannot_be_used_leaves_no_staged_rows_on_any_node(spec, run_on, tmp_path):
    (tmp_path / "in" / "3.jsonl").write_text('[{"text": "the array does not end"},')
    for index in (1, 2, 0):
        with pytest.raises(BadInput, match="the JSON array does not end"):
            run_on(index)
        assert not left_of(spec, "staged")


def test_rows_of_a_query_are_all_the_first_nodes(spec, run_on, tmp_path, monkeypatch):
    import sqlite3

    with sqlite3.connect(tmp_path / "bank.db") as database:
        database.execute("CREATE TABLE messages (text TEXT)")
        database.executemany("INSERT INTO messages VALUES (?)", [(f"message {number}",) for number in range(40)])
    monkeypatch.setenv("AIRFLOW_CONN_BANK", f"sqlite:///{tmp_path / 'bank.db'}")
    source = {"connection": "bank", "query": "SELECT text FROM messages", "columns": {"prompt": "text"}}
    asking = spec.model_copy(
        update={"application": Application(**{**spec.application.model_dump(), "sources": [source]})}
    )
    assert run_on(1, spec=asking) is None
    assert run_on(2, spec=asking) is None
    assert run_on(0, spec=asking).rows_in == 40
    assert not left_of(spec, "staged")


@pytest.mark.parametrize("count", [1, NODES])
def test_many_processes_make_the_files_of_one_byte_for_byte(spec, run_on, tmp_path, monkeypatch, count):
    of_one = content_of(run_on(count=1), tmp_path / "one")
    forget(spec)
    monkeypatch.setattr(staging_processes, "PIECES_ALONE", 2)
    monkeypatch.setattr(staging_processes, "processors", lambda: 3)
    staged_here = times_called(monkeypatch, Staging, "stage")
    for index in range(1, count):
        run_on(index, count)
    assert content_of(run_on(0, count), tmp_path / "many") == of_one
    assert len(staged_here) == 2 * count
