"""Around a retraining: due claims it, close ends it, and a person forces one, gives it up, snoozes it or wakes finetune."""

import os
import time
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException
from kept_pods import keep, pod
from retraining_tasks import FAILED, REGISTERED, UNASKED, ask, context, end, states, trip, wish
from upath import UPath

from nightshift.ledger import orders
from nightshift.orchestration import retraining
from nightshift.orchestration.job_task import EnvironmentDown
from nightshift.shown import in_markdown


def page_of(server, key):
    """Tags and metrics of the run in MLflow that has this key."""
    from mlflow import MlflowClient

    from nightshift.registry.tracking import experiment_of, find_run

    client = MlflowClient(server)
    run = find_run(client, experiment_of(client, "app"), key)
    return run.data.tags, run.data.metrics


@pytest.mark.usefixtures("storage")
def test_a_wake_without_an_order_ends_with_nothing_due():
    assert ask()["skipped"] == "nothing due: no retraining is ordered"


def test_an_order_is_due_once_with_its_reason_and_reports(storage):
    decision = trip(storage)
    result = ask()
    assert result == {
        "order": 1, "decision": decision.id, "reports": ["memory://report/22"], "reason": decision.reason, "model": None
    }  # fmt: skip
    # The event came twice, and the task was tried again.
    assert ask() == result
    assert ask("asset_triggered__2")["skipped"] == "nothing due: retraining 1 is the work of asset_triggered__1"


def test_whoever_is_woken_first_trains_also_when_the_event_was_lost(storage):
    trip(storage)
    assert ask("scheduled__2026-11-24")["order"] == 1
    assert ask("asset_triggered__late")["order"] is None


@pytest.mark.usefixtures("storage")
def test_a_person_or_the_applications_schedule_trains_without_an_order():
    by_hand = ask("manual__1", user="ana")
    assert (by_hand["order"], by_hand["reason"]) == (None, "ana asked for a training")
    by_clock = retraining.due.function("app", ["asset_triggered"], **context("scheduled__1", run_type="scheduled"))
    assert by_clock["reason"] == "the schedule asked for a training"


def test_a_run_started_by_hand_takes_up_an_order_that_waits(storage):
    trip(storage)
    assert ask("manual__1", user="ana")["order"] == 1


@pytest.mark.usefixtures("storage")
def test_a_parameter_that_nobody_declared_is_refused():
    with pytest.raises(AirflowFailException, match="unknown parameters \\['epoch'\\]"):
        retraining.due.function("app", UNASKED, **context("manual__1", conf={"epoch": 3}))


@pytest.mark.usefixtures("storage")
def test_a_fault_of_ours_is_tried_again_but_not_for_hours(monkeypatch):
    def broken(*_):
        raise RuntimeError("never seen before")

    monkeypatch.setattr(orders, "claim", broken)
    given = context("manual__1")
    with pytest.raises(RuntimeError, match="never seen before"):
        retraining.due.function("app", UNASKED, **given)
    given["ti"].try_number = 3
    with pytest.raises(AirflowFailException, match="RuntimeError: never seen before"):
        retraining.due.function("app", UNASKED, **given)


@pytest.mark.slow
@pytest.mark.usefixtures("shown")
def test_a_registered_model_ends_the_order_with_its_gate_and_hours(storage, ledger):
    trip(storage)
    ask()
    result = end(1, states=states(register="success"), **REGISTERED)
    assert (result["outcome"], result["hours"]) == ("registered", 1.0)
    kept = ledger.outcome(1)
    assert (kept.model, kept.evaluation, kept.model_version) == ("s3://m", "s3://e", "4")
    assert (kept.verdict, kept.run_id) == ("WARN", "asset_triggered__1")
    assert ask("asset_triggered__2")["order"] is None


