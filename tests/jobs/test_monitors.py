"""What the jobs that judge nights are asked for."""

from nightshift.jobs.drift import Spec
from nightshift.settings.application import Application

SOURCE = {"uri": "x.csv", "columns": {"prompt": "text"}}


def test_the_night_of_a_day_is_that_of_the_applications_time_zone():
    berlin = Application(name="app", sources=[SOURCE], timezone="Europe/Berlin")
    spec = Spec(application=berlin, storage="memory://x", night="2026-11-04")
    assert spec.asks_for(["left-over", "2026-11-03T230000_2026-11-04T230000"])
    assert not spec.asks_for(["2026-11-04T230000_2026-11-05T230000", "2026-11-02"])
