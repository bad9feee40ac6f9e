"""A release is taken back: within one run, whatever a gate says, with a name and a reason, once."""

import pytest
from airflow.sdk.exceptions import AirflowFailException
from release_tasks import registered
from retraining_tasks import context

from nightshift.jobs import register
from nightshift.ledger.store import Ledger
from nightshift.orchestration import promote, rollback
from nightshift.registry.rest import Mlflow

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shown")]


def take_back(app, reason="users complain", version=None, run_id="back", by="olga"):
    """Both tasks of a run of the rollback DAG."""
    given = context(run_id, user=by, params={"reason": reason, "version": version})
    decided = rollback.rollback.function(app.name, **given)
    return promote.promote.function(app.name, decided, **context(run_id, params={}))


@pytest.fixture
def two_releases(judged, progress):
    """An application with two champions, one after the other, where people are asked about every release by now."""
    app = registered(judged(seed=1), progress)
    app.run()
    register.run(judged(seed=2), progress)
    app.run()
    assert app.released == ["1", "2"]
    app.require("always")
    return app


def test_the_champion_before_comes_back_at_once_with_a_name_and_a_reason_and_nobody_is_asked(two_releases):
    moved = take_back(two_releases)
    assert (moved["version"], moved["replaced"]) == ("1", "2")
    assert (two_releases.champion, two_releases.released) == ("1", ["1", "2", "1"])
    kept = two_releases.gate_records()[-1]
    assert (kept.person, kept.by, kept.released) == ("olga", "users complain", True)
    assert kept.reasons == ["version 2 was taken back; version 1 was the champion before"]
    assert two_releases.tags("2")["release"] == "rolled back"
    decision = two_releases.decide()
    assert not decision.released
    assert "version 2 was the champion before" in decision.reasons[0]


@pytest.mark.parametrize(
    "killed_at", [(Ledger, "create"), (Mlflow, "set_tags"), (Mlflow, "set_alias")], ids=["kept", "tag", "alias"]
)
def test_a_killed_or_cleared_rollback_goes_on(two_releases, monkeypatch, killed_at):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as kill:
        kill.setattr(*killed_at, killed)
        with pytest.raises(KeyboardInterrupt):
            take_back(two_releases)
    for _ in range(3):  # and does not swing back
        take_back(two_releases)
    assert (two_releases.champion, two_releases.released) == ("1", ["1", "2", "1"])


def test_what_was_never_a_champion_does_not_become_one_by_a_rollback(two_releases, judged, progress):
    register.run(judged(seed=3), progress)
    with pytest.raises(AirflowFailException, match=r"version 3 is not an earlier champion .*\(known: 1\)"):
        take_back(two_releases, version=3)
    with pytest.raises(AirflowFailException, match="version 2 is not an earlier champion"):
        take_back(two_releases, version=2)
    assert two_releases.champion == "2"


def test_the_first_champion_cannot_be_taken_back(judged, progress):
    app = registered(judged(), progress)
    with pytest.raises(AirflowFailException, match="has no champion"):
        take_back(app)
    app.run()
    with pytest.raises(AirflowFailException, match="version 1 is the first champion"):
        take_back(app)
    assert app.champion == "1"


def test_a_release_that_is_half_carried_out_is_finished_before_it_is_taken_back(judged, progress, monkeypatch):
    app = registered(judged(seed=1), progress)
    app.run()
    register.run(judged(seed=2), progress)
    with monkeypatch.context() as kill:
        kill.setattr(Mlflow, "set_alias", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            app.run()
    with pytest.raises(AirflowFailException, match="version 2 was released as number 2, and the alias has not moved"):
        take_back(app)
    app.run()
    assert take_back(app)["version"] == "1"
