"""Reading storage: the same from a disk and from an object store, and nothing half-written."""

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from stored_application import LAST, StoredApplication, days

from nightshift.dashboard import intervals, ledger, models
from nightshift.dashboard.stored import Store
from nightshift.errors import BadInput


@pytest.fixture(params=["file", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def app(request, tmp_path):
    """An application on a disk, in memory, and in a bucket."""
    places = {"file": tmp_path.as_uri, "memory": lambda: f"memory://{tmp_path.name}"}
    place = (
        places[request.param]() if request.param in places else f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    )
    return StoredApplication(place, "app")


def test_the_newest_nights_are_found_in_order(app):
    for day in days(4):
        app.drift(day, "FAIL" if day == LAST else "PASS", excess=0.6)
    store = Store(app.storage, "app")
    judged, broken = intervals.judged_intervals(app.ledger.index(), "drift", 3)
    assert [night.interval for night in judged] == ["2026-11-25", "2026-11-26", "2026-11-27"]
    assert [night.verdict for night in judged] == ["PASS", "PASS", "FAIL"]
    assert broken == []
    effect = intervals.largest_effect(store, judged[-1])
    assert (effect.name, effect.value, effect.fail) == ("exact_match", 0.6, 0.2)


def test_a_night_is_named_by_the_time_zone_of_the_application_also_when_that_changes(app):
    app.drift(LAST, "PASS")
    names = []
    for zone in (UTC, ZoneInfo("Europe/Berlin")):
        (judged,), _ = intervals.judged_intervals(app.ledger.index(), "drift", 1, zone)
        names.append(judged.name)
    assert names == ["2026-11-27", "2026-11-27 01:00 CET to 2026-11-28 01:00 CET"]


def test_of_two_verdicts_about_one_night_the_newer_counts(app):
    app.drift(LAST, "FAIL")
    app.drift(LAST, "PASS", version="2")
    judged, _ = intervals.judged_intervals(app.ledger.index(), "drift", 5)
    assert [(night.verdict, night.model_version) for night in judged] == [("PASS", "2")]


def test_a_verdict_that_comes_later_is_seen(app):
    records = app.ledger
    assert intervals.judged_intervals(records.index(), "bias", 5) == ([], [])
    app.bias(LAST)
    assert len(intervals.judged_intervals(records.index(), "bias", 5)[0]) == 1


def test_a_whole_retraining_is_read_back(app):
    app.champion()
    app.retraining(1, LAST)
    store, records = Store(app.storage, "app"), app.ledger
    known = ledger.retrainings(records)
    assert known[0].doing == "registered: version 2, its gate says PASS"
    assert ledger.open_retraining(known) is None
    story = ledger.story(store, records, known, [])
    assert [entry.what for entry in story.entries] == [
        "order 1 registered", "claim of order 1", "order 1", "interval 2026-11-27: retrain", "release of version 1",
        "version 1 released",
    ]  # fmt: skip
    assert models.champion(store, records).scores["exact_match"].value == 0.87


def test_a_file_that_is_no_record_says_which_and_what_is_wrong(app):
    app.champion()
    store = Store(app.storage, "app")
    name = store.names("ledger", "releases")[0]
    (store.place / "ledger" / "releases" / name).write_text("{}")
    with pytest.raises(BadInput, match=r"releases/.*\.json cannot be read: \d errors"):
        models.champion(store, app.ledger)
