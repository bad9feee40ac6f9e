"""What people call a night: their own day, or when it begins where it is none."""

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from nightshift.dashboard.intervals import named

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("key", "zone", "name"),
    [
        ("2026-11-02", UTC, "2026-11-02"),
        ("2026-11-01T230000_2026-11-02T230000", BERLIN, "2026-11-02"),
        ("2026-10-24T220000_2026-10-25T230000", BERLIN, "2026-10-25"),  # 25 hours: clocks were put back
        ("2026-10-31T230000_2026-11-07T230000", BERLIN, "2026-11-01 to 2026-11-07"),
        ("2026-11-02T040000_2026-11-02T050000", UTC, "2026-11-02 04:00 UTC"),
        ("2026-10-25T000000_2026-10-25T010000", BERLIN, "2026-10-25 02:00 CEST"),
        ("2026-10-25T010000_2026-10-25T020000", BERLIN, "2026-10-25 02:00 CET"),
        ("2026-11-02T010000_2026-11-03T010000", BERLIN, "2026-11-02 02:00 CET to 2026-11-03 02:00 CET"),
        ("2026-11-02", BERLIN, "2026-11-02 01:00 CET to 2026-11-03 01:00 CET"),  # of before the zone was named
        ("left-over", UTC, "left-over"),
        ("9999-12-31", UTC, "9999-12-31"),
        ("0001-01-01", ZoneInfo("America/New_York"), "0001-01-01"),
        ("", UTC, ""),
    ],
)
def test_a_night_is_called_by_the_day_of_the_applications_time_zone(key, zone, name):
    assert named(key, zone) == name
