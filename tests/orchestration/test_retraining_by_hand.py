"""A person forces a retraining, gives it up, snoozes it or wakes finetune; what was done is always said."""

from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException
from retraining_tasks import REGISTERED, ask, end, trip, wish

from nightshift.ledger import orders


@pytest.mark.slow
@pytest.mark.usefixtures("shown")
def test_a_person_forces_a_retraining_with_a_reason_once(ledger):
    asked = wish("force")
    assert (asked["order"], asked["reason"]) == (1, "ana forced it: the new tariff is out")
    assert wish("force") == asked
    assert ask()["reason"] == asked["reason"]
    assert [decision.code for decision in ledger.decisions()] == ["forced"]


def test_forcing_while_one_trains_fails_and_says_what_to_do(storage):
    trip(storage)
    ask()
    with pytest.raises(
        AirflowFailException, match="nothing was ordered: retraining 1 is the work of asset_triggered__1"
    ):
        wish("force")


def test_forcing_while_an_order_waits_wakes_finetune_for_that_one(storage):
    trip(storage)
    told = wish("force")
    assert told["order"] == 1
    assert told["reason"].startswith("retraining 1 waits already, and finetune is woken: ")


@pytest.mark.slow
@pytest.mark.usefixtures("shown")
def test_a_retraining_whose_run_is_gone_blocks_no_person(storage, ledger):
    long_ago = datetime.now(UTC) - timedelta(hours=49)
    trip(storage, decided=long_ago)
    orders.claim(ledger, "app_finetune", "a run that was deleted", long_ago)
    assert wish("force")["order"] == 2
    assert ledger.outcome(1).result == "lost"


def test_a_retraining_whose_run_still_waits_for_a_slot_is_no_lost_one(storage, ledger):
    long_ago = datetime.now(UTC) - timedelta(days=6)
    trip(storage, decided=long_ago)
    # Finetune works on a run of before; the order is next.
    assert wish("force", living=["manual__train"])["reason"].startswith("retraining 1 waits already")
    orders.claim(ledger, "app_finetune", "waits", long_ago)
    with pytest.raises(AirflowFailException, match="retraining 1 is the work of waits"):
        wish("force", living=["waits"])
    assert ledger.outcome(1) is None


@pytest.mark.slow
@pytest.mark.usefixtures("shown")
def test_a_person_gives_up_a_retraining_and_another_can_be_ordered(storage, ledger):
    trip(storage)
    ask()
    told = wish("give up", reason="the data was wrong")
    assert told["reason"] == (
        "retraining 1 is cancelled: ana gave it up: the data was wrong. Mark asset_triggered__1 as failed if it still trains"
    )
    assert wish("give up", reason="the data was wrong") == told
    assert trip(storage, day=23).order == 2
    # What it trained all the same is not lost.
    assert end(1, **REGISTERED)["outcome"] == "registered"


@pytest.mark.slow
@pytest.mark.usefixtures("shown")
def test_no_run_begins_to_train_for_what_was_given_up(storage):
    trip(storage)
    wish("give up")
    assert ask()["order"] is None


@pytest.mark.usefixtures("storage")
def test_giving_up_nothing_says_so():
    with pytest.raises(AirflowFailException, match="nothing was given up: no retraining is open"):
        wish("give up")


def test_a_snooze_keeps_the_policy_quiet_and_wake_ends_it(storage, ledger):
    told = wish("snooze", days=3)
    assert told["order"] is None
    assert told["reason"].startswith("ana snoozed retraining until ")
    assert timedelta(days=2.9) < ledger.snooze().until - datetime.now(UTC) <= timedelta(days=3)
    assert trip(storage).code == "snoozed"
    ended = wish("wake", run_id="manual__2")
    assert ended["reason"] == "the snooze is over; no retraining is ordered"
    assert wish("wake", run_id="manual__2") == ended
    assert trip(storage, day=24).order == 1
    assert wish("wake", run_id="manual__3")["order"] == 1


def test_wake_says_when_there_is_nothing_to_wake(storage):
    assert wish("wake")["reason"] == "nothing was snoozed; no retraining is ordered"
    trip(storage)
    ask()
    told = wish("wake")
    assert (told["order"], told["reason"]) == (
        None, "nothing was snoozed; retraining 1 is the work of asset_triggered__1"
    )  # fmt: skip


def test_a_reason_that_no_file_could_hold_is_kept_all_the_same(ledger):
    told = wish("snooze", reason="half of \ud83d and\x00 a\nline")
    assert ledger.snooze().reason == "half of ⟨U+D83D⟩ and⟨U+0000⟩ a\nline"
    assert told["reason"].endswith(ledger.snooze().reason)
