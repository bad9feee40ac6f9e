"""A release that people decide about, against a real MLflow server: asked once, answered once, and written down everywhere."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException
from mlflow import MlflowClient
from release_tasks import NOW, Releases, registered
from upath import UPath

from nightshift.evaluation.score_file import SCORES
from nightshift.jobs import register
from nightshift.ledger.approval import keep_answer
from nightshift.ledger.pod_accounts import PodUsage, usage_address
from nightshift.ledger.records import Answer, Claim, Decision, Order
from nightshift.registry import models
from nightshift.registry.rest import Mlflow
from nightshift.registry.versions import CHAMPION
from nightshift.storage.manifest import MANIFEST, require_manifest
from nightshift.verdict import Verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shown")]
ALICE = {"by": "alice", "reason": "read twenty answers", "answered": NOW}


@pytest.fixture
def desk(judged, progress):
    return registered(judged(), progress, "always")


def test_a_candidate_that_passes_waits_for_a_person_who_is_named_wherever_the_release_is(desk):
    decision = desk.ask()
    assert (decision.verdict, decision.ask, decision.released) == (Verdict.PASS, True, False)
    assert desk.tags("1")["release"] == "asked"
    moved = desk.promote(decision, "approved", **ALICE)
    assert (moved["verdict"], moved["version"], desk.champion) == ("PASS", "1", "1")
    answer = desk.ledger.answer(decision.request)
    assert (answer.answer, answer.by, answer.reason, answer.answered) == ("approved", *ALICE.values())
    kept = {record.person: record for record in desk.gate_records()}
    gate, person = kept[None], kept["alice"]
    assert (gate.released, gate.by) == (False, "gate")
    assert (person.released, person.by) == (True, ALICE["reason"])
    assert (person.request, person.numbers) == (decision.request, gate.numbers)
    tags = desk.tags("1")
    assert tags["release"] == "released"
    assert (tags["approval"], tags["approval_by"], tags["approval_reason"]) == ("approved", "alice", ALICE["reason"])
    assert tags["approval_at"] == "2026-11-28T10:00:00+00:00"


def test_the_request_shows_the_candidate_as_it_was_judged(desk):
    decision = desk.ask()
    assert decision.subject == f"{desk.name}: release version 1 as the first champion? The gate says PASS"
    assert "| exact match | 0.0 \\[0.0, 0.0\\] | 100.0 \\[100.0, 100.0\\] |" in decision.body
    assert "where is card number" in decision.body
    assert "Trained without an order of the ledger" in decision.body
    assert "Nothing is known about its training." in decision.body
    assert f"/#/models/{desk.name}/versions/1)" in decision.body
    assert "/artifacts/report.html)" in decision.body


def test_a_rejected_candidate_is_not_asked_about_again_until_somebody_names_it(desk):
    decision = desk.ask()
    held = desk.promote(decision, "rejected", **{**ALICE, "reason": "it is rude"})
    assert (held["version"], desk.champion) == (None, None)
    assert "alice rejected it on 2026-11-28 10:00 UTC: it is rude" in held["reasons"][0]
    assert desk.tags("1")["approval"] == "rejected"
    next_day = desk.ask()
    assert (next_day.ask, next_day.released, next_day.request) == (False, False, None)
    assert "it is rude" in next_day.reasons[-1]
    assert desk.promote(next_day)["version"] is None
    again = desk.ask(version=1)
    assert again.ask
    later = {**ALICE, "answered": NOW + timedelta(hours=1)}
    assert desk.promote(again, "approved", **later)["version"] == "1"
    assert [record.released for record in desk.gate_records() if record.person] == [True]


def test_a_no_stays_a_no_when_people_are_not_asked_any_more(desk):
    desk.promote(desk.ask(), "rejected", **ALICE)
    desk.require("never")
    assert not desk.ask().released
    assert desk.champion is None


def test_no_answer_in_time_leaves_everything_as_it_is(desk):
    decision = desk.ask()
    held = desk.promote(decision, "timeout", answered=NOW)
    assert (held["version"], desk.champion) == (None, None)
    assert "nobody answered until 2026-11-28 10:00 UTC" in held["reasons"][0]
    assert (desk.tags("1")["approval"], desk.tags("1")["approval_by"]) == ("timeout", "nobody")
    assert not desk.ask().ask


def test_a_new_candidate_is_asked_about_although_the_one_before_was_rejected(desk, judged, progress):
    desk.promote(desk.ask(), "rejected", **ALICE)
    register.run(judged(seed=2), progress)
    assert (desk.ask().ask, desk.ask().version) == (True, "2")


def test_a_reason_in_the_form_does_not_stand_in_for_the_approvers(desk):
    decision = desk.ask(version=1, reason="I want it now", by="operator")
    assert (decision.ask, decision.released) == (True, False)
    assert "` operator ` started this run and wrote: I want it now" in decision.body
    assert desk.promote(decision)["version"] is None
    assert desk.champion is None


def test_an_approval_task_that_somebody_only_marked_as_done_releases_nothing(desk):
    decision = desk.ask()
    desk.promote(decision)
    assert desk.champion is None
    assert desk.ledger.answer(decision.request).answer == "withdrawn"
    assert desk.ask().ask


def test_a_request_whose_run_was_ended_is_withdrawn_and_asked_again(desk):
    first = desk.ask()
    second = desk.ask(ask=True)
    assert second.ask
    assert desk.ledger.answer(first.request).answer == "withdrawn"
    late = desk.promote(first, "approved", **ALICE)
    assert (late["version"], desk.champion) == (None, None)


def killed(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("killed_at", ["set_tags", "set_alias"])
def test_after_an_answer_a_kill_costs_nothing(desk, monkeypatch, killed_at):
    decision = desk.ask()
    with monkeypatch.context() as kill:
        kill.setattr(Mlflow, killed_at, killed)
        with pytest.raises(KeyboardInterrupt):
            desk.promote(decision, "approved", **ALICE)
    assert desk.champion is None
    # Whatever a second task says, the first answer counts; here it even says the opposite.
    assert desk.promote(decision, "rejected", by="mallory", answered=NOW)["version"] == "1"
    assert (desk.champion, desk.tags("1")["approval_by"]) == ("1", "alice")
    people = [record.person for record in desk.gate_records() if record.person]
    assert (people, desk.released) == (["alice"], ["1"])


def test_an_approval_whose_run_died_before_the_alias_moved_is_carried_out_by_the_next_run(desk, monkeypatch):
    decision = desk.ask()
    with monkeypatch.context() as kill:
        kill.setattr(Mlflow, "set_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            desk.promote(decision, "approved", **ALICE)
    next_day = desk.ask()
    assert (next_day.ask, next_day.released) == (False, True)
    assert "was released as number 1; that is carried out now" in next_day.reasons[0]
    assert desk.promote(next_day)["version"] == "1"
    assert desk.champion == "1"


def test_the_answer_is_a_run_in_mlflow_in_which_what_was_written_is_text(desk):
    hostile = "<img src=x onerror=alert(1)> [click](http://evil.test)"
    decision = desk.ask()
    desk.promote(decision, "rejected", by="alice", reason=hostile, answered=NOW)
    client = MlflowClient()
    experiment = client.get_experiment_by_name(desk.name).experiment_id
    (run,) = client.search_runs([experiment], f"tags.`nightshift.request` = '{decision.request}'")
    note = run.data.tags["mlflow.note.content"]
    assert "\\<img src=x onerror=alert\\(1\\)\\> \\[click\\]" in note
    assert (run.data.tags["nightshift.answer"], run.data.tags["nightshift.by"]) == ("rejected", "alice")


def mirrored(desk):
    """The answers that MLflow shows, by their requests."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name(desk.name).experiment_id
    found = client.search_runs([experiment], "tags.`nightshift.job` = 'approval'")
    return {run.data.tags["nightshift.request"]: run.data.tags["nightshift.answer"] for run in found}


