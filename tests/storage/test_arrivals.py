"""What arrived is found in order and whole: whoever writes at once, and whatever was lost or killed."""

import threading

import pytest
from upath import UPath

from nightshift.storage.arrivals import announce, arrivals_after, has_arrival, newest_arrival
from nightshift.storage.files import read_bytes

everywhere = pytest.mark.parametrize(
    "storage", ["file", "memory", pytest.param("s3", marks=pytest.mark.slow)], indirect=True
)


def paths(home, after=0):
    return [arrival.path for _, arrival in arrivals_after(home, after)]


@everywhere
def test_who_reads_on_from_a_number_gets_what_came_after_it(storage):
    home = UPath(storage) / "app"
    assert (newest_arrival(home), paths(home)) == (0, [])
    for name in "abc":
        announce(home, name)
    assert (paths(home), paths(home, after=2), newest_arrival(home)) == (["a", "b", "c"], ["c"], 3)


@everywhere
def test_of_many_who_announce_at_once_each_gets_a_number_and_none_is_left_free(storage):
    home, barrier = UPath(storage) / "app", threading.Barrier(8)

    def write(name):
        barrier.wait()
        for number in range(5):
            announce(home, f"{name}-{number}")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(paths(home)) == sorted(f"{name}-{number}" for name in "abcdefgh" for number in range(5))
    assert newest_arrival(home) == 40


@everywhere
@pytest.mark.parametrize("hint", [None, b"3", b"not a number"])
def test_the_newest_is_found_without_its_hint_or_with_an_old_one(storage, hint):
    home = UPath(storage) / "app"
    for number in range(21):
        announce(home, str(number))
    place = home / "arrivals" / "newest"
    place.fs.rm_file(place.path)
    if hint:
        place.fs.pipe_file(place.path, hint)
    assert newest_arrival(home) == 21
    announce(home, "next")
    assert paths(home, after=21) == ["next"]
    assert read_bytes(place) == b"22"


def test_storage_without_an_arrival_that_there_was_is_told_apart(tmp_path):
    home = UPath(tmp_path) / "app"
    announce(home, "a")
    assert (has_arrival(home, 0), has_arrival(home, 1), has_arrival(home, 2)) == (True, True, False)


def test_an_arrival_that_is_none_stops_nobody(tmp_path, caplog):
    home = UPath(tmp_path) / "app"
    for name in "abc":
        announce(home, name)
    (tmp_path / "app" / "arrivals" / "00000002.json").write_text("{}")
    assert paths(home) == ["a", "c"]
    assert "00000002.json is not an arrival" in caplog.text


def test_a_hint_that_is_ahead_leaves_no_gap(tmp_path):
    """As in a copy of a storage that was written to in the meantime."""
    home = UPath(tmp_path) / "app"
    for name in "abc":
        announce(home, name)
    (tmp_path / "app" / "arrivals" / "newest").write_text("5")
    announce(home, "d")
    assert (paths(home), newest_arrival(home)) == (["a", "b", "c", "d"], 4)


@pytest.mark.parametrize("storage", ["memory"], indirect=True)
def test_who_may_create_and_not_replace_announces_as_well_as_others(storage, monkeypatch):
    home = UPath(storage) / "app"
    announce(home, "first")
    filesystem, tried = type(home.fs), []

    def refuse(self, path, content, *, mode="overwrite", real=filesystem.pipe_file, **_):
        tried.append(path)
        if self.exists(path):
            raise OSError(f"Forbidden: {path}")
        real(self, path, content, mode=mode)

    monkeypatch.setattr(filesystem, "pipe_file", refuse)
    for name in ("second", "third"):
        announce(home, name)
    assert [path for path in tried if not path.endswith("newest")] == [
        f"{home.path}/arrivals/{number:08d}.json" for number in (2, 3)
    ]
    assert paths(home) == ["first", "second", "third"]
