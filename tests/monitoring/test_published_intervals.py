"""Which of the newest nights a champion answered, as manifests say it."""

from datetime import UTC, datetime, timedelta

import pytest
from upath import UPath

from nightshift.ledger.records import Release, of_challenger
from nightshift.monitoring.published_intervals import answered_by, arms_partition, published_interactions
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.storage.files import scratch
from nightshift.storage.partition import partition_of, publish

APP = Application(name="app", sources=[{"uri": "rows.jsonl", "columns": {"prompt": "text"}}])
FIRST = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture
def storage(tmp_path):
    """Five nights: by an earlier model, two by the champion, two that were served elsewhere."""
    storage = (tmp_path / "storage").as_uri()
    for place, model in enumerate(["earlier", "champion", "champion", "", ""]):
        answer(storage, partition_of(storage, "app", "interactions"), place, model)
    return storage


def answer(storage, place, day, model):
    start = FIRST + timedelta(days=day)
    interval = Interval(start=start, end=start + timedelta(days=1))
    folder = scratch(UPath(storage))
    (folder / "rows").write_text(model)
    publish(
        place / interval.key, folder, kind="interactions", application="app", inputs={}, interval=interval,
        facts={"model_digest": model},
    )  # fmt: skip


def test_the_champions_nights_are_its_own_and_what_was_served_elsewhere_since_its_release(storage):
    def nights(released, newest=7):
        release = Release(number=1, model_digest="champion", released=released) if released else None
        return [night.key for night in answered_by(storage, APP, "champion", release, newest)]

    assert nights(None) == ["2026-11-04", "2026-11-03"]
    assert nights(FIRST + timedelta(days=4)) == ["2026-11-06", "2026-11-04", "2026-11-03"]
    assert nights(None, newest=3) == ["2026-11-04"]
    assert answered_by(storage, APP, "another", None, 7) == []


def test_what_a_challenger_answered_of_a_night_is_judged_by_itself(storage):
    for split, day in ((1, 1), (2, 2)):
        answer(storage, arms_partition(storage, "app", split), day, "challenger")
    found, _ = published_interactions(storage, "app", 3)
    assert [(night.key, night.model_digest, of_challenger(str(night.partition))) for night in found] == [
        ("2026-11-04", "champion", False),
        ("2026-11-04", "challenger", True),
        ("2026-11-05", "", False),
        ("2026-11-06", "", False),
    ]