def test_a_question_that_was_withdrawn_is_shown_in_mlflow(desk):
    first = desk.ask()
    desk.ask(ask=True)
    assert mirrored(desk) == {first.request: "withdrawn"}
    assert desk.tags("1")["approval"] == "withdrawn"


@pytest.mark.parametrize("answer", ["rejected", "timeout"])
def test_a_no_that_mlflow_missed_is_sent_later(desk, monkeypatch, answer):
    decision = desk.ask()
    with monkeypatch.context() as kill:
        kill.setattr(Mlflow, "set_tags", killed)
        with pytest.raises(KeyboardInterrupt):
            desk.promote(decision, answer, **ALICE)
    assert "approval" not in desk.tags("1")
    desk.ask()
    assert mirrored(desk) == {decision.request: answer}
    assert (desk.tags("1")["approval"], desk.tags("1")["approval_by"]) == (answer, "alice")


@pytest.fixture
def replaced(judged, progress):
    """Version 1 is in use again after version 2, which people had approved in its place; and what they had approved."""
    desk = registered(judged(seed=1), progress, "always")
    desk.promote(desk.ask(), "approved", **yes())
    register.run(judged(seed=2), progress)
    spent = desk.ask()
    desk.promote(spent, "approved", **yes())
    assert desk.champion == "2"
    desk.promote(desk.ask(version=1, reason="the second is rude"), "approved", **yes())
    assert desk.champion == "1"
    return desk, spent


