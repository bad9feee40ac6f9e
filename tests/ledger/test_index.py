"""The index: as fresh as the files, whatever was killed, lost or written at once."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from ledger_nights import APP, CHAMPION, NOW, crowned, everywhere, outcome, publish_night, trip
from upath import UPath

from nightshift.errors import BadInput
from nightshift.ledger import history, orders
from nightshift.ledger.index import GIVEN_UP, Index, keep_index, read_index
from nightshift.ledger.records import Release, Snooze
from nightshift.ledger.store import Ledger
from nightshift.storage.arrivals import announce
from nightshift.storage.partition import MANIFEST


def kept(storage):
    """What the index file holds."""
    return Index.model_validate_json((UPath(storage) / "app/ledger/index.json").read_bytes())


@everywhere
def test_what_was_written_a_moment_ago_is_known_whether_the_index_was_written_or_not(storage):
    ledger = Ledger(storage, "app")
    crowned(storage, "app")
    assert ledger.newest_release().model_digest == CHAMPION
    ledger.keep_index()
    trip(storage)
    assert list(ledger.orders()) == list(Ledger(storage, "app").orders()) == [1]
    assert len(history.nights(ledger)) == 2
    orders.close(Ledger(storage, "app"), outcome(1))
    assert ledger.index().outcomes[1].result == "registered"
    assert kept(storage).orders == {}  # nobody wrote the index again


@everywhere
def test_an_index_that_is_gone_is_made_anew_from_the_records(storage):
    crowned(storage, "app")
    trip(storage)
    ledger = Ledger(storage, "app")
    ledger.create(Snooze(id="s", until=NOW, reason="a fair", by="ana", created=NOW))
    ledger.keep_index()
    place = UPath(storage) / "app/ledger/index.json"
    before = read_index(UPath(storage) / "app")
    place.fs.rm_file(place.path)
    assert read_index(UPath(storage) / "app") == before
    place.fs.pipe_file(place.path, b'{"version": 0}')
    assert read_index(UPath(storage) / "app") == before


def test_a_state_of_before_the_index_is_read_whole_also_when_that_was_killed_halfway(tmp_path):
    storage = tmp_path.as_uri()
    crowned(storage, "app")
    trip(storage)
    whole = read_index(UPath(storage) / "app")
    for file in (tmp_path / "app/arrivals").iterdir():  # an earlier version wrote none
        file.unlink()
    ledger = Ledger(storage, "app")
    assert (list(ledger.orders()), len(history.nights(ledger))) == ([1], 2)
    # Killed while it wrote the index: the file is there whole, or not at all; what arrives then is in none.
    publish_night(storage, 24, "FAIL")
    ledger.keep_index()
    publish_night(storage, 25, "FAIL")
    now = read_index(UPath(storage) / "app")
    assert set(whole.nights) < set(now.nights)
    assert sorted(night.interval for night in now.nights.values()) == [f"2026-11-{day}" for day in (22, 23, 24, 25)]


def test_a_writer_that_was_killed_before_its_file_is_waited_for(tmp_path):
    home, night = UPath(tmp_path) / "app", publish_night(tmp_path.as_uri(), 22, "FAIL")
    manifest = UPath(night.report) / MANIFEST
    content = manifest.read_bytes()
    manifest.unlink()
    keep_index(home, read_index(home))
    assert (kept(tmp_path).nights, len(kept(tmp_path).pending)) == ({}, 1)
    manifest.write_bytes(content)
    known = read_index(home)
    assert ([one.interval for one in known.nights.values()], known.pending) == (["2026-11-22"], [])


def test_what_was_announced_long_ago_and_never_written_is_given_up(tmp_path):
    home = UPath(tmp_path) / "app"
    announce(home, "drift/2026-11-22/gone/manifest.json")
    arrival = tmp_path / "app/arrivals/00000001.json"
    old = datetime.now(UTC) - GIVEN_UP - timedelta(hours=1)
    arrival.write_text(json.dumps({**json.loads(arrival.read_text()), "at": old.isoformat()}))
    assert read_index(home).pending == []


def test_a_partition_that_is_written_again_replaces_what_was_known_of_it(tmp_path):
    from test_history import publish_examples

    from nightshift.verdict import Verdict

    storage, ledger = tmp_path.as_uri(), Ledger(tmp_path.as_uri(), "app")
    publish_examples(storage, 1, train=10)
    assert history.new_examples(ledger, None) == 10
    publish_examples(storage, 1, train=25)
    assert history.new_examples(ledger, None) == 25
    publish_examples(storage, 1, train=25, verdict=Verdict.FAIL)
    assert history.new_examples(ledger, None) == 0


def test_of_two_who_write_the_index_the_older_may_win(tmp_path):
    storage, home = tmp_path.as_uri(), UPath(tmp_path) / "app"
    crowned(storage, "app")
    old = read_index(home)
    trip(storage)
    Ledger(storage, "app").keep_index()
    (tmp_path / "app/ledger/index.json").write_text(old.model_dump_json())
    assert list(Ledger(storage, "app").orders()) == [1]


def test_an_index_of_other_storage_counts_for_nothing(tmp_path):
    """As after somebody put back the ledger alone from a backup."""
    storage = tmp_path.as_uri()
    trip(storage)
    ledger = Ledger(storage, "app")
    ledger.keep_index()
    for file in (tmp_path / "app/arrivals").iterdir():
        file.unlink()
    publish_night(storage, 25, "FAIL")
    assert len(history.nights(Ledger(storage, "app"))) == 3


def test_a_release_that_cannot_be_read_stops_what_needs_it_and_nothing_else(tmp_path):
    storage = tmp_path.as_uri()
    crowned(storage, "app")
    trip(storage)
    (tmp_path / "app/ledger/releases/0001.json").write_text("{}")
    ledger = Ledger(storage, "app")
    with pytest.raises(BadInput, match=r"releases/0001\.json cannot be read"):
        ledger.releases()
    with pytest.raises(BadInput, match=r"releases/0001\.json cannot be read"):
        orders.evaluate(APP, ledger, publish_night(storage, 25, "FAIL"), NOW)
    assert list(ledger.orders()) == [1]
    ledger.create(Release(number=1, model_digest=CHAMPION, released=NOW))  # it is there already
    (tmp_path / "app/ledger/releases/0001.json").write_text(
        Release(number=1, model_digest=CHAMPION, released=NOW).model_dump_json()
    )
    announce(UPath(tmp_path) / "app", "ledger/releases/0001.json")
    assert ledger.newest_release().model_digest == CHAMPION


@pytest.mark.parametrize("path", ["../other/ledger/orders/0001.json", "ledger//0001.json", "elsewhere/x.json"])
def test_an_arrival_reads_nothing_but_what_an_index_holds(tmp_path, path):
    trip(tmp_path.as_uri(), first=22)
    home = UPath(tmp_path) / "new"
    announce(home, path)
    assert read_index(home).orders == {}


def test_an_index_keeps_what_matters_today(tmp_path):
    storage, ledger = tmp_path.as_uri(), Ledger(tmp_path.as_uri(), "app")
    for number in range(1, 131):
        decision = orders.force(ledger, f"forced-{number}", reason="because", by="ana", now=NOW)
        orders.close(ledger, outcome(decision.order))
    known = read_index(UPath(storage) / "app")
    assert list(known.orders) == list(range(31, 131))
    assert set(known.claims) <= set(known.orders) == set(known.outcomes)
