"""A person answers for an alert by the form: what is kept, who is named, and what the next look tells."""

from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException
from retraining_tasks import context
from told import drift

from nightshift.alerts.outbox import Outbox
from nightshift.audit.ledger_events import events_of_ledger
from nightshift.orchestration.airflow_state import AirflowState
from nightshift.orchestration.alert_response import respond
from nightshift.orchestration.detection import detect
from nightshift.settings.applications import load_application


@pytest.fixture
def outbox(storage):
    box = Outbox(storage, "app")
    box.accept(drift(application="app"))
    return box


def answer(action="silence", alert="drift", run_id="manual__1", reason="the new tariff", hours=4):
    params = {"alert": alert, "action": action, "hours": hours, "reason": reason}
    return respond.function("app", **context(run_id, user="ana", params=params))


def test_what_a_person_said_is_kept_once_with_who_until_when_and_why(outbox, ledger, storage):
    said = answer()
    assert answer() == said
    kept = ledger.responses(["drift"])["drift"]
    assert (kept.by, kept.reason, kept.action) == ("ana", "the new tariff", "silence")
    assert timedelta(hours=3.9) < kept.until - datetime.now(UTC) <= timedelta(hours=4)
    assert said["reason"] == kept.sentence
    (event,) = events_of_ledger(storage, "app", None)
    assert (event.who, event.did, event.to) == ("ana", "silenced an alert", {"alert": "drift"})
    assert event.details == {"until": kept.until.isoformat(), "reason": "the new tariff"}


def test_a_condition_that_does_not_hold_is_refused_with_those_that_do(outbox, ledger):
    with pytest.raises(AirflowFailException, match="no open alert of app is called 'drfit'; open are: drift"):
        answer(alert="drfit")
    assert ledger.responses(["drfit"]) == {}


def test_there_has_to_be_something_to_end(outbox, ledger):
    with pytest.raises(AirflowFailException, match="neither acknowledged nor silenced"):
        answer("end")
    answer("acknowledge")
    assert answer("end", run_id="manual__2") == answer("end", run_id="manual__2")
    assert ledger.responses(["drift"])["drift"].action == "end"
    with pytest.raises(AirflowFailException, match="neither acknowledged nor silenced"):
        answer("end", run_id="manual__3")


def test_a_look_tells_again_what_was_silenced_once_that_is_ended(outbox, storage, rest):
    def look():
        return detect(load_application("app"), storage, rest, AirflowState(began=datetime.now(UTC)))

    answer()
    assert look() == 0
    answer("end", run_id="manual__2")
    assert [look(), look()] == [1, 0]
    assert outbox.undelivered()[-1].title == "still holds: drift in the interval 2026-11-20"


def test_a_reason_that_no_file_could_hold_is_kept_all_the_same(outbox, ledger):
    answer(reason="half of \ud83d and\x00 <script>\nline")
    assert ledger.responses(["drift"])["drift"].reason == "half of ⟨U+D83D⟩ and⟨U+0000⟩ <script>\nline"
