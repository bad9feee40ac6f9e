"""The outbox: what is told once, what is news, and what holds since when."""

from datetime import UTC, datetime, timedelta

import pytest
from told import application, drift, passed

from nightshift.alerts import outbox as writing
from nightshift.alerts.message import compose
from nightshift.alerts.outbox import Outbox, route_key
from nightshift.alerts.route_state import RouteState
from nightshift.settings.people import Severity


def test_the_same_alert_is_accepted_once_whoever_tells_it(outbox, tmp_path):
    assert outbox.accept(drift())
    assert not outbox.accept(drift(title="in other words", facts=["more"]))
    assert not Outbox(tmp_path.as_uri(), "bank").accept(drift())
    assert len(outbox.undelivered()) == 1


def test_another_night_and_another_cause_are_other_alerts(outbox):
    assert [outbox.accept(alert) for alert in (drift(), drift("2026-11-21"), drift(cause="length"))] == [True] * 3


def test_what_holds_on_for_the_same_cause_is_only_information(outbox):
    for night in ("2026-11-20", "2026-11-21", "2026-11-22"):
        outbox.accept(drift(night))
    assert [alert.severity for alert in outbox.undelivered()] == ["warning", "info", "info"]
    (held,) = outbox.held()
    assert (held.count, held.severity, held.alert.night) == (3, "warning", "2026-11-22")


def test_what_holds_keeps_the_moment_at_which_it_began(outbox):
    first = drift(at=datetime(2026, 11, 20, 5, tzinfo=UTC))
    outbox.accept(first)
    outbox.accept(drift("2026-11-22", at=datetime(2026, 11, 22, 5, tzinfo=UTC)))
    assert [alert.since for alert in outbox.undelivered()] == [first.at, first.at]
    assert [alert.since for alert in outbox.open()] == [first.at]


def test_what_gets_worse_changes_or_lasts_for_a_week_is_news_again(outbox):
    began = datetime(2026, 11, 1, 5, tzinfo=UTC)
    days = (0, 1, 2, 3, 8, 11)
    worse = {1: {"severity": Severity.CRITICAL}, 2: {"cause": "length"}}
    for day in days:
        fields = {"cause": "length" if day > 2 else "topics", **worse.get(day, {})}
        outbox.accept(drift(f"2026-11-{day + 1:02d}", at=began + timedelta(days=day), **fields))
    told = [alert.severity.value for alert in outbox.undelivered()]
    assert told == ["warning", "critical", "warning", "info", "info", "warning"]


def test_a_recovery_is_told_once_to_whoever_was_told_the_worst_and_ends_the_condition(outbox):
    outbox.accept(drift(severity=Severity.CRITICAL))
    outbox.accept(drift("2026-11-21"))
    assert outbox.accept(passed("2026-11-22"))
    assert not outbox.accept(passed("2026-11-22"))
    assert outbox.open() == []
    recovery = outbox.undelivered()[-1]
    assert (recovery.good, recovery.severity) == (True, "critical")
    assert "with 2 alerts" in recovery.facts[-1]


def test_a_night_that_passes_says_nothing_where_nothing_held(outbox):
    assert not outbox.accept(passed("2026-11-22"))
    assert outbox.undelivered() == []


def test_an_earlier_night_that_passes_ends_nothing(outbox):
    outbox.accept(drift("2026-11-21"))
    assert not outbox.accept(passed("2026-11-20"))
    assert [alert.night for alert in outbox.open()] == ["2026-11-21"]


def test_what_comes_back_after_a_recovery_is_news(outbox):
    outbox.accept(drift("2026-11-20"))
    outbox.accept(passed("2026-11-21"))
    outbox.accept(drift("2026-11-22"))
    assert outbox.accept(passed("2026-11-23"))
    assert [alert.severity for alert in outbox.undelivered()] == ["warning"] * 4


def test_what_explains_a_failure_leaves_nothing_to_say_of_the_failure(outbox):
    failure = drift(kind="job_failed", condition="failed bank_ingest")
    outbox.accept(drift(kind="data_rejected", condition="data rejected", explains=[failure.id]))
    assert outbox.knows(failure.id)
    assert not outbox.accept(failure)
    assert [alert.kind for alert in outbox.open()] == ["data_rejected"]


