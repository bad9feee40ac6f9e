"""Which partitions a training set is made of: by day, and a day is one of the application's time zone."""

from datetime import date
from zoneinfo import ZoneInfo

import pytest

from nightshift.data.acceptance import record_acceptance
from nightshift.data.snapshot import published_examples, select
from nightshift.settings.application import Application
from nightshift.storage.partition import partition_of, publish
from nightshift.verdict import Verdict

BERLIN = Application(
    name="app", timezone="Europe/Berlin", sources=[{"uri": "x.csv", "columns": {"prompt": "text", "answer": "said"}}]
)


@pytest.fixture
def three_days(tmp_path):
    """Storage with accepted examples of 2, 3 and 4 November in Berlin, of which each begins at 23:00 UTC of the day before."""
    storage = (tmp_path / "storage").as_uri()
    for day in ("2026-11-02", "2026-11-03", "2026-11-04"):
        interval = BERLIN.interval_of(day)
        folder = tmp_path / day
        folder.mkdir()
        (folder / "examples.parquet").write_text(day)
        partition = partition_of(storage, "app", "examples", interval.key)
        manifest = publish(
            partition, folder, kind="examples", application="app", inputs={"day": day}, interval=interval
        )
        record_acceptance(partition, manifest.digest, Verdict.PASS, [])
    return storage


def test_a_training_set_ends_with_the_day_that_a_person_chose_in_the_applications_zone(three_days):
    examples = published_examples(three_days, "app", ZoneInfo("Europe/Berlin"))
    chosen = select(examples, until=date(2026, 11, 3), window_days=2).window
    assert [one.day for one in chosen] == [date(2026, 11, 2), date(2026, 11, 3)]
