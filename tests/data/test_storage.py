"""Storage: two writers, one winner, and a reader never sees half of anything."""

import threading

import pytest
from upath import UPath

from nightshift.data.storage import create, local_copy, put, replace
from nightshift.errors import BadEnvironment


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


def test_storage_that_cannot_create_atomically_is_refused_by_name():
    with pytest.raises(BadEnvironment, match="'http' cannot create a file atomically"):
        create(UPath("http://127.0.0.1:9/claim"), b"x")
