"""The index: as fresh as the files, whatever was killed, lost or written at once."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from ledger_intervals import APP, CHAMPION, NOW, crowned, everywhere, outcome, publish_interval, trip
from upath import UPath

from nightshift.errors import BadInput
from nightshift.ledger import history, orders
from nightshift.ledger.index import Index, stored_index, write_index
from nightshift.ledger.index_files import A_DAY
from nightshift.ledger.records import Release, Snooze
from nightshift.ledger.store import Ledger
from nightshift.storage.arrivals import announce
from nightshift.storage.manifest import MANIFEST


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
    assert len(history.monitored_intervals(ledger)) == 2
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
    before = Ledger(storage, "app").index().model_dump(exclude={"anew"})
    place.fs.rm_file(place.path)
    assert Ledger(storage, "app").index().model_dump(exclude={"anew"}) == before
    place.fs.pipe_file(place.path, b'{"version": 0}')
    assert Ledger(storage, "app").index().model_dump(exclude={"anew"}) == before


def test_a_state_of_before_the_index_is_read_whole_also_when_that_was_killed_halfway(tmp_path):
    storage = tmp_path.as_uri()
    crowned(storage, "app")
    trip(storage)
    whole = Ledger(storage, "app").index()
    for file in (tmp_path / "app/arrivals").iterdir():  # an earlier version wrote none
        file.unlink()
    ledger = Ledger(storage, "app")
    assert (list(ledger.orders()), len(history.monitored_intervals(ledger))) == ([1], 2)
    # Killed while it wrote the index: the file is there whole, or not at all; what arrives then is in none.
    publish_interval(storage, 24, "FAIL")
    ledger.keep_index()
    publish_interval(storage, 25, "FAIL")
    now = Ledger(storage, "app").index()
    assert set(whole.nights) < set(now.nights)
    assert sorted(night.interval for night in now.nights.values()) == [f"2026-11-{day}" for day in (22, 23, 24, 25)]


def test_a_writer_that_was_killed_before_its_file_is_waited_for(tmp_path):
    home, night = UPath(tmp_path) / "app", publish_interval(tmp_path.as_uri(), 22, "FAIL")
    manifest = UPath(night.report) / MANIFEST
    content = manifest.read_bytes()
    manifest.unlink()
    Ledger(tmp_path.as_uri(), "app").keep_index()
    assert (kept(tmp_path).nights, len(kept(tmp_path).pending)) == ({}, 1)
    manifest.write_bytes(content)
    known = Ledger(home.parent.as_uri(), home.name).index()
    assert ([one.interval for one in known.nights.values()], known.pending) == (["2026-11-22"], [])


def test_what_was_announced_long_ago_and_never_written_is_given_up(tmp_path):
    home = UPath(tmp_path) / "app"
    announce(home, "drift/2026-11-22/gone/manifest.json")
    arrival = tmp_path / "app/arrivals/00000001.json"
    old = datetime.now(UTC) - A_DAY - timedelta(hours=1)
    arrival.write_text(json.dumps({**json.loads(arrival.read_text()), "at": old.isoformat()}))
    assert Ledger(home.parent.as_uri(), home.name).index().pending == []


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
    old = Ledger(home.parent.as_uri(), home.name).index()
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
    publish_interval(storage, 25, "FAIL")
    assert len(history.monitored_intervals(Ledger(storage, "app"))) == 3


def test_a_release_that_cannot_be_read_stops_what_needs_it_and_nothing_else(tmp_path):
    storage = tmp_path.as_uri()
    crowned(storage, "app")
    trip(storage)
    (tmp_path / "app/ledger/releases/0001.json").write_text("{}")
    ledger = Ledger(storage, "app")
    with pytest.raises(BadInput, match=r"releases/0001\.json cannot be read"):
        ledger.releases()
    with pytest.raises(BadInput, match=r"releases/0001\.json cannot be read"):
        orders.evaluate(APP, ledger, publish_interval(storage, 25, "FAIL"), NOW)
    assert list(ledger.orders()) == [1]
    ledger.keep_index()
    release = Release(number=1, model_digest=CHAMPION, released=NOW)
    (tmp_path / "app/ledger/releases/0001.json").write_text(release.model_dump_json())  # a person put it right
    assert Ledger(storage, "app").newest_release() == release


@pytest.mark.parametrize(
    "path",
    [
        "../app/ledger/orders/0001.json", "ledger//0001.json", "ledger/orders/0001 (copy).json", "elsewhere/x.json",
        f"drift/{'x' * 300}/y/manifest.json", "drift/a\0/y/manifest.json", "drift/folder/y/manifest.json",
    ],
)  # fmt: skip
def test_an_arrival_reads_nothing_but_what_an_index_holds(tmp_path, path):
    trip(tmp_path.as_uri(), first=22)
    home = UPath(tmp_path) / "new"
    (tmp_path / "new/drift/folder/y/manifest.json").mkdir(parents=True)
    announce(home, path)
    assert Ledger(home.parent.as_uri(), home.name).index().orders == {}


def test_what_an_earlier_version_wrote_after_the_update_is_found_a_day_later(tmp_path):
    storage = tmp_path.as_uri()
    trip(storage)
    Ledger(storage, "app").keep_index()
    night = publish_interval(storage, 25, "FAIL")
    (tmp_path / "app/arrivals/newest").unlink()
    max((tmp_path / "app/arrivals").iterdir()).unlink()  # as a job of before that was still running
    ledger = Ledger(storage, "app")
    assert night not in history.monitored_intervals(ledger)
    home = UPath(storage) / "app"
    write_index(home, stored_index(home).model_copy(update={"anew": NOW}))
    later = Ledger(storage, "app")
    assert night in history.monitored_intervals(later)
    later.keep_index()
    assert stored_index(home).anew is None


def test_a_night_is_where_storage_is_now(tmp_path):
    trip((tmp_path / "before").as_uri())
    Ledger((tmp_path / "before").as_uri(), "app").keep_index()
    (tmp_path / "before").rename(tmp_path / "after")
    reports = [night.report for night in history.monitored_intervals(Ledger((tmp_path / "after").as_uri(), "app"))]
    assert all(UPath(report).joinpath(MANIFEST).exists() for report in reports)


def test_of_two_who_write_one_partition_at_once_the_one_whose_file_stays_is_known(tmp_path):
    night = publish_interval(tmp_path.as_uri(), 22, "FAIL")
    manifest = UPath(night.report) / MANIFEST
    content = manifest.read_bytes()
    path = "/".join(manifest.parts[-4:])
    announce(UPath(tmp_path) / "app", path, content.replace(b'"FAIL"', b'"PASS"'))
    manifest.write_bytes(content.replace(b'"FAIL"', b'"PASS"'))
    ledger = Ledger(tmp_path.as_uri(), "app")
    assert [one.verdict for one in history.monitored_intervals(ledger)] == ["PASS"]
    manifest.write_bytes(content)  # the first writer was slow
    assert [one.verdict for one in history.monitored_intervals(ledger)] == ["FAIL"]


def test_an_index_keeps_what_matters_today(tmp_path):
    storage, ledger = tmp_path.as_uri(), Ledger(tmp_path.as_uri(), "app")
    for number in range(1, 131):
        decision = orders.force(ledger, f"forced-{number}", reason="because", by="ana", now=NOW)
        orders.close(ledger, outcome(decision.order))
    known = Ledger(storage, "app").index()
    assert list(known.orders) == list(range(31, 131))
    assert set(known.claims) <= set(known.orders) == set(known.outcomes)