@pytest.mark.slow
@pytest.mark.usefixtures("shown")
@pytest.mark.parametrize(
    ("given", "results", "text"),
    [
        (FAILED, {}, "train failed in asset_triggered__1; see the log of that task"),
        (
            states(snapshot="skipped", train="skipped"),
            {"snapshot": {"reason": "no accepted examples"}},
            "no accepted examples",
        ),
        ({}, {}, "asset_triggered__1 ended without a version"),
    ],
)
def test_a_failed_training_leaves_an_explanation_and_blocks_nobody(storage, ledger, given, results, text):
    trip(storage)
    ask()
    assert end(1, states=given, **results)["outcome"] == "failed"
    assert ledger.outcome(1).explanation == text
    assert ledger.outcome(1).hours == 0
    assert trip(storage, day=23).order == 2


@pytest.mark.slow
@pytest.mark.usefixtures("shown")
def test_the_hours_of_a_failed_training_leave_out_how_long_it_waited_for_a_slot(storage, ledger):
    trip(storage)
    orders.claim(ledger, "app_finetune", "asset_triggered__1", datetime.now(UTC) - timedelta(days=5))
    spec = UPath(storage) / "app/results/app_finetune/asset_triggered__1/train/try-1/spec.json"
    spec.parent.mkdir(parents=True)
    spec.write_text("{}")
    os.utime(spec.path, (time.time() - 3600, time.time() - 3600))
    assert end(1, states=FAILED, params={"processes": 8})["hours"] == pytest.approx(8, abs=0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("shown")
@pytest.mark.parametrize(
    "given",
    [
        states(train="failed", evaluate="skipped", reference="skipped", register="skipped"),
        states(snapshot="skipped", train="skipped", evaluate="skipped", reference="skipped", register="skipped"),
    ],
    ids=["in the middle of a task", "between two tasks"],
)
def test_a_run_that_a_person_marked_as_failed_ends_as_failed_and_blocks_nobody(storage, ledger, given):
    trip(storage)
    ask()
    result = end(1, states=given)
    assert result["failed"] == "asset_triggered__1 was marked as failed by hand"
    assert ledger.outcome(1).result == "cancelled"
    assert trip(storage, day=23).order == 2


MODEL = {"train": {"model": "memory://models/m1", "seconds": 60.0, "processes": 1}}
UNREGISTERED = states(register="failed")


@pytest.mark.slow
@pytest.mark.usefixtures("shown")
def test_the_hours_of_a_failed_training_in_pods_are_those_of_its_pods(storage, ledger):
    trip(storage)
    orders.claim(ledger, "app_finetune", "asset_triggered__1", datetime.now(UTC) - timedelta(hours=9))
    spec = UPath(storage) / "app/results/app_finetune/asset_triggered__1/train/try-1/spec.json"
    spec.parent.mkdir(parents=True)
    spec.write_text("{}")
    os.utime(spec.path, (time.time() - 6 * 3600, time.time() - 6 * 3600))  # it waited for nodes most of these hours
    run = {"dag_id": "app_finetune", "run_id": "asset_triggered__1"}
    keep(storage, pod("one", hours=0.5).model_copy(update=run), application="app")
    assert end(1, states=FAILED, params={"processes": 8})["hours"] == pytest.approx(4 * 0.5)
    assert (ledger.outcome(1).gpu_hours, ledger.outcome(1).cost) == (2, 5)


@pytest.fixture
def unregistered(shown, storage):
    """An order whose model was trained by the first run and could not be registered."""
    trip(storage)
    ask()
    end(1, states=UNREGISTERED, **MODEL)


@pytest.mark.slow
@pytest.mark.usefixtures("unregistered")
def test_the_next_run_registers_a_model_that_was_trained_and_not_registered(ledger):
    taken_up = ask("scheduled__next")
    assert (taken_up["order"], taken_up["model"]) == (1, "memory://models/m1")
    assert "was not registered" in taken_up["reason"]
    end(1, "scheduled__next", states=states(register="success"), register={"version": "7", "verdict": "PASS"}, **MODEL)
    assert ledger.outcome(1).result == "registered"
    assert "skipped" in ask("scheduled__later")


@pytest.mark.slow
@pytest.mark.usefixtures("unregistered")
def test_a_newer_order_for_drift_takes_that_model_and_one_by_a_person_trains_anew(storage):
    trip(storage, 23)
    second = ask("asset_triggered__2")
    assert (second["order"], second["model"]) == (2, "memory://models/m1")
    assert end(2, "asset_triggered__2", states=UNREGISTERED, **MODEL)["hours"] == 0  # the first retraining paid for it
    wish("force")
    forced = ask("asset_triggered__3")
    assert (forced["order"], forced["model"]) == (3, None)


@pytest.mark.slow
@pytest.mark.usefixtures("unregistered")
def test_a_training_that_a_person_asks_for_is_of_the_newest_rows():
    by_hand = ask("manual__1", user="ana")
    assert (by_hand["order"], by_hand["model"]) == (None, None)


@pytest.mark.slow
@pytest.mark.usefixtures("unregistered")
def test_a_model_that_nobody_registered_for_days_is_given_up(storage, ledger):
    outcome = ledger.outcome(1)
    ledger.replace(outcome.model_copy(update={"ended": outcome.ended - timedelta(hours=49)}))
    assert "skipped" in ask("scheduled__next")
    # Another order that failed with it does not begin the days anew.
    trip(storage, 23)
    assert ask("asset_triggered__2")["model"] is None
    end(2, "asset_triggered__2", states=UNREGISTERED, **MODEL)
    assert "skipped" in ask("scheduled__last")


@pytest.mark.slow
@pytest.mark.usefixtures("shown")
def test_closing_twice_keeps_the_first_outcome(storage, ledger):
    trip(storage)
    ask()
    first, kept = end(1, states=FAILED), ledger.outcome(1)
    assert end(1, states=states(evaluate="failed", reference="upstream_failed")) == first
    assert ledger.outcome(1) == kept


@pytest.mark.usefixtures("storage")
def test_a_run_without_an_order_has_nothing_to_close():
    assert end(None, states=states(register="success"), **REGISTERED)["order"] is None


@pytest.mark.slow
def test_the_decision_and_its_outcome_are_shown_in_mlflow_with_all_numbers(storage, shown):
    decision = trip(storage)
    ask()
    end(1, **REGISTERED)
    tags, metrics = page_of(shown, f"decision-{decision.id}")
    assert (tags["nightshift.code"], tags["nightshift.outcome"]) == ("tripped", "registered")
    assert in_markdown(decision.reason) in tags["mlflow.note.content"]
    assert "Retraining 1: registered, version 4, its gate says WARN" in tags["mlflow.note.content"]
    assert metrics == {**decision.numbers, "hours": 1.0}


@pytest.mark.slow
def test_with_mlflow_down_the_outcome_is_kept_and_shown_by_the_next_try(storage, ledger, monkeypatch, request):
    decision = trip(storage)
    with pytest.raises(EnvironmentDown, match="does not answer"):
        end(1, **REGISTERED)
    assert ledger.outcome(1).result == "registered"
    server = request.getfixturevalue("mlflow_server")
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", server)
    assert end(1, **REGISTERED)["outcome"] == "registered"
    assert page_of(server, f"decision-{decision.id}")[0]["nightshift.outcome"] == "registered"


def test_what_mlflow_refuses_is_not_tried_again_for_hours_and_the_outcome_is_kept(
    storage, ledger, monkeypatch, answers
):
    trip(storage)
    answers.status = 403
    answers.json["/api/2.0/mlflow/experiments/get-by-name"] = {
        "error_code": "PERMISSION_DENIED",
        "message": "not yours",
    }
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", answers.url)
    with pytest.raises(AirflowFailException, match=r"refuses experiments/get-by-name \(403, not yours\)"):
        retraining.close.function("app", **context("asset_triggered__1", results={"due": {"order": 1}, **REGISTERED}))
    assert ledger.outcome(1).result == "registered"
