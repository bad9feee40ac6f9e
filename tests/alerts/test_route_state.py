"""What a place is brought, what it lacks, and what is given up: as values, without storage and services."""

from datetime import UTC, datetime, timedelta

from told import drift, passed

from nightshift.alerts.message import compose
from nightshift.alerts.route_state import MOST_LACKING, REMEMBERED, RouteState
from nightshift.settings.people import Severity

NOW = datetime(2026, 11, 28, 5, tzinfo=UTC)


def days_ago(days, **fields):
    return drift(f"2026-11-{28 - days:02d}", at=NOW - timedelta(days=days), **fields)


def test_what_was_brought_is_not_brought_again_and_ends_the_trouble():
    place = (
        RouteState()
        .with_pending([days_ago(0), days_ago(1)], NOW)
        .with_refusal("refused", NOW)
        .with_refusal("refused again", NOW)
    )
    assert (place.trouble.tries, place.trouble.error) == (2, "refused again")
    after = place.with_delivered(compose([days_ago(1)], "hook"), NOW).with_pending([days_ago(0), days_ago(1)], NOW)
    assert ([alert.night for alert in after.lacks], after.trouble) == (["2026-11-28"], None)


def test_what_waits_for_more_than_a_week_becomes_one_alert_as_bad_as_the_worst_of_it():
    old = [
        days_ago(9),
        days_ago(8, severity=Severity.CRITICAL, title="bias"),
        passed("2026-11-19", at=NOW - timedelta(8)),
    ]
    place = RouteState().with_pending(old[:1], old[0].at).with_pending([*old[1:], days_ago(1)], NOW)
    summed, new = place.pending
    assert (summed.severity, new.night) == ("critical", "2026-11-27")
    assert summed.title == "3 older alerts are only in the mailbox; the worst: bias"
    later = place.with_pending([], NOW + timedelta(days=7))
    assert [alert.title[:27] for alert in later.pending] == ["4 older alerts are only in "]
    assert later.with_delivered(compose(later.pending, "hook"), NOW).pending == []


def test_however_much_waits_only_the_newest_are_kept_in_full():
    many = [drift(cause=str(number), at=NOW - timedelta(minutes=999 - number)) for number in range(MOST_LACKING + 50)]
    place = RouteState().with_pending(many, NOW)
    assert place.lacks == many[50:]
    assert place.given_up.count == 50


def test_what_is_remembered_does_not_grow_with_the_years():
    place = RouteState()
    for number in range(REMEMBERED + 3):
        place = place.model_copy(update={"lacks": [drift(cause=str(number))]})
        place = place.with_delivered(compose(place.lacks, "hook"), NOW + timedelta(hours=number))
    assert (len(place.brought), len(place.took)) == (REMEMBERED, 1)
