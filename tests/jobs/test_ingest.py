"""The job `ingest`: same inputs, same partition; nothing lost and nothing twice, whenever it is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
from published_examples import read_examples
from upath import UPath

from nightshift.data.examples import EXAMPLE_SCHEMA
from nightshift.data.ingestion import Ingestion
from nightshift.data.split_map import SplitMap
from nightshift.errors import BadEnvironment, BadInput
from nightshift.jobs.ingest import Spec, run
from nightshift.settings.application import Application
from nightshift.settings.project import PACKAGE
from nightshift.storage.manifest import read_manifest, require_manifest
from nightshift.verdict import Verdict

NIGHT = {"start": datetime(2026, 11, 2, tzinfo=UTC), "end": datetime(2026, 11, 3, tzinfo=UTC)}
SAMPLE = PACKAGE / "samples" / "banking77"
COLUMNS = {"prompt": "text", "answer": "intent", "id": "message_id", "timestamp": "written_at"}


@pytest.fixture
def spec_of(storage, wordless_model):
    """A function that returns a spec to ingest the night of a drop."""

    def spec(uri=f"{SAMPLE}/{{start:%Y-%m-%d}}.csv", **fields):
        application = Application(
            name="bank", base_model=str(wordless_model), sources=[{"uri": str(uri), "columns": COLUMNS}]
        )
        return Spec(**{"application": application, "storage": storage, "interval": NIGHT, **fields})

    return spec


def test_a_night_of_the_sample_becomes_examples(spec_of, progress, mlflow_store):
    result = run(spec_of(), progress)
    assert result.verdict is Verdict.PASS
    assert result.rows_in == 1_140
    assert result.rows_in == result.kept + result.duplicates + result.near_duplicates + result.quarantined
    assert result.kept > 1_130

    partition = UPath(result.examples)
    manifest = require_manifest(partition, result.digest)
    examples = read_examples(partition, manifest)
    assert examples.schema.equals(EXAMPLE_SCHEMA)
    assert examples.num_rows == result.kept == manifest.file("examples.parquet").rows
    assert len(set(examples["digest"].to_pylist())) == result.kept
    assert sum(manifest.facts["languages"].values()) == result.kept
    by_split = {split: read_examples(partition, manifest, split).num_rows for split in ("train", "held_out")}
    assert by_split == manifest.facts["splits"]

    (logged,) = mlflow_store.search_runs(
        [mlflow_store.get_experiment_by_name("bank").experiment_id],
        f"tags.`nightshift.examples_digest` = '{result.digest}'",
    )
    assert logged.info.run_name == "ingest 2026-11-02"
    assert logged.info.status == "FINISHED"
    assert logged.data.metrics["rows_in"] == 1_140
    assert logged.data.metrics["splits/train"] == by_split["train"]


def test_the_second_time_the_work_is_skipped(spec_of, progress, mlflow_store, monkeypatch):
    first = run(spec_of(), progress)
    monkeypatch.setattr(Ingestion, "run", lambda *_: pytest.fail("the work was done again"))
    assert run(spec_of(), progress) == first


def test_the_same_rows_are_the_same_partition_wherever_they_lie(spec_of, progress, mlflow_store, tmp_path):
    first = run(spec_of(), progress)
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / "2026-11-02.csv"
    copy.write_bytes((SAMPLE / "2026-11-02.csv").read_bytes())
    second = run(spec_of(copy, storage=(tmp_path / "other").as_uri()), progress)
    assert second.examples != first.examples
    assert second.digest == first.digest


def test_a_source_is_named_by_the_day_of_the_applications_time_zone(spec_of, progress, mlflow_store):
    application = spec_of().application.model_copy(update={"timezone": "Europe/Berlin"})
    result = run(Spec(**{**dict(spec_of()), "application": application, "interval": {"day": "2026-11-02"}}), progress)
    assert result.rows_in == 1_140  # those of 2026-11-02.csv, although the interval begins on the first, UTC
    assert result.examples.endswith("/examples/2026-11-01T230000_2026-11-02T230000")


def test_another_key_for_ids_makes_the_partition_anew_and_one_that_can_be_guessed_is_refused(
    spec_of, progress, mlflow_store, tmp_path, monkeypatch
):
    drop = tmp_path / "drop.csv"
    drop.write_text("message_id,written_at,text,intent\njo@example.org,2026-11-02,hello,greeting\n")
    ids = []
    for key in (None, "k" * 32, "l" * 32, "l" * 32):
        if key:
            monkeypatch.setenv("NIGHTSHIFT_ID_KEY", key)
        result = run(spec_of(drop), progress)
        partition = UPath(result.examples)
        ids += read_examples(partition, require_manifest(partition, result.digest))["id"].to_pylist()
    assert len(set(ids[:3])) == 3
    assert ids[2] == ids[3]
    monkeypatch.setenv("NIGHTSHIFT_ID_KEY", "short")
    with pytest.raises(BadInput, match="5 characters"):
        run(spec_of(drop), progress)


def test_a_subject_needs_the_key_and_is_stored_as_a_hash_of_it_alone(
    spec_of, progress, mlflow_store, tmp_path, monkeypatch
):
    drop = tmp_path / "drop.jsonl"
    rows = [{"text": text, "who": {"user": "ann.17"}} for text in ("where is my card?", "I want a loan", "")]
    drop.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"uri": str(drop), "columns": {"prompt": "text", "subject": "who.user"}}
    application = Application(name="bank", base_model=spec_of().application.base_model, sources=[source])
    with pytest.raises(BadInput, match=r"`columns\.subject` needs the installation's key.*nightshift_id_key"):
        run(spec_of(application=application), progress)
    monkeypatch.setenv("NIGHTSHIFT_ID_KEY", "k" * 32)
    partition = UPath(run(spec_of(application=application), progress).examples)
    subjects = read_examples(partition, require_manifest(partition))["subject"].to_pylist()
    assert len(subjects) == 2
    assert len(set(subjects)) == 1
    assert subjects[0].startswith("hmac-sha256:")
    tables = [pq.read_table(path) for path in UPath(spec_of().storage).rglob("*.parquet")]
    assert len(tables) > 2
    assert "ann.17" not in str([table.to_pylist() for table in tables])
    assert any(
        "<subject>" in row["raw"] for table in tables if "raw" in table.column_names for row in table.to_pylist()
    )


def test_other_rows_replace_the_partition(spec_of, progress, mlflow_store, tmp_path):
    drop = tmp_path / "drop.csv"
    lines = (SAMPLE / "2026-11-02.csv").read_text().splitlines(keepends=True)
    drop.write_text("".join(lines[:20]))
    first = run(spec_of(drop), progress)
    drop.write_text("".join(lines[:30]))
    second = run(spec_of(drop), progress)
    assert (first.examples, first.rows_in) == (second.examples, 19)
    assert second.digest != first.digest
    assert require_manifest(UPath(second.examples)).digest == second.digest


def test_the_sides_of_a_night_go_on_after_the_map_is_made_anew_of_what_is_published(spec_of, progress, mlflow_store):
    spec = spec_of()
    first = run(spec, progress)
    before = SplitMap(spec.storage, "bank").state()
    keys = np.concatenate([entries.keys for entries in before.entries()])
    sides = before.sides(keys)
    shutil.rmtree((UPath(spec.storage) / "bank" / "similarity").path)
    run(spec_of(interval={"day": "2026-11-03"}), progress)
    after = SplitMap(spec.storage, "bank").state()
    assert after.number == 2
    assert (
        after.sides(keys) == sides
    ).mean() > 0.99  # but for rows between two sides, which are traffic in a partition
    assert require_manifest(UPath(first.examples)).inputs_digest in after.made_by


@pytest.mark.parametrize(
    "content", [None, "", "message_id,written_at,text,intent\n"], ids=["missing", "empty", "header"]
)
def test_no_rows_are_no_partition_and_no_pass(spec_of, progress, storage, tmp_path, content):
    drop = tmp_path / "drop.csv"
    if content is not None:
        drop.write_text(content)
    result = run(spec_of(drop), progress)
    assert result.verdict is Verdict.INSUFFICIENT_DATA
    assert str(drop) in result.reason
    assert result.examples is None
    assert not [path for path in (tmp_path / "storage").rglob("*") if path.is_file()]


def test_a_night_of_nothing_but_bad_rows_is_kept_for_looking_at(spec_of, progress, mlflow_store, tmp_path):
    drop = tmp_path / "drop.csv"
    drop.write_text("message_id,written_at,text,intent\n1,soon,hello,greeting\n")
    result = run(spec_of(drop), progress)
    assert result.verdict is Verdict.FAIL
    assert (result.rows_in, result.kept, result.quarantined) == (1, 0, 1)
    assert "drop.csv: none of 1 rows could be used (1 bad_timestamp)" in result.reason
    assert run(spec_of(drop), progress) == result
    assert require_manifest(UPath(result.examples)).facts["quarantine"] == {"bad_timestamp": 1}


def test_one_file_of_which_nothing_could_be_used_is_named_beside_one_that_is_sound(
    spec_of, progress, mlflow_store, tmp_path
):
    sound = {"message_id": "1", "written_at": None, "text": "where is my card", "intent": "card arrival"}
    (tmp_path / "1.jsonl").write_text(json.dumps(sound) + "\n")
    (tmp_path / "2.jsonl").write_text("<!DOCTYPE html>\n<title>502 Bad Gateway</title>\n")
    (tmp_path / "3.jsonl").write_text(json.dumps(sound) + "\n")  # of duplicates: there is nothing wrong with it
    result = run(spec_of(tmp_path / "*.jsonl"), progress)
    assert result.verdict is Verdict.WARN
    assert (result.kept, result.duplicates, result.quarantined) == (1, 1, 2)
    assert result.reason == (
        "1 of 4 rows kept, 1 duplicates, 2 quarantined. source/2.jsonl: none of 2 rows could be used (2 not_json); it "
        "seems to be an HTML page, perhaps an error or a login in place of the data"
    )


def test_while_mlflow_is_down_the_partition_waits_and_the_retry_only_logs(spec_of, progress, mlflow_store, monkeypatch):
    with monkeypatch.context() as outage:
        outage.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        outage.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(BadEnvironment, match=r"MLflow at http://127\.0\.0\.1:1"):
            run(spec_of(), progress)
    monkeypatch.setattr(Ingestion, "run", lambda *_: pytest.fail("the work was done again"))
    assert run(spec_of(), progress).verdict is Verdict.PASS


KILLED_AT = {
    "before duplicates are known": ("nightshift.data.ingestion.decide_fates", 1),
    "before the split map knows": ("nightshift.storage.partition.create", 1),
    "between two files": ("nightshift.storage.partition.sha256_of", 4),
    "before the manifest": ("nightshift.storage.partition.create", 2),
}
KILL = """
import os, signal, sys
from pathlib import Path
from nightshift.data import ingestion
from nightshift.storage import partition
from nightshift.jobs.ingest import Spec, run
from nightshift.jobs.progress import Progress
module, name = sys.argv[2].rsplit(".", 1)
calls = []
original = getattr(sys.modules[module], name)
def die(*args, **kwargs):
    calls.append(1)
    if len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
setattr(sys.modules[module], name, die)
run(Spec.model_validate_json(Path(sys.argv[1]).read_text()), Progress("ingest"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", KILLED_AT.values(), ids=KILLED_AT)
def test_killed_at_any_point_nothing_is_half_visible_and_the_retry_gives_the_same(
    spec_of, progress, mlflow_store, tmp_path, point
):
    spec = spec_of()
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    killed = subprocess.run(
        [sys.executable, "-c", KILL, str(tmp_path / "spec.json"), point[0], str(point[1])],
        env=os.environ.copy(),
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert read_manifest(UPath(spec.storage) / "bank" / "examples" / "2026-11-02") is None
    undisturbed = run(spec_of(storage=(tmp_path / "undisturbed").as_uri()), progress)
    assert run(spec, progress).digest == undisturbed.digest
    assert SplitMap(spec.storage, "bank").state().number == 1