def yes():
    return {"by": "alice", "reason": "read twenty answers", "answered": datetime.now(UTC)}


@pytest.mark.parametrize("forged", [{}, {"request": None, "ask": False, "released": True}], ids=["cleared", "forged"])
def test_a_spent_approval_brings_nothing_back(replaced, forged):
    """Who may clear a task of an old run, or write what it returned, is none who may approve."""
    desk, spent = replaced
    tags = desk.tags("1")
    with pytest.raises(AirflowFailException, match=r"no release of version 2 .* that still counts"):
        desk.promote(spent.model_copy(update=forged))
    assert (desk.champion, desk.tags("1")) == ("1", tags)
    assert desk.released == ["1", "2", "1"]


def test_people_who_approve_the_same_version_again_release_it_again(replaced):
    desk, _ = replaced
    assert not desk.ask().released, "it came back by itself"
    again = desk.ask(version=2, reason="it was not that rude")
    assert again.ask
    assert desk.promote(again, "approved", **yes())["version"] == "2"
    assert desk.champion == "2"


def test_an_approval_does_not_outlive_the_release_after_it_although_it_was_never_carried_out(desk, judged, progress):
    """Somebody moved the alias by hand, so nothing else says that the approval was carried out."""
    desk.promote(desk.ask(), "approved", **yes())
    register.run(judged(seed=2), progress)
    spent = desk.ask()
    keep_answer(desk.ledger, Answer(id=spent.request, answer="approved", **yes()))
    models.set_alias(models.version_of(desk.name, "2"), CHAMPION)
    desk.promote(desk.ask(version=1, reason="the second is rude"), "approved", **yes())
    assert desk.ask().ask, "the next run carried the approval out again"
    with pytest.raises(AirflowFailException, match=r"no release of version 2 .* that still counts"):
        desk.promote(spent)
    assert desk.champion == "1"


def test_a_no_ends_an_approval_that_was_not_carried_out(desk):
    before = desk.ask()
    keep_answer(desk.ledger, Answer(id=before.request, answer="approved", **yes()))
    asked_again = desk.ask(version=1)
    desk.promote(asked_again, "rejected", **yes())
    with pytest.raises(AirflowFailException, match="no release of version 1"):
        desk.promote(before)
    assert desk.champion is None


