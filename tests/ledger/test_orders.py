"""The ledger: whatever is doubled, lost, late or killed, each trip gives one order, and each order one training."""

from datetime import UTC, datetime, timedelta

import pytest
from ledger_intervals import APP, NOW, everywhere, outcome, publish_interval, trip

from nightshift.errors import BadInput
from nightshift.ledger import history, orders
from nightshift.ledger.records import Release, Snooze
from nightshift.ledger.store import Ledger


@everywhere
def test_every_evaluation_is_kept_with_its_numbers_also_no(storage):
    for day, verdict in [(21, "PASS"), (22, "FAIL"), (23, "FAIL")]:
        orders.evaluate(
            APP, Ledger(storage, "app"), publish_interval(storage, day, verdict), NOW + timedelta(minutes=day)
        )
    decisions = Ledger(storage, "app").decisions()
    assert [decision.code for decision in decisions] == ["quiet", "too_few_nights", "tripped"]
    assert [decision.numbers["nights_failed"] for decision in decisions] == [0, 1, 2]
    assert [decision.order for decision in decisions] == [None, None, 1]
    assert decisions[2].reports == [
        night.report for night in reversed(history.monitored_intervals(Ledger(storage, "app"))[1:])
    ]


def test_evaluating_the_same_report_again_gives_the_stored_decision_and_no_second_order(storage):
    first = trip(storage)
    night = publish_interval(storage, 23, "FAIL")
    again = orders.evaluate(APP, Ledger(storage, "app"), night, NOW + timedelta(days=30))
    assert again == first
    orders.close(Ledger(storage, "app"), outcome(1))
    assert orders.evaluate(APP, Ledger(storage, "app"), night, NOW + timedelta(days=30)) == first
    assert list(Ledger(storage, "app").orders()) == [1]


def test_a_night_judged_anew_is_decided_anew_and_only_its_newest_verdict_counts(storage):
    orders.evaluate(APP, Ledger(storage, "app"), publish_interval(storage, 22, "FAIL"), NOW)
    orders.evaluate(APP, Ledger(storage, "app"), publish_interval(storage, 22, "PASS", version=2), NOW)
    decision = orders.evaluate(APP, Ledger(storage, "app"), publish_interval(storage, 23, "FAIL"), NOW)
    assert decision.code == "too_few_nights"
    assert len(Ledger(storage, "app").decisions()) == 3


