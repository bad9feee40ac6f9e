"""What the task that asks people does with an answer: none is lost, and none crashes it."""

from datetime import timedelta
from types import SimpleNamespace

import approval_tasks
import pytest
from airflow.sdk import DAG
from approval_tasks import DECISION, NOW, answered, context, records_of

from nightshift.orchestration.approval import ApproveRelease
from nightshift.orchestration.contest import Form
from nightshift.settings.applications import load_application

asking, task = approval_tasks.asking, approval_tasks.task


def test_an_answer_is_that_of_the_runs_own_request_whatever_became_of_the_decision(task):
    broken = context(task)
    broken["ti"].xcom_pull = lambda task_ids: None
    event = {
        "chosen_options": ["Approve"], "params_input": {}, "responded_at": NOW, "timedout": False,
        "responded_by_user": {"id": "7", "name": "alice"},
    }  # fmt: skip
    assert task.execute_complete(broken, event)["id"] == DECISION["request"]


def kept(task):
    return records_of(task).answer(DECISION["request"])


def test_an_answer_says_who_when_and_why_in_the_ledger_and_for_the_next_task(task):
    found = answered(task)
    assert found == {
        "id": DECISION["request"],
        "answer": "approved",
        "by": "alice",
        "reason": "read twenty answers",
        "answered": "2026-11-28T11:00:00Z",
    }
    assert kept(task).model_dump(mode="json") == found


def test_whoever_does_not_approve_rejects(task):
    assert answered(task, chosen_options=["Reject"])["answer"] == "rejected"


def test_a_task_that_was_killed_after_the_answer_was_kept_finds_it_and_asks_nobody(task, asking):
    app = load_application("asked")
    with DAG("asked_release"):
        first = ApproveRelease(task_id="approve", app=app)
    asking()
    found = answered(first)
    asking.questions.clear()
    assert first.execute(context(first)) == found
    assert asking.questions == []


def test_an_answer_waits_for_storage_that_does_not_take_it(task, monkeypatch, tmp_path):
    answers = tmp_path / "storage" / "banking_assistant" / "ledger" / "answers"
    answers.write_text("in the way of the folder")
    tries = []

    def storage_comes_back(seconds):
        tries.append(seconds)
        if len(tries) == 3:
            answers.unlink()

    monkeypatch.setattr("time.sleep", storage_comes_back)
    found = answered(task)
    assert (found["answer"], found["by"], len(tries)) == ("approved", "alice", 3)
    assert kept(task).reason == "read twenty answers"


def test_people_are_told_again_when_their_answer_was_lost(asking, monkeypatch):
    from nightshift.alerts.outbox import Outbox

    outbox = Outbox(str(asking.records.home.parent), "asked")
    asking()
    answers = asking.records.home / "ledger" / "answers"
    answers.write_text("in the way of the folder")
    monkeypatch.setattr("nightshift.orchestration.approval.KEEP_TRYING", timedelta(0))
    with DAG("asked_release"):
        task = ApproveRelease(task_id="approve", app=load_application("asked"))
    with pytest.raises(OSError, match="answers"):
        answered(task)
    answers.unlink()
    asking(try_number=2)
    titles = [(alert.title, alert.severity) for message in outbox.messages(10) for alert in message.alerts]
    assert titles == [(DECISION["subject"], "warning")] * 2


def test_no_answer_in_time_is_nobodys(task):
    found = answered(task, chosen_options=["Reject"], params_input={}, responded_by_user=None, timedout=True)
    assert (found["answer"], found["by"], found["reason"]) == ("timeout", "", "")


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({}, ""),
        (None, ""),
        ({"why": None}, ""),
        ({"why": 7}, "7"),
        ({"why": ["a", {"b": 1}]}, "['a', {'b': 1}]"),
        ({"unknown": "x"}, ""),
        ({"why": "because", "unknown": "x"}, "because"),
        ({"why": "x" * 5_000}, "x" * 2_000),
        ({"why": "good\n\ud800 and \x00 odd\x1b"}, "good\n⟨U+D800⟩ and ⟨U+0000⟩ odd⟨U+001B⟩"),
        ({"why": {"\ud800": 1}}, "{'\\ud800': 1}"),
    ],
)
def test_a_form_that_airflow_did_not_check_loses_no_answer(task, form, reason):
    answered(task, params_input=form)
    assert (kept(task).answer, kept(task).reason) == ("approved", reason)


def test_a_reason_in_the_form_of_a_release_can_be_written_whatever_it_holds():
    params = {"version": 3, "reason": "half of \ud83d\x00 ", "ask": False}
    form = Form.of({"params": params, "dag_run": SimpleNamespace(triggering_user_name=None, run_id="r")})
    assert form.reason == "half of ⟨U+D83D⟩⟨U+0000⟩"
