"""Around a retraining: due claims it, close ends it, and a person forces one, gives it up, snoozes it or wakes finetune."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from nightshift.ledger import orders
from nightshift.ledger.records import Night
from nightshift.ledger.store import Ledger
from nightshift.orchestration import retraining
from nightshift.orchestration.job_task import EnvironmentDown
from nightshift.settings.applications import load_application
from nightshift.shown import in_markdown

APP = """\
sources:
  - uri: /data/*.csv
    columns: {prompt: text}
retraining: {nights: 1, of_nights: 1, min_new_examples: 0, cooldown_days: 0}
"""
UNASKED = ["asset_triggered", "scheduled"]
STEPS = ("due", "snapshot", "train", "evaluate", "reference", "register")


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """The storage of the application `app`, whose decisions nobody shows: nothing listens where MLflow should be."""
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "app.yaml").write_text(APP)
    place = (tmp_path / "storage").as_uri()
    monkeypatch.setenv("NIGHTSHIFT_APPS", str(tmp_path / "apps"))
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", place)
    return place


@pytest.fixture
def shown(storage, mlflow_server, monkeypatch):
    """The same with an MLflow server, whose URI it is."""
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", mlflow_server)
    return mlflow_server


@pytest.fixture
def ledger(storage):
    return Ledger(storage, "app")


def context(run_id, *, results=None, states=None, user=None, run_type="manual", conf=None, params=None):
    """What Airflow gives a task, as far as these look at it; `pushed` is what a task said before it raised."""
    pushed = {}
    ti = SimpleNamespace(
        dag_id="app_finetune", run_id=run_id, task_id="t", try_number=1, log_url="http://airflow/log",
        xcom_pull=lambda *, task_ids: (results or {}).get(task_ids),
        xcom_push=pushed.__setitem__,
        get_task_states=lambda dag_id, run_ids: {run_ids[0]: states or {}},
    )  # fmt: skip
    params = params or {}
    run = SimpleNamespace(
        dag_id="app_finetune", run_id=run_id, run_type=run_type, triggering_user_name=user, conf=conf or params,
        state="running", queued_at=None, start_date=None, end_date=None, run_after=None, data_interval_start=None,
        data_interval_end=None,
    )  # fmt: skip
    return {"ti": ti, "dag_run": run, "dag": SimpleNamespace(params=params), "params": params, "pushed": pushed}


def ask(run_id="asset_triggered__1", **fields):
    """What `due` answers a DAG run; of one that is skipped, what it said."""
    given = context(run_id, **{"run_type": run_id.partition("__")[0], **fields})
    try:
        return retraining.due.function("app", UNASKED, **given)
    except AirflowSkipException as skipped:
        return {**given["pushed"]["return_value"], "skipped": str(skipped)}


def end(order, run_id="asset_triggered__1", states=None, **results):
    """What `close` answers at the end of a DAG run; of one that was cancelled, what it said."""
    given = context(run_id, results={"due": {"order": order}, **results}, states=states)
    try:
        return retraining.close.function("app", **given)
    except AirflowFailException as failed:
        return {**given["pushed"]["return_value"], "failed": str(failed)}


def wish(action, run_id="manual__1", reason="the new tariff is out", days=7):
    params = {"action": action, "reason": reason, "days": days}
    return retraining.step_in.function("app", **context(run_id, user="ana", params=params))


def page_of(server, key):
    """Tags and metrics of the run in MLflow that has this key."""
    from mlflow import MlflowClient

    from nightshift.registry.tracking import experiment_of, find_run

    client = MlflowClient(server)
    run = find_run(client, experiment_of(client, "app"), key)
    return run.data.tags, run.data.metrics


def trip(storage, day=22, decided=None):
    """A failing night, and the decision that orders a retraining."""
    night = Night(
        monitor="drift", interval=f"2026-11-{day}", verdict="FAIL", model_digest="c" * 64, failing=["exact_match"],
        report=f"memory://report/{day}", report_digest=f"{day:064d}", created=datetime(2026, 11, day, tzinfo=UTC),
    )  # fmt: skip
    return orders.evaluate(load_application("app"), storage, night, decided or datetime.now(UTC))


def states(**given):
    """The states of a run's steps: those before the first that is given succeeded."""
    first = min(STEPS.index(name) for name in given)
    return {**dict.fromkeys(STEPS[:first], "success"), **given}


TRAINED = {"train": {"model": "s3://m", "seconds": 1_800.0, "processes": 2}, "evaluate": {"evaluation": "s3://e"}}
REGISTERED = {**TRAINED, "register": {"version": "4", "verdict": "WARN"}}
FAILED = states(train="failed", evaluate="upstream_failed", reference="upstream_failed", register="upstream_failed")


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
        (FAILED, {}, "train failed in asset_triggered__1; the log of that task says why"),
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
    assert 0 < ledger.outcome(1).hours < 0.1
    assert trip(storage, day=23).order == 2


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
    end(2, "asset_triggered__2", states=UNREGISTERED, **MODEL)
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
