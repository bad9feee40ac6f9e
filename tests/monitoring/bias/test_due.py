"""Which nights are asked all pairs and questions: those of a day of the week, in the application's time zone."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from nightshift.monitoring.bias.due import inputs_of, is_full
from nightshift.settings.application import Application
from nightshift.settings.interval import Interval
from nightshift.settings.schedule import next_end

SOURCE = {"uri": "x.csv", "columns": {"prompt": "text"}}


def full_nights(schedule, zone, weekday=6):
    """The beginnings (local) of the first 30 intervals since Thursday, 1 October 2026, that are asked everything."""
    app = Application(
        name="app",
        sources=[SOURCE],
        schedule=schedule,
        timezone=zone,
        start="2026-10-01",
        bias={"full_weekday": weekday},
    )

    def intervals():
        start = datetime(2026, 10, 1, tzinfo=UTC)
        while True:
            end = next_end(schedule, start, app.zone)
            yield Interval(start=start, end=end)
            start = end

    found = (one for one in islice(intervals(), 1, 31) if is_full(app, one))
    return [f"{one.start.astimezone(app.zone):%a %d %Hh}" for one in found]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("hour", [0, 2, 23])
def test_sundays_night_is_that_of_the_applications_own_sunday(zone, hour):
    assert full_nights(f"0 {hour} * * *", zone)[:4] == [f"Sun {day:02} {hour:02}h" for day in (4, 11, 18, 25)]


@pytest.mark.parametrize("schedule", ["@weekly", "0 6 * * 1", "@monthly"])
def test_a_night_of_a_week_or_more_holds_every_weekday(schedule):
    assert len(full_nights(schedule, "Europe/Berlin")) == 30


def test_the_hours_of_that_day_are_full_and_no_others():
    assert {night[:6] for night in full_nights("@hourly", "Europe/Berlin", weekday=4)} == {"Fri 02"}


def test_no_night_is_full_where_no_day_is_named():
    assert full_nights("@daily", "UTC", weekday=None) == []


def test_a_sunday_on_which_clocks_are_put_back_is_one_day():
    sunday = datetime(2026, 10, 24, 22, tzinfo=UTC)
    app = Application(name="app", sources=[SOURCE], timezone="Europe/Berlin", bias={"full_weekday": 0})
    assert not is_full(app, Interval(start=sunday, end=sunday + timedelta(hours=25)))


def test_a_night_is_judged_again_when_users_answers_may_be_longer():
    short, long = (Application(name="app", sources=[SOURCE], inference={"max_new_tokens": most}) for most in (12, 200))
    assert inputs_of("night", "champion", "base", short) != inputs_of("night", "champion", "base", long)