def test_what_a_killed_process_left_half_accepted_is_completed_by_the_next_look(outbox, tmp_path):
    outbox.accept(drift())
    folder = tmp_path / "bank" / "alerts"
    for name in ("kept", "open"):
        for file in (folder / name).iterdir():
            file.unlink()
    assert len(outbox.taken_up()) == 1
    assert [alert.night for alert in outbox.open()] == ["2026-11-20"]
    assert not outbox.accept(drift())


def test_a_damaged_file_keeps_no_other_alert_from_people(outbox, tmp_path):
    outbox.accept(drift())
    for folder in ("waiting", "open"):
        (tmp_path / "bank" / "alerts" / folder / "damaged.json").write_text("{")
    assert len(outbox.undelivered()) == len(outbox.open()) == 1


def test_only_one_process_at_a_time_sends_and_a_killed_one_only_until_its_time_is_up(outbox):
    with outbox.lease(60) as mine:
        assert mine
        with outbox.lease(60) as other:
            assert other is None
    with outbox.lease(0) as again:  # runs out at once, as that of a killed process does
        assert again
        with outbox.lease(60) as other:
            assert other
            with outbox.lease(60) as third:
                assert third is None


def test_the_dashboard_sees_what_waits_for_which_route_and_why(outbox):
    app = application({"to": "ops_mail", "mail": ["a@example.org"]}, {"to": "pager", "severity": "critical"})
    outbox.accept(drift())
    key = route_key(app.alerts.routes[0])
    outbox.keep_route_state(key, outbox.route_state(key).with_refusal("ConnectionRefusedError", datetime.now(UTC)), 1)
    (waiting,) = outbox.waiting(app.alerts)
    assert (waiting.route, waiting.error, waiting.tries) == ("ops_mail", "ConnectionRefusedError", 1)
    assert waiting.message.subject == "[bank] WARNING: drift in the interval 2026-11-20"


def test_whoever_looks_at_what_waits_writes_nothing_even_where_somebody_was_killed(outbox, tmp_path, monkeypatch):
    outbox.accept(drift())
    next((tmp_path / "bank" / "alerts" / "kept").iterdir()).unlink()
    for write in ("create", "replace"):
        monkeypatch.setattr(writing, write, lambda *_: pytest.fail("it writes"))
    assert len(outbox.waiting(application({"to": "hook"}).alerts)) == len(outbox.undelivered()) == 1


def test_what_holds_is_shown_as_bad_as_it_was_told(outbox):
    outbox.accept(drift(severity=Severity.CRITICAL))
    outbox.accept(drift("2026-11-21", severity=Severity.CRITICAL))
    assert [(alert.night, alert.severity) for alert in outbox.open()] == [("2026-11-21", "critical")]


def test_an_older_night_that_fails_later_lets_no_night_between_them_end_what_the_newest_opened(outbox):
    outbox.accept(drift("2026-11-10"))
    outbox.accept(drift("2026-11-01", cause="length"))
    assert not outbox.accept(passed("2026-11-05"))
    assert [(alert.night, alert.cause) for alert in outbox.open()] == [("2026-11-10", "topics")]
    assert outbox.accept(passed("2026-11-11"))


def test_of_two_who_send_because_a_lease_ran_out_the_later_one_is_right(outbox):
    late, right = (
        RouteState().with_pending([drift()], datetime.now(UTC)),
        RouteState().with_pending([drift("2026-11-21")], datetime.now(UTC)),
    )
    for number, state in ((1, late), (2, right), (1, late)):
        outbox.keep_route_state("hook", state, number)
    assert outbox.route_state("hook") == right


def test_the_mailbox_is_read_from_its_newest_month_on(outbox):
    days = [datetime(2026, 9, 30, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 2, tzinfo=UTC)]
    for day in days:
        outbox.into_mailbox(compose([drift(f"{day:%Y-%m-%d}")], "mailbox"), day)
    assert [message.group for message in outbox.messages(10)] == ["2026-10-02", "2026-10-01", "2026-09-30"]
    assert [message.group for message in outbox.messages(1)] == ["2026-10-02"]


def test_an_object_store_keeps_alerts_like_a_folder_does(bucket):
    outbox = Outbox(f"{bucket}/outbox", "bank")
    assert [outbox.accept(alert) for alert in (drift(), drift(), drift("2026-11-21"))] == [True, False, True]
    with outbox.lease(60) as mine, outbox.lease(60) as other:
        assert (bool(mine), bool(other)) == (True, False)
    assert outbox.accept(passed("2026-11-22"))
    assert (outbox.open(), len(outbox.undelivered())) == ([], 3)
    outbox.looked(datetime.now(UTC))
    assert outbox.last_look()