@everywhere
def test_killed_between_the_order_and_the_record_of_the_decision_the_same_decision_is_found(storage, monkeypatch):
    orders.evaluate(APP, Ledger(storage, "app"), publish_interval(storage, 22, "FAIL"), NOW)
    night = publish_interval(storage, 23, "FAIL")

    class Killed(BaseException):
        pass

    with monkeypatch.context() as patch:
        patch.setattr(orders, "_keep", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            orders.evaluate(APP, Ledger(storage, "app"), night, NOW)
    ledger = Ledger(storage, "app")
    assert (list(ledger.orders()), len(ledger.decisions())) == ([1], 1)
    # Meanwhile the retraining ends: the decision that led to it is found all the same.
    orders.close(ledger, outcome(1))
    later = orders.evaluate(APP, Ledger(storage, "app"), night, NOW + timedelta(days=9))
    assert (later.code, later.order, later.decided) == ("tripped", 1, NOW)
    assert ledger.decision(later.id) == later
    assert list(ledger.orders()) == [1]


def test_a_second_trip_waits_for_the_first_retraining_to_end(storage):
    ledger = Ledger(storage, "app")
    assert trip(storage).order == 1
    third = orders.evaluate(APP, Ledger(storage, "app"), publish_interval(storage, 24, "FAIL"), NOW)
    assert (third.action, third.code) == ("none", "open")
    orders.close(ledger, outcome(1))
    assert (
        orders.evaluate(
            APP, Ledger(storage, "app"), publish_interval(storage, 25, "FAIL"), NOW + timedelta(hours=1)
        ).order
        == 2
    )


def test_after_a_release_the_nights_before_it_count_for_nothing(storage):
    trip(storage)
    ledger = Ledger(storage, "app")
    orders.close(ledger, outcome(1))
    ledger.create(Release(number=1, model_digest="d" * 64, released=datetime.now(UTC)))
    decision = orders.evaluate(APP, Ledger(storage, "app"), publish_interval(storage, 24, "FAIL"), NOW)
    assert decision.code == "too_few_nights"
    assert "4 intervals" not in decision.reason
    assert "3 intervals were judged against other models" in decision.reason
    assert trip(storage, first=25).code == "too_few_nights"
    orders.evaluate(APP, Ledger(storage, "app"), publish_interval(storage, 27, "FAIL", model="d" * 64), NOW)
    assert (
        orders.evaluate(APP, Ledger(storage, "app"), publish_interval(storage, 28, "FAIL", model="d" * 64), NOW).order
        == 2
    )


def test_nights_without_data_are_no_pass_and_order_nothing(storage):
    codes = [
        orders.evaluate(APP, Ledger(storage, "app"), publish_interval(storage, day, "INSUFFICIENT_DATA"), NOW).code
        for day in (21, 22)
    ]
    assert codes == ["no_data", "no_data"]


@everywhere
def test_a_run_that_asks_again_gets_its_order_again_and_others_get_nothing(storage):
    ledger = Ledger(storage, "app")
    assert orders.claim(ledger, "f", "a", NOW) == (None, "no retraining is ordered")
    trip(storage)
    for _ in range(2):
        order, reason = orders.claim(ledger, "f", "a", NOW)
        assert order.number == 1
        assert reason.startswith("2 of the newest 2 intervals")
    assert orders.claim(ledger, "f", "b", NOW) == (None, "retraining 1 is the work of a")
    orders.close(ledger, outcome(1))
    assert orders.claim(ledger, "f", "b", NOW) == (None, "no retraining is ordered")
    assert orders.claim(ledger, "f", "a", NOW)[0] is None


def test_a_failed_retraining_blocks_nobody_and_can_be_started_over_by_its_run(storage):
    ledger = Ledger(storage, "app")
    trip(storage)
    orders.claim(ledger, "f", "a", NOW)
    orders.close(ledger, outcome(1, "failed"))
    assert orders.claim(ledger, "f", "b", NOW) == (None, "no retraining is ordered")
    assert orders.claim(ledger, "f", "a", NOW)[0].number == 1
    assert orders.close(ledger, outcome(1, "registered", model_version="4")).model_version == "4"
    assert ledger.outcome(1).result == "registered"
    assert orders.close(ledger, outcome(1, "failed")).result == "registered"


@everywhere
def test_an_order_that_nobody_claims_is_given_up_and_the_next_trip_orders_anew(storage):
    ledger = Ledger(storage, "app")
    trip(storage)
    late = NOW + timedelta(hours=49)
    decision = orders.evaluate(APP, Ledger(storage, "app"), publish_interval(storage, 24, "FAIL"), late)
    assert (decision.code, decision.order) == ("tripped", 2)
    assert ledger.outcome(1).result == "lost"
    assert ledger.outcome(1).explanation == "no run claimed it for more than 48 hours"
    order, _ = orders.claim(ledger, "f", "late-run", late)
    assert order.number == 2


def test_an_order_is_not_lost_while_its_run_may_still_train(storage):
    ledger = Ledger(storage, "app")
    trip(storage)
    orders.claim(ledger, "f", "a", NOW + timedelta(hours=40))
    night = publish_interval(storage, 24, "FAIL")
    assert orders.evaluate(APP, Ledger(storage, "app"), night, NOW + timedelta(hours=60)).code == "open"
    night = publish_interval(storage, 25, "FAIL")
    assert orders.evaluate(APP, Ledger(storage, "app"), night, NOW + timedelta(hours=89)).order == 2
    assert ledger.outcome(1).explanation == "a did not end it for more than 48 hours"
    # It was only slow: its model is there, and the ledger says so.
    assert orders.close(ledger, outcome(1)).result == "registered"


@pytest.mark.parametrize("claimed", [True, False])
def test_an_order_whose_run_waits_for_a_slot_is_not_lost(storage, claimed):
    ledger = Ledger(storage, "app")
    trip(storage)
    if claimed:
        orders.claim(ledger, "f", "a", NOW)
    waits = {"lives": lambda claim: (claim is not None and claim.run_id == "a") == claimed}
    night, late = publish_interval(storage, 24, "FAIL"), NOW + timedelta(days=6)
    assert orders.evaluate(APP, Ledger(storage, "app"), night, late, **waits).code == "open"
    assert ledger.outcome(1) is None
    night = publish_interval(storage, 25, "FAIL")
    assert orders.evaluate(APP, Ledger(storage, "app"), night, late, lives=lambda _: False).order == 2
    assert ledger.outcome(1).result == "lost"


def test_a_person_forces_one_retraining_past_the_snooze_but_not_a_second_open_one(storage):
    ledger = Ledger(storage, "app")
    ledger.create(Snooze(id="s", until=NOW + timedelta(days=3), reason="holidays", by="ana", created=NOW))
    assert trip(storage).code == "snoozed"
    wish = {"reason": "the new tariff is out", "by": "ben", "now": NOW}
    forced = orders.force(ledger, "forced-1", **wish)
    assert (forced.code, forced.order, forced.reason) == ("forced", 1, "ben forced it: the new tariff is out")
    assert orders.force(ledger, "forced-1", **wish) == forced
    assert orders.force(ledger, "forced-2", **wish) is None
    orders.close(ledger, outcome(1))
    assert orders.force(ledger, "forced-1", **wish) == forced
    assert orders.force(ledger, "forced-2", **wish).order == 2


def test_the_newest_snooze_counts_also_one_that_ends_them(storage):
    ledger = Ledger(storage, "app")
    for number, (hours, days) in enumerate([(2, 9), (1, 30), (3, 0)]):
        at = NOW - timedelta(days=1) + timedelta(hours=hours)
        ledger.create(Snooze(id=f"s{number}", until=at + timedelta(days=days), reason="…", by="ana", created=at))
    assert ledger.snooze().id == "s2"
    assert trip(storage).code == "tripped"


def test_a_damaged_record_is_an_error_that_names_it_and_never_a_no(tmp_path):
    trip(tmp_path.as_uri())
    (tmp_path / "app/ledger/orders/0001.json").write_text("{}")
    with pytest.raises(BadInput, match=r"ledger/orders/0001\.json cannot be read: \d+ errors"):
        orders.claim(Ledger(tmp_path.as_uri(), "app"), "f", "a", NOW)


def test_closing_an_order_that_never_was_is_refused(storage):
    with pytest.raises(BadInput, match="there is no order 7"):
        orders.close(Ledger(storage, "app"), outcome(7))
