"""From a registered candidate to the champion, against a real MLflow server: decided once, moved once, never by itself."""

import pytest
from airflow.sdk.exceptions import AirflowFailException
from release_tasks import registered
from upath import UPath

from nightshift.jobs import register
from nightshift.ledger.store import Ledger
from nightshift.orchestration.job_task import EnvironmentDown
from nightshift.registry import models
from nightshift.registry.rest import Mlflow
from nightshift.registry.versions import CHAMPION
from nightshift.verdict import Verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shown")]


def test_the_first_candidate_that_passes_becomes_champion_through_a_release_alone(judged, progress):
    app = registered(judged(), progress)
    assert app.champion is None
    decision, moved = app.run()
    assert (decision.verdict, decision.released, moved["version"]) == (Verdict.PASS, True, "1")
    assert app.champion == "1"
    (kept,) = app.gate_records()
    assert kept.numbers["examples"] == 20
    assert app.released == ["1"]


def test_a_released_candidate_is_not_released_again(judged, progress):
    app = registered(judged(), progress)
    app.run()
    before = app.ledger.releases()
    decision, moved = app.run()
    assert (decision.verdict, decision.reasons) == (Verdict.INSUFFICIENT_DATA, ["version 1 is the champion already"])
    assert moved["version"] is None
    assert app.ledger.releases() == before


def test_a_candidate_that_fails_its_gate_is_held_and_no_reason_helps(judged, progress, tiny_models):
    app = registered(judged(folder=tiny_models.random, min_score=0.5), progress)
    decision, moved = app.run(reason="the board wants it")
    assert (decision.verdict, decision.released, moved["version"]) == (Verdict.FAIL, False, None)
    assert app.champion is None


def test_a_doubtful_candidate_waits_until_a_person_says_why(judged, progress):
    # Right on half of 20 examples: the score is above the bound, but its interval is not.
    app = registered(judged(other_answers=2, min_score=0.35), progress)
    for no_reason in (None, "  \n"):
        held, _ = app.run(reason=no_reason)
        assert (held.verdict, held.released, app.champion) == (Verdict.WARN, False, None)
    by_person, _ = app.run(reason="reviewed twenty answers")
    assert (by_person.released, app.champion) == (True, "1")
    assert [entry.by for entry in app.gate_records()] == ["gate", "reviewed twenty answers"]


def test_a_candidate_judged_against_an_earlier_champion_is_not_released(judged, progress):
    one, other = judged(seed=1), judged(seed=2)
    register.run(one, progress)
    app = registered(other, progress)
    app.run(version=1)
    decision, _ = app.run(version=2)
    assert decision.verdict is Verdict.INSUFFICIENT_DATA
    assert "was not evaluated against version 1" in decision.reasons[0]
    assert app.champion == "1"


def killed(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("killed_at", "written"),
    [((Ledger, "create"), 0), ((Mlflow, "set_alias"), 1), ((Mlflow, "set_tags"), 1)],
    ids=["unwritten", "unmoved", "moved"],
)
def test_a_release_that_was_killed_goes_on(judged, progress, monkeypatch, killed_at, written):
    app = registered(judged(), progress)
    decision = app.decide()
    with monkeypatch.context() as kill:
        kill.setattr(*killed_at, killed)
        with pytest.raises(KeyboardInterrupt):
            app.promote(decision)
    assert (app.champion, len(app.released)) == ("1" if killed_at[1] == "set_tags" else None, written)
    assert app.promote(decision)["verdict"] == Verdict.PASS
    assert app.promote(decision)["verdict"] == Verdict.PASS, "the task is cleared"
    assert (app.champion, app.released) == ("1", ["1"])


