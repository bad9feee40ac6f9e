"""Storage: two writers, one winner, and a reader never sees half of anything."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from upath import UPath

from nightshift.errors import BadEnvironment
from nightshift.storage.files import create, local_copy, names_in, put, read_bytes, replace, scratch


@pytest.fixture(params=["file", "memory", "s3"])
def folder(request, tmp_path):
    if request.param == "file":
        return UPath(tmp_path.as_uri())
    if request.param == "s3":
        return UPath(request.getfixturevalue("bucket")) / tmp_path.name
    return UPath(f"memory://{tmp_path.name}")


def test_only_the_first_of_two_creators_writes(folder):
    assert create(folder / "claim", b"first")
    assert not create(folder / "claim", b"second")
    assert (folder / "claim").read_bytes() == b"first"


def test_of_many_creators_at_once_exactly_one_wins(tmp_path):
    target, won, gate = UPath(tmp_path.as_uri()) / "claim", [], threading.Barrier(8)

    def race(name: bytes) -> None:
        gate.wait()
        if create(target, name * 100_000):
            won.append(name)

    threads = [threading.Thread(target=race, args=(bytes([65 + i]),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert target.read_bytes() == won[0] * 100_000
    assert [path.name for path in tmp_path.iterdir()] == ["claim"]


def test_a_reader_of_a_replaced_file_sees_old_or_new_and_never_a_part(tmp_path):
    target, stop, seen = UPath(tmp_path.as_uri()) / "manifest.json", threading.Event(), set()
    replace(target, b"0" * 200_000)

    def read() -> None:
        while not stop.is_set():
            seen.add(frozenset(target.read_bytes()))

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(50):
        replace(target, bytes([48 + i % 10]) * 200_000)
    stop.set()
    reader.join()
    assert all(len(content) == 1 for content in seen)


def test_a_file_put_into_storage_can_be_read_back_locally(folder, tmp_path):
    source = tmp_path / "source.bin"
    source.write_bytes(b"rows")
    put(source, folder / "deep" / "target.bin")
    assert local_copy(folder / "deep" / "target.bin", tmp_path).read_bytes() == b"rows"


def test_what_another_process_writes_into_a_folder_that_was_listed_is_read(folder):
    replace(folder / "ledger" / "0001.json", b"old")
    assert names_in(folder / "ledger") == ["0001.json"]
    assert read_bytes(folder / "ledger" / "0002.json") is None
    if folder.protocol == "s3":
        import boto3

        bucket, _, prefix = folder.path.partition("/")
        for name in ("0001.json", "0002.json"):
            boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/ledger/{name}", Body=b"as long as it likes")
    else:
        for name in ("0001.json", "0002.json"):
            replace(folder / "ledger" / name, b"as long as it likes")
    assert [read_bytes(folder / "ledger" / name) for name in ("0001.json", "0002.json")] == [b"as long as it likes"] * 2


def test_storage_that_cannot_create_atomically_is_refused_by_name():
    with pytest.raises(BadEnvironment, match="'http' cannot create a file atomically"):
        create(UPath("http://127.0.0.1:9/claim"), b"x")


HOLD_A_FOLDER = """
import os, sys, time
from upath import UPath
from nightshift.storage.files import scratch
folder = scratch(UPath(sys.argv[1]))
(folder / "rows.parquet").write_bytes(b"rows of customers")
child = os.fork() if sys.argv[2] == "fork" else None
if child != 0:
    print(folder, child, flush=True)
time.sleep(60)
"""


def hold_a_folder(storage, how="alone"):
    """A process that works in a scratch folder; the folder, and the process's own child."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_A_FOLDER, str(storage), how], stdout=subprocess.PIPE, text=True
    )
    folder, child = process.stdout.readline().split()
    return process, Path(folder), child


@pytest.fixture(params=["file", "memory"])
def storage(request, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path.as_uri() if request.param == "file" else "memory://store"


def test_what_a_killed_process_left_is_removed_at_the_next_start_and_what_others_use_is_not(storage):
    (killed, left, _), (living, used, _) = hold_a_folder(storage), hold_a_folder(storage)
    try:
        killed.kill()
        killed.wait()
        assert (left / "rows.parquet").exists()
        mine = scratch(UPath(storage))
        assert not left.exists()
        assert (used / "rows.parquet").exists()
        assert mine.parent == used.parent
    finally:
        living.kill()
        living.wait()


def test_a_child_that_outlives_its_parent_keeps_its_folder(tmp_path):
    parent, folder, child = hold_a_folder(tmp_path.as_uri(), "fork")
    try:
        parent.kill()
        parent.wait()
        scratch(UPath(tmp_path.as_uri()))
        assert (folder / "rows.parquet").exists()
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_nobody_else_can_read_what_lies_in_scratch(storage, tmp_path):
    wide = tmp_path / ".scratch"
    wide.mkdir(mode=0o755)
    folder = scratch(UPath(storage))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent in {wide, tmp_path}
    if folder.parent == wide:
        assert wide.stat().st_mode & 0o777 == 0o700


def test_many_folders_one_after_the_other_hold_no_descriptors(tmp_path):
    def work() -> int:
        shutil.rmtree(scratch(UPath(tmp_path.as_uri())))
        return len(list(Path("/proc/self/fd").iterdir()))

    assert work() == [work() for _ in range(20)][-1]


def test_a_cloud_that_asks_for_the_right_to_replace_first_still_says_that_a_file_is_there(monkeypatch):
    place = UPath("memory://refusing/record")
    assert create(place, b"first")

    def refuse(*_, **__):
        raise OSError(f"Forbidden: {place}")

    monkeypatch.setattr(type(place.fs), "pipe_file", refuse)
    assert not create(place, b"second")
    with pytest.raises(OSError, match="Forbidden"):
        create(UPath("memory://refusing/other"), b"x")
