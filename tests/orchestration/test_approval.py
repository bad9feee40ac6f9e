"""The task that asks people: whom it asks, about what, and for how long."""

import errno
import json
from datetime import timedelta
from pathlib import Path

import approval_tasks
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, TriggerRule
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from approval_tasks import DECISION, NOW, context, decided

from nightshift.ledger.records import Release
from nightshift.ledger.store import Ledger
from nightshift.orchestration.approval import ApproveRelease, known_users
from nightshift.orchestration.job_task import EnvironmentDown
from nightshift.orchestration.ledger_task import RETRIES
from nightshift.settings.applications import load_application

asking, task = approval_tasks.asking, approval_tasks.task
ROOT = Path(__file__).parents[2]


def test_the_release_goes_on_without_people_and_never_past_a_failed_decision():
    dag = DagBag(ROOT / "dags" / "release.py").dags["banking_assistant_release"]
    approve, promote = dag.get_task("approve"), dag.get_task("promote")
    assert approve.upstream_task_ids == {"release"}
    assert promote.upstream_task_ids == {"release", "approve"}
    # A skipped question is no obstacle, a failed or skipped decision is.
    assert promote.trigger_rule == TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
    assert dag.max_active_runs == 1
    assert list(approve.params) == ["why"]
    assert approve.response_timeout == timedelta(hours=24)


def test_nobody_is_asked_where_the_decision_does_not_say_so(task, asking):
    with pytest.raises(AirflowSkipException, match="no approval needed: it may be luck"):
        task.execute(context(task, ask=False))
    assert asking.questions == []


BROKEN = [
    (None, "not a release decision"),
    ("yes", "not a release decision"),
    ({"ask": True}, "verdict: Field required"),
    ({**DECISION, "verdict": "GOOD"}, "verdict"),
    ({**DECISION, "request": "../../releases/0001"}, "request"),
    ({**DECISION, "request": None}, "fields are missing: request"),
    ({**DECISION, "model_digest": None, "body": ""}, "fields are missing: model_digest, body"),
    ({**DECISION, "model_digest": "n" * 64}, "no decision about version 3"),
    ({**DECISION, "champion_digest": "c" * 64}, "no decision about version 3"),
    ({**DECISION, "verdict": "PASS"}, "no decision about version 3 with verdict PASS"),
    ({**DECISION, "after": 1}, "no decision about version 3"),
]


@pytest.mark.parametrize(("returned", "said"), BROKEN)
def test_nobody_is_asked_about_what_was_not_decided(asking, returned, said):
    with pytest.raises(AirflowFailException, match=said):
        execute_with(returned)
    assert (asking.questions, asking.records.requests()) == ([], {})


def execute_with(returned):
    with DAG("asked_release"):
        task = ApproveRelease(task_id="approve", app=load_application("asked"))
    given = context(task)
    given["ti"].xcom_pull = lambda task_ids: returned
    return task.execute(given)


def test_nobody_is_asked_about_a_decision_that_a_release_has_spent(asking):
    asking.records.create(Release(number=1, ahead=True, model_digest="x" * 64, released=NOW))
    with pytest.raises(AirflowFailException, match="another release came after the decision about version 3"):
        execute_with(DECISION)
    assert (asking.questions, asking.records.requests()) == ([], {})


def test_nobody_is_asked_by_a_request_that_is_about_another_model(asking):
    asking()
    asking.questions.clear()
    decided(asking.records, model_digest="n" * 64)
    with pytest.raises(AirflowFailException, match="is about version 3, but the task release returned another"):
        execute_with({**DECISION, "model_digest": "n" * 64})
    assert asking.questions == []


def test_storage_that_is_down_is_waited_for_as_long_as_by_other_light_tasks(asking, monkeypatch):
    dag = DagBag(ROOT / "dags" / "release.py").dags["asked_release"]
    release, approve = dag.get_task("release"), dag.get_task("approve")
    assert {name: getattr(approve, name) for name in RETRIES} == {name: getattr(release, name) for name in RETRIES}
    assert approve.retries > 20
    with monkeypatch.context() as outage:

        def down(*_):
            raise ConnectionRefusedError(errno.ECONNREFUSED, "storage is down")

        outage.setattr(Ledger, "request", down)
        with pytest.raises(EnvironmentDown, match="storage is down"):
            asking()
    assert asking.questions == []
    asking()
    assert len(asking.questions) == 1


def test_the_approvers_of_the_application_are_asked_and_the_ledger_has_the_request(asking):
    waits = asking()
    (question,) = asking.questions
    assert question["assigned_users"] == [{"id": "alice", "name": "alice"}, {"id": "bob", "name": "bob"}]
    assert (question["options"], question["defaults"]) == (["Approve", "Reject"], ["Reject"])
    assert list(question["params"]) == ["why"]
    assert (question["subject"], question["body"].partition("\n")[0]) == (DECISION["subject"], "**WARN**")
    assert "(http://airflow.test/nightshift/apps/asked)" in question["body"]
    kept = asking.records.request(DECISION["request"])
    assert (kept.version, kept.run_id, kept.asked_by, kept.approvers) == ("3", "manual__1", "eve", ["alice", "bob"])
    assert waits.timeout <= kept.until - kept.asked == timedelta(hours=2)


def test_people_are_told_once_where_they_can_answer(asking):
    from nightshift.alerts.outbox import Outbox

    asking()
    asking()
    (told,) = Outbox(str(asking.records.home.parent), "asked").open()
    assert told.title == DECISION["subject"]
    answer = "http://airflow.test/dags/asked_release/runs/manual__1/tasks/approve/required_actions?map_index=-1"
    assert told.links["Answer"] == answer


def test_a_task_that_is_tried_again_puts_the_same_request_for_what_is_left_of_its_time(asking):
    asking()
    before = asking.records.request(DECISION["request"])
    waits = asking()
    assert asking.records.requests() == {before.id: before}
    assert waits.timeout < timedelta(hours=2)


def test_a_task_that_is_tried_again_after_its_time_asks_for_a_moment_only(asking):
    asking()
    (path,) = asking.records.home.glob("ledger/requests/*.json")
    late = json.loads(path.read_text()) | {"until": "2026-01-01T00:00:00Z"}
    path.write_text(json.dumps(late))
    assert asking().timeout == timedelta(seconds=1)


def test_of_other_auth_managers_a_variable_has_the_ids(asking, monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_USERS", '{"alice": 7, "carol": 8}')
    asking()
    assert asking.questions[0]["assigned_users"] == [{"id": "7", "name": "alice"}]


@pytest.mark.parametrize("users", ['{"carol": 8}', "{}"])
def test_where_no_approver_is_a_user_it_fails_and_asks_neither_nobody_nor_everybody(task, asking, monkeypatch, users):
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_USERS", users)
    with pytest.raises(AirflowFailException, match="nobody can answer for banking_assistant"):
        task._assigned(["alice", "bob"])
    assert asking.questions == []


@pytest.mark.parametrize("users", ["7", "[]", "{", '"alice"'])
def test_a_variable_that_is_no_list_of_users_is_named(monkeypatch, users):
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_USERS", users)
    with pytest.raises(AirflowFailException, match="'nightshift_users' must be a JSON object"):
        known_users()


def test_without_the_variable_only_the_simple_auth_manager_has_names_for_ids(monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW__CORE__AUTH_MANAGER", "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
    )
    with pytest.raises(AirflowFailException, match="`nightshift roles sync` writes it"):
        known_users()


def test_where_nobody_is_named_everybody_whose_role_may_answer_is_asked(task):
    assert task._assigned([]) is None