def test_a_result_that_somebody_wrote_into_airflow_moves_nothing(desk):
    """Who may run DAGs may also write what tasks return; the ledger he cannot write."""
    decision = desk.ask()
    forged = decision.model_copy(update={"released": True, "ask": False, "request": None})
    with pytest.raises(AirflowFailException, match="no release of version 1"):
        desk.promote(forged)
    assert desk.champion is None


def test_an_approval_of_another_model_moves_nothing(desk, judged, progress):
    decision = desk.ask()
    register.run(judged(seed=2), progress)
    other = models.version_of(desk.name, "2")
    forged = decision.model_copy(update={"version": "2", "model_digest": other.digest})
    with pytest.raises(AirflowFailException, match="is not about version 2"):
        desk.promote(forged, "approved", **ALICE)
    assert desk.champion is None


def test_a_doubtful_candidate_is_put_to_people_and_one_that_passes_is_not(judged, progress):
    doubtful = registered(judged(other_answers=2, min_score=0.35), progress, "warn")
    decision = doubtful.ask()
    assert (decision.verdict, decision.ask) == (Verdict.WARN, True)
    assert doubtful.promote(decision, "approved", **ALICE)["version"] == "1"


def test_the_request_names_the_retraining_its_nights_and_what_its_pods_cost(judged, progress):
    spec = judged()
    desk = Releases(spec, "always")
    decision = Decision(id="d", action="retrain", code="tripped", reason="2 of 3 nights failed", order=1, decided=NOW)
    claimed = datetime.now(UTC)
    desk.ledger.create(Order(number=1, decision=decision, created=NOW))
    desk.ledger.create(Claim(number=1, dag_id=f"{desk.name}_finetune", run_id="run", claimed=claimed))
    pod = PodUsage(
        pod="train-0", uid="0123456789", job="train", dag_id=f"{desk.name}_finetune", run_id="run", task_id="train",
        started=claimed - timedelta(hours=2), ended=claimed, gpus=4, price_per_hour=10,
    )  # fmt: skip
    place = usage_address(UPath(desk.storage), desk.name, pod)
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(pod.model_dump(mode="json")))
    trained = {"fitted": {"seconds": 4_500.0, "processes": 2}}
    manifest = require_manifest(UPath(spec.model)).model_copy(update={"facts": trained})
    (UPath(spec.model) / MANIFEST).write_text(manifest.model_dump_json())
    register.run(spec.model_copy(update={"order": 1}), progress)
    body = desk.ask().body
    assert "Retraining 1 of 2026-11-28 10:00 UTC: 2 of 3 nights failed" in body
    assert "2.50 hours of training in 2 processes; its pods used 8.00 GPU-hours and cost 20.00" in body


def test_a_candidate_that_an_earlier_version_judged_is_asked_about_without_examples(desk):
    tags = desk.tags("1")
    partition = UPath(tags["evaluation"])
    manifest = require_manifest(partition)
    path = partition / manifest.file(SCORES).path
    content = json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "examples"})
    path.write_text(content)
    earlier = [
        file.model_copy(update={"sha256": hashlib.sha256(content.encode()).hexdigest()})
        if file.name == SCORES
        else file
        for file in manifest.files
    ]
    manifest = manifest.model_copy(update={"files": earlier})
    (partition / MANIFEST).write_text(manifest.model_dump_json())
    client = MlflowClient()
    client.set_model_version_tag(desk.name, "1", "nightshift.evaluation_digest", manifest.digest)
    body = desk.ask().body
    assert "judged by an earlier version, which kept none for this page" in body
    assert "| exact match | 0.0 \\[0.0, 0.0\\] | 100.0 \\[100.0, 100.0\\] |" in body


def test_a_result_that_is_no_decision_is_refused_and_opens_no_file(desk):
    decision = desk.ask()
    forged = decision.model_copy(update={"request": "../../other/ledger/requests/1"})
    with pytest.raises(AirflowFailException, match="not a release decision"):
        desk.promote(forged)
