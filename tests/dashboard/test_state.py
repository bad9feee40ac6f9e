"""The one word about an application: what people must do comes first, and silence is never healthy."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from nightshift.dashboard.freshness import Fresh
from nightshift.dashboard.intervals import JudgedInterval
from nightshift.dashboard.ledger import Retraining
from nightshift.dashboard.models import Model
from nightshift.dashboard.state import StateInput, Word, state_of
from nightshift.ledger.records import Decision, Order
from nightshift.settings.people import Severity
from nightshift.verdict import Verdict

NOW = datetime(2026, 11, 28, 6, tzinfo=UTC)
CHAMPION = Model("3", "c" * 64, {}, None, NOW - timedelta(days=5))


def night(verdict="PASS", monitor="drift", model="c" * 64, created=NOW):
    return JudgedInterval(
        monitor=monitor, interval="2026-11-27", name="2026-11-27", address="a", verdict=Verdict(verdict), model_digest=model,
        model_version="3", rows=400, failing=(), kinds=(),
        worst="", worst_segment="", reasons=(f"it is {verdict}",), run_url="", files=(), created=created,
    )  # fmt: skip


def facts(drift="PASS", bias="PASS", **more):
    return replace(StateInput({"drift": [night(drift)], "bias": [night(bias, "bias")]}, CHAMPION), **more)


def retraining():
    decision = Decision(action="retrain", code="tripped", reason="2 of 3", decided=NOW)
    return Retraining(Order(number=4, decision=decision, created=NOW), None, None)


def test_only_nights_that_passed_are_healthy():
    assert state_of(facts()).word is Word.HEALTHY
    assert [state_of(facts(drift=verdict)).word for verdict in ("WARN", "FAIL", "ERROR", "INSUFFICIENT_DATA")] == [
        Word.WARNING, Word.FAILING, Word.FAILING, Word.NO_DATA,
    ]  # fmt: skip


def test_bias_counts_as_drift_does():
    state = state_of(facts(bias="FAIL"))
    assert state.word is Word.FAILING
    assert state.reason == "bias of 2026-11-27 FAIL: it is FAIL"


def test_what_people_are_asked_comes_before_what_fails():
    assert state_of(facts("FAIL", waits=["release version 4?"])).reason == "release version 4?"


def test_a_failure_that_is_being_retrained_for_is_retraining():
    assert state_of(facts("FAIL", retraining=retraining())).reason == "retraining 4 waits for finetune"


def test_a_critical_alert_fails_an_application_whose_nights_are_quiet():
    alerts = [(Severity.WARNING, "it is late"), (Severity.CRITICAL, "no traffic for two nights")]
    assert state_of(facts(alerts=alerts)).reason == "no traffic for two nights"
    assert state_of(facts(alerts=alerts[:1])).word is Word.WARNING


def test_an_outage_comes_before_what_people_are_asked_and_what_is_being_retrained_which_are_still_shown():
    alerts = [(Severity.CRITICAL, "ingest failed three times")]
    state = state_of(facts("FAIL", alerts=alerts, waits=["release version 4?"], retraining=retraining()))
    assert (state.word, state.reason) == (Word.FAILING, "ingest failed three times")
    assert state.others == {Word.WAITING: "release version 4?", Word.RETRAINING: "retraining 4 waits for finetune"}


def test_a_night_that_is_missing_is_not_healthy_although_the_one_before_was():
    stale = [Fresh("interactions", "2026-11-26", NOW, "2026-11-27 is missing")]
    assert state_of(facts(stale=stale)).word is Word.NO_DATA


def test_an_application_without_nights_or_champion_is_new():
    assert state_of(StateInput({"drift": [], "bias": []}, None)).word is Word.NEW
    assert state_of(StateInput({"drift": [], "bias": []}, CHAMPION)).word is Word.NEW


def test_nights_of_the_champion_before_say_nothing_about_the_one_that_replaced_it():
    before = night("FAIL", model="b" * 64, created=CHAMPION.since - timedelta(hours=1))
    state = state_of(StateInput({"drift": [before], "bias": [night(monitor="bias")]}, CHAMPION))
    assert state.word is Word.WARNING
    assert "no interval of it has a verdict on drift yet" in state.reason


def test_nights_from_before_an_earlier_champion_came_back_do_not_count_either():
    before = night("FAIL", created=CHAMPION.since - timedelta(hours=1))
    assert state_of(StateInput({"drift": [before], "bias": [night(monitor="bias")]}, CHAMPION)).word is Word.WARNING
