"""How old the newest partitions are: late is late, and a job that works has its time."""

from datetime import timedelta

import pytest
from stored_application import LAST, StoredApplication, days

from nightshift.dashboard.freshness import freshness
from nightshift.dashboard.intervals import last_judged
from nightshift.dashboard.stored import Store
from nightshift.settings.application import Application

SOURCE = {"uri": "/data/{start:%Y-%m-%d}.jsonl", "columns": {"prompt": "question", "answer": "reply"}}


@pytest.fixture
def stale(tmp_path):
    """Two answered nights of which the first was judged; and a function that says what is stale some hours later."""
    stored = StoredApplication(tmp_path.as_uri(), "app")
    for day in days(2):
        _, newest = stored.interactions(day)
    stored.drift(LAST - timedelta(days=1))
    app = Application(name="app", description="A.", schedule="@daily", sources=[SOURCE], start="2026-01-01")

    def after(hours, since=newest.created):
        index = stored.ledger.index()
        judged, _ = last_judged(index, 3)
        found = freshness(
            Store(stored.storage, "app"), index, app, {"drift": judged["drift"]}, "", since + timedelta(hours=hours)
        )
        return {one.kind: (one.name, one.stale) for one in found}

    return after


def test_a_night_that_is_being_judged_is_not_stale_before_its_time_is_over(stale):
    assert stale(1)["drift"] == ("2026-11-26", "")
    assert stale(5)["drift"] == ("2026-11-26", "2026-11-27 has interactions and no verdict")


def test_a_half_written_night_is_not_there(stale, tmp_path):
    (tmp_path / "app" / "interactions" / "2099-01-01").mkdir()
    interval, said = stale(24 * 7)["interactions"]
    assert interval == "2026-11-27"
    assert said.endswith("is missing")
    assert stale(5)["drift"][1] == "2026-11-27 has interactions and no verdict"
