"""Which nights are judged: everything follows from what is published."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from upath import UPath

from nightshift.monitoring.due_intervals import (
    MOST_INTERVALS,
    Answered,
    due,
    expected_interval,
    inputs_of,
    lacking,
    trailing,
)
from nightshift.settings.application import Application
from nightshift.settings.clock import Clock
from nightshift.settings.interval import Interval
from nightshift.settings.split import Arm

CHAMPION, OTHER = "c" * 64, "o" * 64
REFERENCES = {CHAMPION: "reference of c", OTHER: "reference of o"}


def application(**settings):
    source = {"uri": "x.csv", "columns": {"prompt": "text"}}
    return Application(name="app", sources=[source], **settings)


APP = application(start=date(2026, 11, 1), end=date(2026, 11, 30))


def night(day, digest="first", model=CHAMPION):
    start = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=day - 1)
    interval = Interval(start=start, end=start + timedelta(days=1))
    return Answered(UPath("memory://x") / interval.key, digest, interval, model)


def days(found):
    return [one.answered.day.day for one in found]


def test_nights_without_a_verdict_are_due_oldest_first():
    judged = {night(2).key: [inputs_of("first", "reference of c", APP)]}
    assert days(due([night(3), night(1), night(2)], judged, CHAMPION, REFERENCES, APP)) == [1, 3]


def test_a_night_is_due_again_when_its_rows_the_reference_or_the_policy_changed():
    judged = {night(1).key: [inputs_of("first", "reference of c", APP)]}
    assert due([night(1)], judged, CHAMPION, REFERENCES, APP) == []
    assert days(due([night(1, "again")], judged, CHAMPION, REFERENCES, APP)) == [1]
    assert days(due([night(1)], judged, CHAMPION, {CHAMPION: "another"}, APP)) == [1]
    stricter = application(start=APP.start, drift={"fail": 0.15})
    assert days(due([night(1)], judged, CHAMPION, REFERENCES, stricter)) == [1]


def test_a_night_is_held_against_the_model_that_answered_it():
    found = due([night(1, model=OTHER), night(2)], {}, CHAMPION, REFERENCES, APP)
    assert [(one.model_digest, one.inputs["reference"]) for one in found] == [
        (OTHER, "reference of o"),
        (CHAMPION, "reference of c"),
    ]


def test_a_challengers_night_is_judged_again_once_the_champion_answered_its_part_of_the_interval():
    arms = [Arm(split=1, challenger=one, key="k", unit="row", share=0.1) for one in (True, False)]
    challenger, champion = replace(night(1, "new", OTHER), arm=arms[0]), replace(night(1, "old"), arm=arms[1])
    (alone,) = due([challenger], {}, CHAMPION, REFERENCES, APP)
    judged = {alone.answered.key: [alone.inputs]}
    found = due([champion, challenger], judged, CHAMPION, REFERENCES, APP)
    assert [one.inputs.get("champion") for one in found] == [None, "old"]
    judged[alone.answered.key] += [one.inputs for one in found]
    assert due([champion, challenger], judged, CHAMPION, REFERENCES, APP) == []


def test_a_new_champion_does_not_make_old_nights_news():
    judged = {night(1).key: [inputs_of("first", "reference of o", APP)]}
    assert due([night(1, model=OTHER)], judged, CHAMPION, REFERENCES, APP) == []
    assert due([night(1, model="")], judged, CHAMPION, REFERENCES, APP) == []


def test_a_night_served_elsewhere_is_held_against_the_champion():
    (one,) = due([night(1, model="")], {}, CHAMPION, REFERENCES, APP)
    assert one.model_digest == CHAMPION


def test_a_night_of_a_model_without_a_reference_is_left_out():
    assert due([night(1, model="gone")], {}, CHAMPION, REFERENCES, APP) == []


def test_a_night_that_did_not_arrive_was_judged_and_is_due_when_it_does():
    judged = {night(1).key: [inputs_of(None, "reference of c", APP)]}
    assert days(due([night(1)], judged, CHAMPION, REFERENCES, APP)) == [1]


def test_only_the_newest_nights_are_looked_at():
    nights = [night(day) for day in range(1, 101)]
    found = due(nights, {}, CHAMPION, REFERENCES, APP)
    assert [one.answered for one in found] == nights[-MOST_INTERVALS:]


def test_trailing_nights_come_before_and_were_answered_by_the_same_model():
    nights = [night(1), night(2, model=OTHER), night(3), night(4), night(5)]
    assert [one.day.day for one in trailing(nights, night(4), 28)] == [1, 3]
    assert [one.day.day for one in trailing(nights, night(5), 2)] == [3, 4]
    assert trailing(nights, night(5), 0) == []


def at(day, hour, month=11):
    return datetime(2026, month, day, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "by", "missing"),
    [
        ("@daily", None, None),
        ("@daily", at(6, 5), None),  # the night of the fifth is there
        ("@daily", at(7, 5), "2026-11-06"),
        ("@daily", at(1, 5), None),  # before the application had traffic
        ("@daily", at(2, 5, month=12), None),  # after its last day
        ("0 12 * * *", at(7, 5), None),  # the interval that ended last begins on the fifth
        ("0 12 * * *", at(8, 5), "2026-11-06T120000_2026-11-07T120000"),
        ("@weekly", at(12, 5), None),  # Sunday to Sunday; the fifth lies in it
        ("@quarterly", at(7, 5), None),  # no quarter has ended since the first day
        (None, at(7, 5), None),  # by hand only
    ],
)
def test_a_night_is_missing_when_the_schedule_has_one_and_it_did_not_come(schedule, by, missing):
    app = APP.model_copy(update={"schedule": schedule})
    found = lacking(by, [night(5)], set(), app)
    assert (found.key if found else None) == missing


def test_a_night_whose_inference_takes_long_is_not_missing_before_the_applications_grace_is_over():
    slow = APP.model_copy(update={"clock": Clock(grace_hours=9)})
    assert lacking(at(7, 8), [night(5)], set(), slow) is None
    assert lacking(at(7, 9), [night(5)], set(), slow).key == "2026-11-06"


def test_a_night_whose_end_the_clock_skips_is_expected_as_airflow_schedules_it():
    berlin = application(start=date(2026, 1, 1), timezone="Europe/Berlin", schedule="30 2 * * *")
    skipped = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)  # in place of 02:30 the clock shows 03:30
    assert expected_interval(skipped + timedelta(hours=5), berlin).end == skipped
    assert expected_interval(skipped + timedelta(hours=28), berlin).start == skipped


def test_a_night_ends_by_the_clock_of_the_applications_time_zone():
    tokyo = APP.model_copy(update={"timezone": "Asia/Tokyo", "schedule": "0 6 * * *"})
    expected = expected_interval(at(7, 5), tokyo)  # 06:00 in Tokyo is 21:00 UTC
    assert (expected.start, expected.end) == (at(5, 21), at(6, 21))


def test_a_night_that_cannot_be_read_has_come():
    assert lacking(at(7, 5), [], {"2026-11-06"}, APP) is None
