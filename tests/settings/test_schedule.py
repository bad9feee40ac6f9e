"""The moments of a schedule are those of Airflow's timetables, in every zone and also where clocks are moved."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from airflow.timetables.interval import CronDataIntervalTimetable
from pendulum import instance

from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.settings.schedule import PRESETS, at_most_once_a_day, interval_meant, next_end, previous_end

SCHEDULES = ["30 2 * * *", "15 */2 * * *", "*/20 * * * *", "0 6,18 * * 1-5", "@hourly", "@daily"]
# Clocks are moved at 02:00, at midnight, and by half an hour.
ZONES = ["Europe/Berlin", "America/Havana", "Australia/Lord_Howe"]
MOVED = [datetime(2026, month, day, tzinfo=UTC) for month, day in ((3, 8), (3, 29), (4, 4), (10, 3), (10, 25), (11, 1))]
MOMENTS = [day + timedelta(minutes=55 * n) for day in MOVED for n in range(20)]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ends_of_intervals_are_airflows_also_where_clocks_are_moved(schedule, zone):
    timetable = CronDataIntervalTimetable(schedule, timezone=zone)
    for moment in MOMENTS:
        assert next_end(schedule, moment, ZoneInfo(zone)) == timetable._get_next(instance(moment)), moment
        assert previous_end(schedule, moment, ZoneInfo(zone)) == timetable._get_prev(instance(moment)), moment


@pytest.mark.parametrize("schedule", [*PRESETS, "0 0 29 2 *", "0 0 * * mon#1"])
def test_ends_of_every_preset_are_airflows(schedule):
    timetable = CronDataIntervalTimetable(schedule, timezone="UTC")
    for moment in MOVED:
        assert next_end(schedule, moment, UTC) == timetable._get_next(instance(moment))
        assert previous_end(schedule, moment, UTC) == timetable._get_prev(instance(moment))


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("schedule", ["30 2 * * *", "30 0 * * *", "*/20 * * * *"])
def test_a_moment_lies_in_the_interval_that_it_means(schedule, zone):
    for moment in MOMENTS:
        start, end = interval_meant(moment.isoformat(), schedule, ZoneInfo(zone))
        assert start <= moment < end
        assert next_end(schedule, start, ZoneInfo(zone)) == end


def test_a_day_and_a_moment_without_an_offset_are_of_the_zone():
    berlin = ZoneInfo("Europe/Berlin")
    in_november = interval_meant("2026-11-04", "@daily", berlin)
    assert in_november == (datetime(2026, 11, 3, 23, tzinfo=UTC), datetime(2026, 11, 4, 23, tzinfo=UTC))
    # The day on which the clock is put back has 25 hours.
    assert interval_meant("2026-10-25", None, berlin) == interval_meant("2026-10-25T12:00", "@daily", berlin)
    assert interval_meant("2026-10-25", None, berlin)[1] == datetime(2026, 10, 25, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("typed", "schedule", "said"),
    [
        (
            "2026-11-04",
            "@hourly",
            r"several intervals of `@hourly` begin on 2026-11-04: .* such as 2026-11-04T00:00:00Z",
        ),
        ("2026-11-04", "0 6,18 * * *", "such as 2026-11-04T06:00:00Z, or start a backfill"),
        ("2026-11-04T05:00", None, "without a `schedule` intervals are days: give a day"),
        ("yesterday", "@daily", "'yesterday' is no day such as"),
        ("2026-02-30", "@daily", "'2026-02-30' is no day such as"),
    ],
)
def test_what_means_no_single_interval_is_refused_with_what_to_type(typed, schedule, said):
    with pytest.raises(ValueError, match=said):
        interval_meant(typed, schedule, UTC)


def test_a_day_names_an_interval_only_where_no_two_begin_on_it():
    assert all(at_most_once_a_day(one) for one in ("@daily", "0 2 * * *", "@weekly", "@yearly", "30 4 1 * *"))
    assert not any(at_most_once_a_day(one) for one in ("@hourly", "0 6,18 * * *", "*/15 2 * * *", "0 */12 * * 1"))


@pytest.mark.parametrize(
    ("schedule", "zone", "uri", "allowed"),
    [
        ("@hourly", "Europe/Berlin", "{start:%Y-%m-%dT%H}.csv", False),
        ("*/15 * * * *", "America/New_York", "{end:%Y/%m/%d/%H%M}.csv", False),
        ("@hourly", "Europe/Berlin", "{start:%Y-%m-%dT%H%z}.csv", True),
        ("@hourly", "UTC", "{start:%Y-%m-%dT%H}.csv", True),
        ("@hourly", "Asia/Kolkata", "{start:%Y-%m-%dT%H}.csv", True),  # which never moves its clocks
        ("0 6,18 * * *", "Europe/Berlin", "{start:%Y-%m-%dT%H}.csv", True),
        ("@daily", "Europe/Berlin", "{start:%Y-%m-%d}.csv", True),
        ("@weekly", "Europe/Berlin", "{start:%Y-%m}/*.csv", True),
        ("@hourly", "Europe/Berlin", "always/*.csv", True),
    ],
)
def test_two_intervals_never_read_one_file_because_clocks_were_put_back(schedule, zone, uri, allowed):
    source = {"uri": uri, "columns": {"prompt": "text"}}
    fields = {"name": "app", "schedule": schedule, "timezone": zone, "start": "2026-03-01", "sources": [source]}
    if allowed:
        Application(**fields)
        return
    with pytest.raises(ValueError, match=r"two intervals would read .* as in \{start:%Y-%m-%dT%H%z\}"):
        Application(**fields)


@pytest.mark.parametrize("schedule", ["@hourly", "@daily", "@weekly", "0 2 * * *"])
def test_an_interval_is_found_by_its_key(schedule):
    for zone in (UTC, *map(ZoneInfo, ZONES)):
        interval = Interval(start=(start := next_end(schedule, MOVED[0], zone)), end=next_end(schedule, start, zone))
        assert Interval.of_key(interval.key) == interval


@pytest.mark.parametrize("key", ["", "left-over", "2026-13-01", "9999-12-31", "2026-11-02T010000_2026-11-02T000000"])
def test_what_is_no_key_is_no_interval(key):
    assert Interval.of_key(key) is None
