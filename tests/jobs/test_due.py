"""The jobs around a retraining: due claims it, close ends it, order is how a person steps in."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from nightshift.errors import BadEnvironment
from nightshift.jobs import close, due, order
from nightshift.ledger import orders
from nightshift.ledger.records import Night
from nightshift.ledger.store import Ledger
from nightshift.registry.tracking import experiment_of, find_run
from nightshift.settings.application import Application
from nightshift.shown import in_markdown
from nightshift.verdict import Verdict

pytestmark = pytest.mark.slow

APP = Application(
    name="app",
    sources=[{"uri": "/data/*.csv", "columns": {"prompt": "text"}}],
    retraining={"nights": 1, "of_nights": 1, "min_new_examples": 0, "cooldown_days": 0},
)


@pytest.fixture
def ledger(storage):
    return Ledger(storage, "app")


@pytest.fixture
def ask(storage, progress):
    """Run the job `due` for a DAG run."""

    def run(run_id="asset_triggered__1", **fields):
        return due.run(
            due.Spec(application=APP, storage=storage, dag_id="app_finetune", run_id=run_id, **fields), progress
        )

    return run


@pytest.fixture
def end(storage, progress):
    """Run the job `close`."""

    def run(number, run_id="asset_triggered__1", **fields):
        return close.run(close.Spec(application=APP, storage=storage, order=number, run_id=run_id, **fields), progress)

    return run


@pytest.fixture
def wish(storage, progress):
    """Run the job `order`."""

    def run(action, run_id="manual__1", reason="the new tariff is out", **fields):
        fields = {"by": "ana", **fields}
        return order.run(
            order.Spec(application=APP, storage=storage, run_id=run_id, action=action, reason=reason, **fields),
            progress,
        )

    return run


def trip(storage, day=22, decided=None):
    """A failing night, and the decision that orders a retraining."""
    night = Night(
        monitor="drift", interval=f"2026-11-{day}", verdict="FAIL", model_digest="c" * 64, failing=["exact_match"],
        report=f"memory://report/{day}", report_digest=f"{day:064d}", created=datetime(2026, 11, day, tzinfo=UTC),
    )  # fmt: skip
    return orders.evaluate(APP, storage, night, decided or datetime.now(UTC))


def test_a_wake_without_an_order_ends_with_nothing_due(ask):
    result = ask()
    assert result.verdict is Verdict.INSUFFICIENT_DATA
    assert result.reason == "nothing due: no retraining is ordered"


def test_an_order_is_due_once_with_its_reason_and_reports(ask, storage):
    decision = trip(storage)
    result = ask()
    assert (result.verdict, result.order, result.decision) == (Verdict.PASS, 1, decision.id)
    assert result.reason == decision.reason
    assert result.reports == ["memory://report/22"]
    # The event came twice, and the task was tried again.
    assert ask() == result
    second = ask("asset_triggered__2")
    assert second.verdict is Verdict.INSUFFICIENT_DATA
    assert second.reason == "nothing due: retraining 1 is the work of asset_triggered__1"


def test_whoever_is_woken_first_trains_also_when_the_event_was_lost(ask, storage):
    trip(storage)
    assert ask("scheduled__2026-11-24").order == 1
    assert ask("asset_triggered__late").verdict is Verdict.INSUFFICIENT_DATA


def test_a_person_or_the_applications_schedule_trains_without_an_order(ask):
    by_hand = ask("manual__1", wanted=True, by="ana")
    assert (by_hand.verdict, by_hand.order, by_hand.reason) == (Verdict.PASS, None, "ana asked for a training")
    assert ask("scheduled__1", wanted=True).reason == "the schedule asked for a training"


def test_a_run_started_by_hand_takes_up_an_order_that_waits(ask, storage):
    trip(storage)
    assert ask("manual__1", wanted=True, by="ana").order == 1


@pytest.mark.usefixtures("mlflow_store")
def test_a_registered_model_ends_the_order_with_its_gate_and_hours(ask, end, storage, ledger):
    trip(storage)
    ask()
    result = end(1, model="memory://model", version="4", gate="WARN", seconds=1_800.0, processes=2)
    assert (result.verdict, result.outcome, result.hours) == (Verdict.PASS, "registered", 1.0)
    kept = ledger.outcome(1)
    assert (kept.model_version, kept.verdict, kept.run_id) == ("4", Verdict.WARN, "asset_triggered__1")
    assert ask("asset_triggered__2").verdict is Verdict.INSUFFICIENT_DATA


@pytest.mark.usefixtures("mlflow_store")
@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"failed": "train"}, "train failed in asset_triggered__1; the log of that task says why"),
        ({"stopped": "no accepted examples up to 2026-11-22"}, "no accepted examples up to 2026-11-22"),
        ({}, "asset_triggered__1 ended without a version"),
    ],
)
def test_a_failed_training_leaves_an_explanation_and_blocks_nobody(ask, end, storage, fields, text):
    trip(storage)
    ask()
    result, ledger = end(1, **fields), Ledger(storage, "app")
    assert (result.verdict, result.outcome) == (Verdict.WARN, "failed")
    assert ledger.outcome(1).explanation == text
    assert 0 < ledger.outcome(1).hours < 0.1
    assert trip(storage, day=23).order == 2


@pytest.mark.usefixtures("mlflow_store")
def test_closing_twice_keeps_the_first_outcome(ask, end, storage, ledger):
    trip(storage)
    ask()
    first = end(1, failed="train")
    kept = ledger.outcome(1)
    assert end(1, failed="evaluate") == first
    assert ledger.outcome(1) == kept


def test_a_run_without_an_order_has_nothing_to_close(end):
    result = end(None, version="4")
    assert (result.verdict, result.outcome) == (Verdict.PASS, None)


def test_the_decision_and_its_outcome_are_shown_in_mlflow_with_all_numbers(ask, end, storage, mlflow_store):
    decision = trip(storage)
    ask()
    end(1, version="4", gate="PASS", seconds=360.0)
    run = find_run(mlflow_store, experiment_of(mlflow_store, "app"), f"decision-{decision.id}")
    assert run.data.tags["nightshift.code"] == "tripped"
    assert run.data.tags["nightshift.outcome"] == "registered"
    assert in_markdown(decision.reason) in run.data.tags["mlflow.note.content"]
    assert "Retraining 1: registered, version 4, its gate says PASS" in run.data.tags["mlflow.note.content"]
    assert run.data.metrics == {**decision.numbers, "hours": 0.1}


def test_with_mlflow_down_the_outcome_is_kept_and_shown_by_the_next_try(end, storage, ledger, monkeypatch, request):
    trip(storage)
    with monkeypatch.context() as down:
        down.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with pytest.raises(BadEnvironment):
            end(1, version="4", gate="PASS", seconds=360.0)
    assert ledger.outcome(1).result == "registered"
    client = request.getfixturevalue("mlflow_store")
    assert end(1, version="4", gate="PASS", seconds=360.0).outcome == "registered"
    key = f"decision-{ledger.orders()[1].decision.id}"
    assert find_run(client, experiment_of(client, "app"), key).data.tags["nightshift.outcome"] == "registered"


@pytest.mark.usefixtures("mlflow_store")
def test_a_person_forces_a_retraining_with_a_reason_once(ask, wish, ledger):
    asked = wish("force")
    assert (asked.order, asked.reason) == (1, "ana forced it: the new tariff is out")
    assert wish("force") == asked
    result = ask()
    assert (result.order, result.reason) == (1, asked.reason)
    second = wish("force", run_id="manual__2")
    assert (second.order, second.reason) == (None, "retraining 1 is the work of asset_triggered__1")
    assert [decision.code for decision in ledger.decisions()] == ["forced"]


@pytest.mark.usefixtures("mlflow_store")
def test_forcing_while_an_order_waits_wakes_finetune_for_that_one(wish, storage):
    trip(storage)
    assert wish("force").order == 1
    assert "waits for finetune" in wish("force").reason


def test_a_retraining_whose_run_is_gone_blocks_no_person(wish, storage, ledger):
    long_ago = datetime.now(UTC) - timedelta(hours=APP.retraining.lost_after_hours + 1)
    trip(storage, decided=long_ago)
    orders.claim(ledger, "app_finetune", "a run that was deleted", long_ago)
    assert wish("force").order == 2
    assert ledger.outcome(1).result == "lost"


def test_a_snooze_keeps_the_policy_quiet_and_wake_ends_it(wish, storage, ledger):
    told = wish("snooze", days=3)
    assert told.order is None
    assert told.reason.startswith("ana snoozed retraining until ")
    assert timedelta(days=2.9) < ledger.snooze().until - datetime.now(UTC) <= timedelta(days=3)
    assert trip(storage).code == "snoozed"
    assert wish("wake", run_id="manual__2").reason == "the snooze is over; no retraining is ordered"
    assert trip(storage, day=24).order == 1
    assert wish("wake", run_id="manual__3").order == 1


def test_wake_leaves_a_retraining_alone_that_is_under_way(ask, wish, storage):
    assert wish("wake").order is None
    trip(storage)
    ask()
    told = wish("wake")
    assert (told.order, told.reason) == (None, "retraining 1 is the work of asset_triggered__1")


@pytest.mark.parametrize("wrong", [{"reason": "  "}, {"days": 0}, {"days": 91}, {"action": "cancel"}])
def test_a_wish_without_a_reason_or_out_of_bounds_is_refused(wrong):
    fields = {"run_id": "r", "action": "snooze", "reason": "why", **wrong}
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        order.Spec(application=APP, storage="memory://x", **fields)
