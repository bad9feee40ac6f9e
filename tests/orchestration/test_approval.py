"""The task that asks people: whom it asks, for how long, and that no answer is lost or crashes it."""

import errno
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, TriggerRule
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput

from nightshift.ledger.approval import asked_with
from nightshift.ledger.gate_records import record
from nightshift.ledger.records import GateRecord, Release, Request
from nightshift.ledger.store import Ledger
from nightshift.orchestration.approval import ApproveRelease, known_users
from nightshift.orchestration.attempt import storage_uri
from nightshift.orchestration.deciding import RETRIES
from nightshift.orchestration.job_task import EnvironmentDown
from nightshift.orchestration.release import Form
from nightshift.settings.applications import load_application

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 28, 10, 0, tzinfo=UTC)
APP = """\
description: Asked about.
sources:
  - uri: /data/{start:%Y-%m-%d}.jsonl
    columns: {prompt: question, answer: reply}
approval: {required: always, approvers: [alice, bob], timeout_hours: 2, remind_hours: 1}
"""
DECISION = {
    "ask": True, "request": "20261128T100000-aaaa", "version": "3", "model_digest": "m" * 64,
    "evaluation_digest": "e" * 64, "champion_digest": None, "after": 0, "verdict": "WARN", "reasons": ["it may be luck"],
    "subject": "asked: release version 3?", "body": "**WARN**",
}  # fmt: skip


@pytest.fixture
def asking(project, tmp_path, monkeypatch):
    """A function that executes the task for a decision, and the questions that reached Airflow."""
    (project / "apps" / "asked.yaml").write_text(APP)
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", (tmp_path / "storage").as_uri())
    simple = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", simple)
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "alice:user,bob:user,eve:viewer")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.test")
    questions = []
    # What reaches Airflow's database is asked of its supervisor, which only a running task has.
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **given: questions.append(given)
    )

    def execute(try_number=1):
        app = load_application("asked")
        with DAG("asked_release"):
            task = ApproveRelease(task_id="approve", app=app)
        with pytest.raises(TaskAwaitingInput) as waits:
            task.execute(context(task, try_number=try_number))
        return waits.value

    execute.questions = questions
    execute.records = Ledger((tmp_path / "storage").as_uri(), "asked")
    decided(execute.records)
    return execute


def decided(ledger, **changes):
    """Have the ledger say that what DECISION says was decided."""
    about = {
        name: DECISION[name] for name in ("version", "model_digest", "evaluation_digest", "champion_digest", "after")
    }
    said = {name: DECISION[name] for name in ("request", "verdict", "reasons")}
    gate = {
        "application": "asked",
        "evaluation": "memory://e",
        "policy": "p",
        "numbers": {},
        "released": False,
        "by": "gate",
    }
    record(ledger, GateRecord(**{**about, **said, **gate, **changes}, decided=NOW))


def context(task=None, try_number=1, **changes):
    """What Airflow gives a task whose upstream decided."""
    ti = SimpleNamespace(
        id="1", dag_id="asked_release", run_id="manual__1", task_id="approve", map_index=-1, try_number=try_number,
        xcom_pull=lambda task_ids: {**DECISION, **changes},
    )  # fmt: skip
    return {
        "ti": ti, "task_instance": ti, "task": task, "dag_run": SimpleNamespace(triggering_user_name="eve", conf={}),
        "dag": SimpleNamespace(params={}),
    }  # fmt: skip


def answered(task, **event):
    """What the task returns once Airflow resumes it with an answer."""
    given = {
        "chosen_options": ["Approve"],
        "params_input": {"why": "read twenty answers"},
        "responded_at": datetime(2026, 11, 28, 11, 0, tzinfo=UTC),
        "responded_by_user": {"id": "7", "name": "alice"},
        "timedout": False,
    }
    return task.execute_complete(context(task), {**given, **event})


@pytest.fixture
def task(monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTSHIFT_STORAGE", (tmp_path / "storage").as_uri())
    task = ApproveRelease(task_id="approve", app=load_application("banking_assistant"))
    fields = ("version", "model_digest", "evaluation_digest", "champion_digest", "after", "verdict", "subject")
    about = {name: DECISION[name] for name in fields}
    place = {"dag_id": "asked_release", "run_id": "manual__1", "task_id": "approve"}
    asked_with(
        records_of(task), Request(id=DECISION["request"], **about, **place, asked=NOW, until=NOW + timedelta(hours=2))
    )
    return task


def records_of(task):
    return Ledger(storage_uri(), task.application)


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
    with pytest.raises(AirflowSkipException, match="nobody is asked: it may be luck"):
        task.execute(context(task, ask=False))
    assert asking.questions == []


BROKEN = [
    (None, "no decision about a release"),
    ("yes", "no decision about a release"),
    ({"ask": True}, "verdict: Field required"),
    ({**DECISION, "verdict": "GOOD"}, "verdict"),
    ({**DECISION, "request": "../../releases/0001"}, "request"),
    ({**DECISION, "request": None}, "it lacks request"),
    ({**DECISION, "model_digest": None, "body": ""}, "it lacks model_digest, body"),
    ({**DECISION, "model_digest": "n" * 64}, "no decision to ask people about version 3"),
    ({**DECISION, "champion_digest": "c" * 64}, "no decision to ask people about version 3"),
    ({**DECISION, "verdict": "PASS"}, "no decision to ask people about version 3 whose verdict is PASS"),
    ({**DECISION, "after": 1}, "no decision to ask people"),
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
    with pytest.raises(AirflowFailException, match="is about version 3, and not what the task release says"):
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


def test_an_answer_is_that_of_the_runs_own_request_whatever_became_of_the_decision(task):
    broken = context(task)
    broken["ti"].xcom_pull = lambda task_ids: None
    event = {
        "chosen_options": ["Approve"], "params_input": {}, "responded_at": NOW, "timedout": False,
        "responded_by_user": {"id": "7", "name": "alice"},
    }  # fmt: skip
    assert task.execute_complete(broken, event)["id"] == DECISION["request"]


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
