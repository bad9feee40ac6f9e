"""Which messages a route gets: one a night, the worst first, and no more than people can read."""

from told import drift

from nightshift.alerts.grouping import plan
from nightshift.settings.people import Severity


def nights(*names, **fields):
    return [drift(name, **fields) for name in names]


def planned(alerts, this_hour=(), most=12):
    return [
        ([(alert.night) for alert in message.alerts], message.severity.value)
        for message in plan(alerts, "route", this_hour=this_hour, most_an_hour=most)
    ]


def test_what_belongs_to_one_night_is_one_message_and_the_worst_night_comes_first():
    alerts = [*nights("2026-11-20", "2026-11-21"), drift("2026-11-21", kind="bias", severity=Severity.CRITICAL)]
    assert planned(alerts) == [(["2026-11-21", "2026-11-21"], "critical"), (["2026-11-20"], "warning")]


def test_what_is_too_much_for_the_hour_goes_together_in_the_last_message_that_may_go():
    alerts = nights("2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23")
    assert planned(alerts, ["warning"] * 10) == [
        (["2026-11-20"], "warning"),
        (["2026-11-21", "2026-11-22", "2026-11-23"], "warning"),
    ]


def test_when_the_hour_is_full_everything_waits_and_then_goes_as_one_digest():
    alerts = nights("2026-11-20", "2026-11-21")
    assert planned(alerts, ["warning"] * 12) == []
    assert planned(alerts, ["warning"] * 11) == [(["2026-11-20", "2026-11-21"], "warning")]


def test_no_alert_is_in_two_messages_and_none_is_left_out_while_there_is_room():
    alerts = [drift(f"2026-11-{day:02d}", cause=str(number)) for day in range(1, 10) for number in range(3)]
    for most in (1, 2, 5, 30):
        told = [
            alert.id for message in plan(alerts, "route", this_hour=[], most_an_hour=most) for alert in message.alerts
        ]
        assert sorted(told) == sorted(alert.id for alert in alerts)


def test_the_same_alerts_make_a_message_with_the_same_id():
    alerts = nights("2026-11-20", "2026-11-21")
    one, other = (
        plan(order, "route", this_hour=["warning"] * 11, most_an_hour=12)[0] for order in (alerts, alerts[::-1])
    )
    assert one.id == other.id
    assert plan(alerts, "elsewhere", this_hour=["warning"] * 11, most_an_hour=12)[0].id != one.id


def test_what_is_critical_waits_for_no_hour_that_warnings_used_up_but_is_limited_itself():
    alerts = [*nights("2026-11-20"), drift("2026-11-21", kind="bias", severity=Severity.CRITICAL)]
    (digest,) = planned(alerts, ["warning"] * 12)
    assert digest == (["2026-11-21", "2026-11-20"], "critical")
    assert planned(alerts, ["warning"] * 12 + ["critical"] * 11) == [digest]
    assert planned(alerts, ["critical"] * 12) == []
    over = drift("2026-11-21", good=True, severity=Severity.CRITICAL)
    assert planned([over], ["warning"] * 12) == []
