"""What a look finds that nobody told, and what is over when it is found no more."""

from datetime import UTC, datetime, timedelta

import pytest
from told import application, drift

from nightshift.alerts.conditions import held_with
from nightshift.alerts.watch import (
    BrokenFile,
    Dag,
    Task,
    hangs,
    lost,
    not_come,
    over,
    spent,
    stuck,
    unreadable,
    waits,
)
from nightshift.monitoring.policy import Answer, Outcome, Request

NOW = datetime(2026, 11, 22, 5, tzinfo=UTC)
APP = application()


def ago(hours):
    return NOW - timedelta(hours=hours)


def task(state, hours, longest=None):
    return Task(
        dag_id="bank_finetune", run_id="r", task_id="train", state=state, start_date=ago(hours), queued_when=ago(hours),
        longest=None if longest is None else timedelta(hours=longest),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "hours", "longest", "expected"),
    [
        ("queued", 0.5, None, False),
        ("queued", 1.5, None, True),
        ("running", 5, 2, False),
        ("running", 7, 2, True),
        ("running", 100, None, False),  # its first time: only the deadline of its run can tell
        ("running", 0.9, 0.1, False),
        ("deferred", 7, 2, True),
    ],
)
def test_a_task_hangs_when_no_worker_takes_it_or_it_runs_far_longer_than_ever(state, hours, longest, expected):
    assert hangs(task(state, hours, longest), NOW) is expected


def test_a_hanging_task_says_for_how_long_and_how_long_it_took_before():
    alert = stuck(APP, task("running", 7, 2), links={}, now=NOW)
    assert alert.title == "bank_finetune: train has run for 7.0 hours"
    assert "took 2.0 hours" in alert.facts[0]
    assert alert.since == ago(7)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 1),
        ({"is_paused": True}, 0),
        ({"is_stale": True}, 0),
        ({"next_dagrun_run_after": ago(0.5)}, 0),
        ({"next_dagrun_run_after": None}, 0),
        ({"dag_id": "bank_finetune"}, 0),  # still at work on the run before
    ],
)
def test_a_run_that_did_not_come_is_told_unless_a_person_or_the_run_before_holds_it_up(fields, expected):
    dag = Dag(**{"dag_id": "bank_ingest", "is_paused": False, "next_dagrun_run_after": ago(2), **fields})
    assert len(not_come(APP, [dag], {"bank_finetune"}, now=NOW)) == expected


def test_a_file_that_cannot_be_read_is_told_anew_when_it_breaks_anew():
    def broken(number):
        trace = "Traceback\n  File x\nNameError: name 'y' is not defined\n"
        return unreadable(
            APP, BrokenFile(import_error_id=number, filename="ingest.py", stack_trace=trace, timestamp=NOW), now=NOW
        )

    assert broken(1).facts == ["NameError: name 'y' is not defined"]
    assert broken(1).id == broken(1).id != broken(2).id


@pytest.mark.parametrize(
    ("gpu_hours", "cost", "expected"),
    [
        (31, 0, []),
        (33, 0, [("warning", "82% of the week's GPU hours is used")]),
        (40, 99, [("critical", "100% of the week's GPU hours is used"), ("warning", "99% of the week's cost is used")]),
    ],
)
def test_most_of_the_budget_is_a_warning_and_all_of_it_critical(gpu_hours, cost, expected):
    app = APP.model_copy(
        update={"budget": APP.budget.model_copy(update={"gpu_hours_a_week": 40.0, "cost_a_week": 100.0})}
    )
    alerts = spent(app, gpu_hours=gpu_hours, cost=cost, now=NOW)
    assert [(alert.severity.value, alert.title) for alert in alerts] == expected


def test_without_a_budget_nothing_is_said():
    assert spent(APP, gpu_hours=1e6, cost=1e6, now=NOW) == []


def request(hours):
    return Request(
        id="20261121T050000-abc", version="8", model_digest="d", evaluation_digest="e", champion_digest=None,
        verdict="WARN", subject="May version 8 replace version 7?", dag_id="bank_release", run_id="r",
        task_id="approve", asked=ago(hours), until=ago(hours) + timedelta(hours=24),
    )  # fmt: skip


def test_people_are_reminded_every_few_hours_until_the_time_is_up():
    assert waits(APP, request(3.9), links={}, now=NOW) is None
    told = {waits(APP, request(hours), links={}, now=NOW).cause[-1] for hours in (4.1, 7.9)}
    assert told == {"1"}
    assert waits(APP, request(8.1), links={}, now=NOW).cause.endswith("reminder 2")
    assert waits(APP, request(24), links={}, now=NOW) is None


def test_a_lost_retraining_is_told_with_the_reason():
    outcome = Outcome(number=7, result="lost", explanation="no run claimed it", ended=ago(1))
    assert lost(APP, outcome, now=NOW).facts == ["no run claimed it"]


def held(condition, hours=1):
    return held_with(None, drift(condition=condition, at=ago(hours), title="it holds"))


def test_what_is_found_no_more_is_over_and_an_answered_request_says_by_whom():
    answer = Answer(id="q1", answer="approved", by="ada", answered=NOW)
    conditions = [held("stuck bank_ingest x"), held("import y"), held("approval q1"), held("drift")]
    ended = over(conditions, {"import y"}, {"q1": answer}, now=NOW)
    assert [(alert.condition, alert.good) for alert in ended] == [("stuck bank_ingest x", True), ("approval q1", True)]
    assert ended[1].title == "approved by ada: it holds"


def test_what_was_told_while_somebody_looked_is_not_over():
    assert over([held("late bank_ingest", hours=0)], set(), {}, now=NOW) == []
