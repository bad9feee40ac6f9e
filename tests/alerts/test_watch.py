"""What a look finds that nobody told, and what is over when it is found no more."""

from datetime import UTC, datetime, timedelta

import pytest
from told import drift

from nightshift.alerts.conditions import as_sent, with_alert
from nightshift.alerts.watch import Dag, Task, hangs, not_come, over, stuck, with_recurrence
from nightshift.ledger.records import Answer

NOW = datetime(2026, 11, 22, 5, tzinfo=UTC)


def ago(hours):
    return NOW - timedelta(hours=hours)


def task(state, hours, longest=None):
    return Task(
        dag_id="bank_finetune", run_id="r", task_id="train", state=state, pool="nightshift_jobs",
        start_date=None if state in {"queued", "scheduled"} else ago(hours),
        queued_when=ago(hours) if state == "queued" else None, scheduled_when=ago(hours),
        longest=None if longest is None else timedelta(hours=longest),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "hours", "longest", "expected"),
    [
        ("queued", 0.5, None, False),
        ("queued", 1.5, None, True),
        ("scheduled", 0.5, None, False),
        ("scheduled", 1.5, None, True),
        ("running", 5, 2, False),
        ("running", 7, 2, True),
        ("running", 100, None, False),  # its first time: only the deadline of its run can tell
        ("running", 0.9, 0.1, False),
        ("deferred", 7, 2, True),
    ],
)
def test_a_task_hangs_when_no_pool_or_worker_takes_it_or_it_runs_far_longer_than_ever(state, hours, longest, expected):
    assert hangs(task(state, hours, longest), NOW) is expected


@pytest.mark.parametrize("state", ["running", "up_for_reschedule"])
def test_a_task_that_waits_for_late_data_does_not_hang_however_short_it_was_before(state):
    waits = task(state, 2, longest=0.01).model_copy(update={"operator": "SourcesSensor"})
    assert not hangs(waits, NOW)
    assert hangs(waits.model_copy(update={"operator": "LocalJob"}), NOW)
    assert hangs(waits.model_copy(update={"state": "queued", "queued_when": ago(2)}), NOW)


def test_a_hanging_task_says_for_how_long_and_how_long_it_took_before():
    alert = stuck("bank", task("running", 7, 2), links={}, now=NOW)
    assert alert.title == "bank_finetune: train has run for 7.0 hours"
    assert "took 2.0 hours" in alert.facts[0]
    assert alert.since == ago(7)


def test_a_full_pool_is_named_and_wakes_nobody_up():
    alert = stuck("bank", task("scheduled", 1.5), links={}, now=NOW)
    assert alert.title == "bank_finetune: train has waited for a slot of the pool nightshift_jobs for 1.5 hours"
    assert alert.severity == "warning"


def test_the_next_try_that_hangs_is_news():
    first, second = (stuck("bank", task("running", hours, 1), links={}, now=NOW) for hours in (20, 7))
    assert first.id != second.id
    assert second.id == stuck("bank", task("running", 7, 1), links={}, now=NOW).id


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
    assert len(not_come("bank", [dag], {"bank_finetune"}, now=NOW)) == expected


def held(condition, hours=1):
    return with_alert(None, drift(condition=condition, at=ago(hours), title="it holds"))


def test_what_is_found_no_more_is_over_and_an_answered_request_says_by_whom():
    answer = Answer(id="q1", answer="approved", by="ada", answered=NOW)
    conditions = [held("stuck bank_ingest x"), held("import y"), held("approval q1"), held("drift")]
    ended = over(conditions, {"import y"}, {"q1": answer}, now=NOW)
    assert [(alert.condition, alert.good) for alert in ended] == [("stuck bank_ingest x", True), ("approval q1", True)]
    assert ended[1].title == "approved by ada: it holds"


def test_what_was_told_while_somebody_looked_is_not_over():
    assert over([held("late bank_ingest", hours=0)], set(), {}, now=NOW) == []


def told(alert, held, *known):
    return with_recurrence([alert], held, lambda name: name in known, now=NOW)[0]


def test_what_holds_for_a_week_is_told_anew_once_and_not_before():
    alert = stuck("bank", task("running", 200, 1), links={}, now=NOW)
    for days, anew in ((6.9, False), (7, True)):
        since = with_alert(None, alert.model_copy(update={"at": ago(24 * days)}))
        assert (told(alert, [since], alert.id).id != alert.id) is anew
    again = as_sent(since, told(alert, [since], alert.id))
    assert again.severity == "critical"
    assert told(alert, [with_alert(since, again)], alert.id).id == alert.id


def test_what_is_back_after_it_was_over_is_told_anew_but_not_a_run_that_ended_while_somebody_looked():
    alert = stuck("bank", task("running", 7, 1), links={}, now=NOW)
    assert told(alert, []).id == alert.id
    assert told(alert, [], alert.id).id != alert.id
    late = drift(kind="deadline_missed", condition="late bank_ingest r")
    assert told(late, [], late.id).id == late.id