def test_a_release_whose_run_is_gone_is_carried_out_by_the_next_run(judged, progress, monkeypatch):
    app = registered(judged(), progress)
    with monkeypatch.context() as kill:
        kill.setattr(Mlflow, "set_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            app.run()
    decision, moved = app.run()
    assert "was released as number 1; that is carried out now" in decision.reasons[0]
    assert (moved["version"], app.champion, app.released) == ("1", "1", ["1"])


def test_a_release_that_was_written_down_is_carried_out_before_a_newer_candidate_is_looked_at(
    judged, progress, monkeypatch
):
    app = registered(judged(seed=1), progress)
    with monkeypatch.context() as kill:
        kill.setattr(Mlflow, "set_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            app.run()
    register.run(judged(seed=2), progress)
    decision, moved = app.run()
    assert "version 1 was released as number 1; that is carried out now" in decision.reasons[0]
    assert (moved["version"], app.champion, app.released) == ("1", "1", ["1"])


def test_an_alias_that_a_person_moved_is_left_alone(judged, progress):
    first, second = judged(seed=1), judged(seed=2)
    app = registered(first, progress)
    stale, _ = app.run()
    register.run(second, progress)
    models.set_alias(models.version_of(app.name, "2"), CHAMPION)
    with pytest.raises(AirflowFailException, match="another champion"):
        app.promote(stale)
    assert app.champion == "2"


def test_an_earlier_champion_comes_back_for_a_reason_and_stays(judged, progress):
    first, second = judged(seed=1), judged(seed=2)
    app = registered(first, progress)
    app.run()
    register.run(second, progress)
    app.run()
    assert app.champion == "1"  # the second was judged against no champion
    (one,) = app.ledger.releases()
    second_digest = {"model_digest": second.model_digest, "version": "2"}
    # As if the second had been the champion before the first.
    UPath(app.storage).joinpath(app.name, "ledger", "releases", "0001.json").unlink()
    app.ledger.create(one.model_copy(update=second_digest))
    app.ledger.create(one.model_copy(update={"number": 2, "ahead": False}))
    decision, moved = app.run(version=2, reason="the first is rude")
    assert (decision.released, moved["version"], app.champion) == (True, "2", "2")
    again, _ = app.run(version=1)
    assert "was the champion before" in again.reasons[0]
    assert app.champion == "2"


@pytest.fixture
def doubtful(judged, progress):
    """Two candidates of which each needs a reason, the first in use, the second judged against it."""
    app = registered(judged(seed=1, other_answers=2, min_score=0.35), progress)
    app.run(reason="the first there is", by="alice", run_id="run 0")
    assert app.champion == "1"
    register.run(judged(seed=2, other_answers=2, min_score=0.35), progress)
    return app


def test_each_release_by_a_reason_is_its_givers(doubtful):
    doubtful.run(reason="reviewed", by="alice", run_id="run 1")
    assert doubtful.champion == "2"
    doubtful.run(version=1, reason="the second is rude", by="carol", run_id="run 2")
    assert doubtful.champion == "1"
    old, _ = doubtful.run(version=2, reason="not that rude", by="bob", run_id="run 3")
    assert (old.released, doubtful.champion) == (True, "2")
    doubtful.run(version=1, reason="the second is rude", by="carol", run_id="run 4")
    assert doubtful.champion == "1"
    people = [(kept.person, kept.by) for kept in doubtful.gate_records() if kept.person]
    carol = ("carol", "the second is rude")
    assert people[1:] == [("alice", "reviewed"), carol, ("bob", "not that rude"), carol]


def test_a_reason_counts_once(doubtful):
    reason = {"version": 2, "reason": "reviewed", "by": "alice", "run_id": "run 1"}
    doubtful.run(**reason)
    doubtful.run(version=1, reason="the second is rude", by="carol", run_id="run 2")
    # Somebody clears the first run, from its beginning.
    with pytest.raises(AirflowFailException, match=r"no release of version 2 .* that still counts"):
        doubtful.run(**reason)
    assert doubtful.champion == "1"


def test_a_reason_is_one_decision_however_often_its_task_is_tried(doubtful):
    reason = {"reason": "reviewed", "by": "alice", "run_id": "run 1"}
    assert doubtful.decide(**reason) == doubtful.decide(**reason)
    people = [kept.person for kept in doubtful.gate_records() if kept.person]
    assert people == ["alice", "alice"]  # that of the fixture, and this one


def test_the_gate_decides_anew_after_another_release(judged, progress):
    """What it decided before was never carried out, and is about a champion that has gone and come back since."""
    app = registered(judged(), progress)
    app.run()
    for seed in (2, 3):
        register.run(judged(seed=seed), progress)
    assert app.decide(version=2).released
    app.run(version=3)
    app.run(version=1, reason="the third is rude")
    assert app.champion == "1"
    app.run(version=2)
    assert app.champion == "2"


def test_a_version_that_does_not_exist_is_named(judged, progress):
    app = registered(judged(), progress)
    with pytest.raises(AirflowFailException, match="has no version 7"):
        app.run(version=7)


def test_while_mlflow_is_down_both_tasks_are_tried_again(judged, progress, monkeypatch):
    app = registered(judged(), progress)
    decision = app.decide()
    with monkeypatch.context() as down:
        down.setenv("AIRFLOW_CONN_NIGHTSHIFT_MLFLOW", "http://127.0.0.1:9")
        with pytest.raises(EnvironmentDown, match="does not answer"):
            app.decide()
        with pytest.raises(EnvironmentDown, match="does not answer"):
            app.promote(decision)
    assert app.promote(decision)["version"] == "1"
