"""A person acknowledges or silences a condition: what people are still told, and what is told again afterwards."""

from datetime import UTC, datetime, timedelta

import pytest
from told import application, drift, passed

from nightshift.alerts.outbox import taken
from nightshift.alerts.watch import still_true
from nightshift.ledger.records import AlertResponse
from nightshift.ledger.store import Ledger
from nightshift.settings.people import Severity

BEGAN = datetime(2026, 11, 20, 5, tzinfo=UTC)
ROUTES = application({"to": "everything", "severity": "info"}).alerts.routes


def at(hours, **fields):
    return drift(
        f"2026-11-{20 + hours // 24}", at=BEGAN + timedelta(hours=hours), cause=fields.pop("cause", "topics"), **fields
    )


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path.as_uri(), "bank")


@pytest.fixture
def respond(ledger):
    """A person answers for a condition, so many hours after it began."""

    def responded(action, hours=1, lasts=48, condition="drift", wish=""):
        asked = BEGAN + timedelta(hours=hours)
        until = asked if action == "end" else asked + timedelta(hours=lasts)
        response = AlertResponse(
            condition=condition, action=action, until=until, reason="the new tariff", by="ana", created=asked
        )
        return ledger.respond(response, wish or f"{action}{hours}")

    return responded


def to_routes(outbox):
    """Title and severity of what a route that takes everything is told."""
    return [(alert.title, alert.severity.value) for alert in taken(ROUTES, outbox.undelivered())]


def test_a_silenced_condition_tells_nobody_but_the_mailbox_who_silenced_it_and_why(outbox, respond):
    outbox.accept(at(0))
    respond("silence")
    assert outbox.accept(at(24, severity=Severity.CRITICAL, cause="length"))
    assert to_routes(outbox) == [("drift in the interval 2026-11-20", "warning")]
    told = outbox.undelivered()[-1]
    assert told.facts == ["ana silenced it until 2026-11-22 06:00 UTC: the new tariff"]
    (shown,) = outbox.open()
    assert (shown.night, shown.severity) == ("2026-11-21", "critical")


def test_another_condition_that_nobody_silenced_is_told_as_ever(outbox, respond):
    outbox.accept(at(0))
    respond("silence")
    critical = at(
        2, condition="no traffic", kind="no_data", severity=Severity.CRITICAL, title="the night did not arrive"
    )
    outbox.accept(critical)
    assert to_routes(outbox)[-1] == ("the night did not arrive", "critical")


def test_a_silenced_condition_that_ends_is_over_for_whoever_was_told_of_it(outbox, respond):
    outbox.accept(at(0))
    respond("silence")
    outbox.accept(at(24, severity=Severity.CRITICAL))
    assert outbox.accept(passed("2026-11-22", at=BEGAN + timedelta(hours=46)))
    assert outbox.open() == []
    # As bad as they were told: a pager that takes critical alerts alone has no incident to close.
    assert to_routes(outbox)[-1] == ("no drift any more: 2026-11-22", "warning")


def test_what_began_and_ended_while_it_was_silenced_reached_nobody(outbox, respond):
    outbox.accept(at(0))
    outbox.accept(passed("2026-11-20", at=BEGAN + timedelta(hours=1)))
    respond("silence", hours=2)
    outbox.accept(at(24))
    outbox.accept(passed("2026-11-22", at=BEGAN + timedelta(hours=46)))
    assert [title for title, _ in to_routes(outbox)] == [
        "drift in the interval 2026-11-20",
        "no drift any more: 2026-11-20",
    ]
    assert len(outbox.undelivered()) == 4


def test_an_acknowledged_condition_is_told_again_only_when_it_changes_or_gets_worse(outbox, respond):
    outbox.accept(at(0))
    respond("acknowledge", lasts=200)
    for alert in (
        at(24),
        at(48, cause="length"),
        at(72, cause="length"),
        at(96, cause="length", severity=Severity.CRITICAL),
    ):
        outbox.accept(alert)
    told = [title for title, _ in to_routes(outbox)]
    assert told == [f"drift in the interval 2026-11-{day}" for day in (20, 22, 24)]


def test_nobody_is_reminded_of_a_request_that_somebody_acknowledged(outbox, respond):
    asked = {"kind": "approval_waits", "condition": "approval 7", "title": "may version 8 replace version 7?"}
    outbox.accept(at(0, cause="7", **asked))
    respond("acknowledge", lasts=20, condition="approval 7")
    for reminder in (4, 8, 24):
        outbox.accept(at(reminder, cause=f"7 reminder {reminder}", **asked))
    assert len(to_routes(outbox)) == 2  # the question, and what came after the time


def test_an_acknowledgement_ends_with_its_condition(outbox, respond):
    outbox.accept(at(0))
    respond("acknowledge", lasts=200)
    outbox.accept(passed("2026-11-21", at=BEGAN + timedelta(hours=20)))
    outbox.accept(at(48))
    assert to_routes(outbox)[-1] == ("drift in the interval 2026-11-22", "warning")


@pytest.mark.parametrize("action", ["silence", "acknowledge"])
def test_what_still_holds_when_the_time_is_over_is_told_again_once(outbox, ledger, respond, action):
    outbox.accept(at(0))
    respond(action)
    outbox.accept(at(24))

    def look(hours):
        now = BEGAN + timedelta(hours=hours)
        return [outbox.accept(alert) for alert in still_true(outbox.held(), ledger.responses(["drift"]), now=now)]

    assert [look(48), look(50), look(51)] == [[], [True], []]
    assert to_routes(outbox)[-1] == ("still holds: drift in the interval 2026-11-21", "warning")
    assert outbox.undelivered()[-1].facts[0].startswith("ana ")


def test_a_silence_of_another_time_says_nothing_about_what_began_after_it(outbox, ledger, respond):
    respond("silence", hours=0, lasts=1)
    outbox.accept(at(24))
    assert to_routes(outbox) == [("drift in the interval 2026-11-21", "warning")]
    assert still_true(outbox.held(), ledger.responses(["drift"]), now=BEGAN + timedelta(hours=25)) == []


def test_a_silence_that_is_ended_tells_again_at_once(outbox, ledger, respond):
    outbox.accept(at(0))
    respond("silence", lasts=700)
    outbox.accept(at(24))
    respond("end", hours=25)
    (again,) = still_true(outbox.held(), ledger.responses(["drift"]), now=BEGAN + timedelta(hours=26))
    assert outbox.accept(again)
    outbox.accept(at(48, cause="length"))
    assert [title for title, _ in to_routes(outbox)][1:] == [again.title, "drift in the interval 2026-11-22"]


def test_a_task_that_is_tried_again_responds_once_and_the_newest_response_counts(ledger, respond):
    first = respond("silence", hours=1, wish="a")
    assert respond("silence", hours=3, wish="a") == first
    respond("acknowledge", hours=2, wish="0")
    respond("silence", hours=1, condition="drift and more", wish="a")
    assert {name: one.action for name, one in ledger.responses(["drift", "late x", "drift and more"]).items()} == {
        "drift": "acknowledge", "drift and more": "silence",
    }  # fmt: skip


@pytest.mark.parametrize("damage", ["{", '{"action": "silence"}', "\0"])
def test_a_response_that_cannot_be_read_keeps_no_alert_from_people(outbox, respond, tmp_path, damage):
    outbox.accept(at(0))
    kept = respond("silence")
    (tmp_path / "bank" / "ledger" / "responses" / f"{kept.id}.json").write_text(damage)
    outbox.accept(at(24, cause="length"))
    assert len(to_routes(outbox)) == 2
