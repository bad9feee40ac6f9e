"""Partitions: visible when their manifest is, the same for the same inputs, checked when read."""

import threading
from datetime import UTC, datetime

import pytest
from upath import UPath

from nightshift.errors import BadInput
from nightshift.settings.interval import Interval
from nightshift.storage.files import create
from nightshift.storage.manifest import MANIFEST, read_manifest, require_manifest
from nightshift.storage.partition import fetch, fetch_folder, find, publish, read_file

DAY = Interval(start=datetime(2026, 11, 2, tzinfo=UTC), end=datetime(2026, 11, 3, tzinfo=UTC))


@pytest.fixture(params=["file", "memory", "s3"])
def partition(request, tmp_path):
    if request.param == "file":
        return UPath((tmp_path / "storage").as_uri()) / "app" / "examples" / DAY.key
    if request.param == "s3":
        return UPath(request.getfixturevalue("bucket")) / tmp_path.name / "app" / "examples" / DAY.key
    return UPath(f"memory://{tmp_path.name}/app/examples/{DAY.key}")


def publish_rows(partition, tmp_path, content=b"rows", inputs="source-1"):
    folder = tmp_path / f"attempt-{threading.get_ident()}"
    (folder / "sub").mkdir(parents=True)
    (folder / "examples.parquet").write_bytes(content)
    (folder / "sub" / "quarantine.parquet").write_bytes(b"none")
    return publish(
        partition,
        folder,
        kind="examples",
        application="app",
        inputs={"source": inputs},
        interval=DAY,
        rows={"examples.parquet": 1},
        counts={"rows_in": 1, "kept": 1},
    )


def test_what_was_published_can_be_found_by_its_inputs_and_read_back(partition, tmp_path):
    published = publish_rows(partition, tmp_path)
    found = find(partition, {"source": "source-1"})
    assert found == published
    assert find(partition, {"source": "source-2"}) is None
    assert fetch(partition, found, "examples.parquet", tmp_path).read_bytes() == b"rows"
    assert read_file(partition, found, "examples.parquet") == b"rows"
    folder = fetch_folder(partition, found, tmp_path / "copy")
    assert (folder / "sub" / "quarantine.parquet").read_bytes() == b"none"


def test_a_manifest_that_the_client_sent_twice_keeps_its_files(partition, tmp_path, monkeypatch):
    def sent_twice(path, content):
        create(path, content)  # it succeeds and its answer is lost
        return create(path, content)

    monkeypatch.setattr("nightshift.storage.partition.create", sent_twice)
    published = publish_rows(partition, tmp_path)
    assert read_manifest(partition) == published
    assert fetch(partition, published, "examples.parquet", tmp_path).read_bytes() == b"rows"


def test_files_without_a_manifest_are_not_there(partition, tmp_path):
    publish_rows(partition, tmp_path)
    (partition / MANIFEST).unlink()
    assert read_manifest(partition) is None
    with pytest.raises(BadInput, match="nothing is published there"):
        require_manifest(partition)


def test_the_same_content_has_the_same_digest_whoever_wrote_it(partition, tmp_path):
    first = publish_rows(partition, tmp_path)
    (partition / MANIFEST).unlink()
    second = publish_rows(partition, tmp_path)
    assert first.files[0].path != second.files[0].path
    assert first.digest == second.digest


def test_a_log_of_how_it_was_made_does_not_change_what_a_partition_holds(tmp_path):
    digests = set()
    for seconds in ("1.5", "2.5"):
        folder = tmp_path / "attempt"
        folder.mkdir()
        (folder / "weights").write_bytes(b"same")
        (folder / "metrics.jsonl").write_text(seconds)
        partition = UPath((tmp_path / seconds).as_uri())
        manifest = publish(partition, folder, kind="model", application="app", inputs={}, logs={"metrics.jsonl"})
        digests.add(manifest.digest)
    assert len(digests) == 1


def test_the_second_writer_of_the_same_inputs_gets_the_winner_and_leaves_nothing(partition, tmp_path):
    winner = publish_rows(partition, tmp_path)
    assert publish_rows(partition, tmp_path) == winner
    assert len([child for child in partition.iterdir() if child.name != MANIFEST]) == 1


def test_other_inputs_replace_the_partition_and_old_readers_keep_their_files(partition, tmp_path):
    old = publish_rows(partition, tmp_path, b"old", "source-1")
    new = publish_rows(partition, tmp_path, b"new", "source-2")
    assert require_manifest(partition) == new
    assert fetch(partition, old, "examples.parquet", tmp_path).read_bytes() == b"old"
    with pytest.raises(BadInput, match="was asked for"):
        require_manifest(partition, old.digest)


def test_of_two_writers_at_once_one_wins_and_both_get_what_can_be_read(tmp_path):
    partition, gate, manifests = UPath((tmp_path / "s").as_uri()) / "p", threading.Barrier(4), []

    def write() -> None:
        gate.wait()
        manifests.append(publish_rows(partition, tmp_path))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({manifest.model_dump_json() for manifest in manifests}) == 1
    assert fetch(partition, manifests[0], "examples.parquet", tmp_path).read_bytes() == b"rows"


def test_a_file_that_changed_after_it_was_written_is_refused(tmp_path):
    partition = UPath((tmp_path / "s").as_uri()) / "p"
    manifest = publish_rows(partition, tmp_path)
    (partition / manifest.files[0].path).write_bytes(b"rowz")
    with pytest.raises(BadInput, match="SHA-256"):
        fetch(partition, manifest, "examples.parquet", tmp_path)
    with pytest.raises(BadInput, match="SHA-256"):
        read_file(partition, manifest, "examples.parquet")
    (partition / manifest.files[0].path).unlink()
    with pytest.raises(BadInput, match="it is gone"):
        read_file(partition, manifest, "examples.parquet")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"kind": "other"}'])
def test_a_damaged_manifest_is_an_error_and_not_an_empty_partition(partition, content):
    partition.mkdir(parents=True, exist_ok=True)
    (partition / MANIFEST).write_bytes(content)
    with pytest.raises(BadInput, match="not a manifest"):
        read_manifest(partition)


def test_a_whole_day_is_named_by_its_date_and_an_hour_by_both_ends():
    assert DAY.key == "2026-11-02"
    hour = Interval(start=datetime(2026, 11, 2, 6, tzinfo=UTC), end=datetime(2026, 11, 2, 7, tzinfo=UTC))
    assert hour.key == "2026-11-02T060000_2026-11-02T070000"
