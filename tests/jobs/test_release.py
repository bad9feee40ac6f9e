"""From a registered candidate to the champion, against a real MLflow server: decided once, moved once, never by itself."""

import pytest
from upath import UPath

from nightshift.errors import BadInput
from nightshift.jobs import promote, register, release
from nightshift.ledger.store import Ledger
from nightshift.registry import models, versions
from nightshift.registry.models import with_alias
from nightshift.registry.versions import CHAMPION
from nightshift.verdict import Verdict

pytestmark = pytest.mark.slow
PASSED_ON = {"released", "version", "model_digest", "champion_digest", "request"}


def released(spec, progress, **given):
    """What `release` answers, and what `promote` makes of it."""
    common = {"application": spec.application, "storage": spec.storage}
    decision = release.run(release.Spec(**common, **given), progress)
    return decision, promote.run(promote.Spec(**common, **decision.model_dump(include=PASSED_ON)), progress)


def champion(spec):
    found = with_alias(spec.application.name, CHAMPION)
    return found.version if found else None


def test_the_first_candidate_that_passes_becomes_champion_through_a_release_alone(judged, progress):
    spec = judged()
    register.run(spec, progress)
    assert champion(spec) is None
    decision, moved = released(spec, progress)
    assert (decision.verdict, decision.released, moved.version) == (Verdict.PASS, True, "1")
    assert champion(spec) == "1"
    (kept,) = Ledger(spec.storage, spec.application.name).gate_records()
    assert kept.numbers["examples"] == 20
    assert [entry.version for entry in Ledger(spec.storage, spec.application.name).releases()] == ["1"]


def test_a_released_candidate_is_not_released_again(judged, progress):
    spec = judged()
    register.run(spec, progress)
    released(spec, progress)
    before = Ledger(spec.storage, spec.application.name).releases()
    decision, moved = released(spec, progress)
    assert (decision.verdict, decision.reasons) == (Verdict.INSUFFICIENT_DATA, ["version 1 is the champion already"])
    assert moved.verdict is Verdict.INSUFFICIENT_DATA
    assert Ledger(spec.storage, spec.application.name).releases() == before


def test_a_candidate_that_fails_its_gate_is_held_and_no_reason_helps(judged, progress, tiny_models):
    spec = judged(folder=tiny_models.random, min_score=0.5)
    register.run(spec, progress)
    decision, moved = released(spec, progress, reason="the board wants it")
    assert (decision.verdict, decision.released, moved.verdict) == (Verdict.FAIL, False, Verdict.INSUFFICIENT_DATA)
    assert champion(spec) is None


def test_a_doubtful_candidate_waits_until_a_person_says_why(judged, progress):
    # Right on half of 20 examples: the score is above the bound, but its interval is not.
    spec = judged(other_answers=2, min_score=0.35)
    register.run(spec, progress)
    held, _ = released(spec, progress)
    assert (held.verdict, held.released, champion(spec)) == (Verdict.WARN, False, None)
    by_person, _ = released(spec, progress, reason="reviewed twenty answers by hand")
    assert (by_person.released, champion(spec)) == (True, "1")
    assert [entry.by for entry in Ledger(spec.storage, spec.application.name).gate_records()] == [
        "gate",
        "reviewed twenty answers by hand",
    ]


def test_a_candidate_judged_against_an_earlier_champion_is_not_released(judged, progress):
    one, other = judged(seed=1), judged(seed=2)
    register.run(one, progress)
    register.run(other, progress)
    released(one, progress, version=1)
    decision, _ = released(other, progress, version=2)
    assert decision.verdict is Verdict.INSUFFICIENT_DATA
    assert "was not judged against version 1" in decision.reasons[0]
    assert champion(one) == "1"


@pytest.mark.parametrize(
    ("killed_at", "written"),
    [((Ledger, "create"), 0), ((models, "set_alias"), 1), ((models, "set_tags"), 1)],
    ids=["unwritten", "unmoved", "moved"],
)
def test_a_release_that_was_killed_goes_on(judged, progress, monkeypatch, killed_at, written):
    spec = judged()
    register.run(spec, progress)
    common = {"application": spec.application, "storage": spec.storage}
    decision = release.run(release.Spec(**common), progress)
    wanted = promote.Spec(**common, **decision.model_dump(include={"released", "version", "model_digest"}))
    with monkeypatch.context() as kill:
        kill.setattr(*killed_at, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            promote.run(wanted, progress)
    ledger = Ledger(spec.storage, spec.application.name)
    assert (champion(spec), len(ledger.releases())) == ("1" if killed_at[1] == "set_tags" else None, written)
    assert promote.run(wanted, progress).verdict is Verdict.PASS
    assert promote.run(wanted, progress).verdict is Verdict.PASS, "the task is cleared"
    assert (champion(spec), len(ledger.releases())) == ("1", 1)


def test_a_release_whose_run_is_gone_is_carried_out_by_the_next_run(judged, progress, monkeypatch):
    spec = judged()
    register.run(spec, progress)
    with monkeypatch.context() as kill:
        kill.setattr(models, "set_alias", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            released(spec, progress)
    decision, moved = released(spec, progress)
    assert "was released as number 1; that is carried out now" in decision.reasons[0]
    assert (moved.version, champion(spec), len(Ledger(spec.storage, spec.application.name).releases())) == ("1", "1", 1)


def test_an_alias_that_a_person_moved_is_left_alone(judged, progress):
    first, second = judged(seed=1), judged(seed=2)
    register.run(first, progress)
    decision, _ = released(first, progress)
    register.run(second, progress)
    models.set_alias(models.version_of(first.application.name, "2"), versions.CHAMPION)
    common = {"application": first.application, "storage": first.storage}
    stale = promote.Spec(**common, **decision.model_dump(include={"released", "version", "model_digest"}))
    with pytest.raises(BadInput, match="another champion"):
        promote.run(stale, progress)
    assert champion(first) == "2"


def test_an_earlier_champion_comes_back_for_a_reason_and_stays(judged, progress):
    first, second = judged(seed=1), judged(seed=2)
    for spec in (first, second):
        register.run(spec, progress)
        released(spec, progress)
    assert champion(first) == "1"  # the second was judged against no champion
    back = {"version": 2, "reason": "the first is rude"}
    ledger = Ledger(first.storage, first.application.name)
    (one,) = ledger.releases()
    second_digest = {"model_digest": second.model_digest, "version": "2"}
    # As if the second had been the champion before the first.
    UPath(first.storage).joinpath(first.application.name, "ledger", "releases", "0001.json").unlink()
    ledger.create(one.model_copy(update=second_digest))
    ledger.create(one.model_copy(update={"number": 2, "ahead": False}))
    decision, moved = released(first, progress, **back)
    assert (decision.released, moved.version, champion(first)) == (True, "2", "2")
    again, _ = released(first, progress, version=1)
    assert "was the champion before" in again.reasons[0]
    assert champion(first) == "2"


@pytest.fixture
def doubtful(judged, progress):
    """Two candidates of which each needs a reason, the first in use, the second judged against it."""
    specs = []
    for seed in (1, 2):
        specs.append(judged(seed=seed, other_answers=2, min_score=0.35))
        register.run(specs[-1], progress)
        if seed == 1:
            released(specs[-1], progress, reason="the first there is", by="alice", run_id="run 0")
    assert champion(specs[0]) == "1"
    return specs[1]


def test_each_release_by_a_reason_is_its_givers(doubtful, progress):
    released(doubtful, progress, reason="reviewed", by="alice", run_id="run 1")
    assert champion(doubtful) == "2"
    released(doubtful, progress, version=1, reason="the second is rude", by="carol", run_id="run 2")
    assert champion(doubtful) == "1"
    old, _ = released(doubtful, progress, version=2, reason="not that rude", by="bob", run_id="run 3")
    assert (old.released, champion(doubtful)) == (True, "2")
    released(doubtful, progress, version=1, reason="the second is rude", by="carol", run_id="run 4")
    assert champion(doubtful) == "1"
    people = [
        (kept.person, kept.by)
        for kept in Ledger(doubtful.storage, doubtful.application.name).gate_records()
        if kept.person
    ]
    carol = ("carol", "the second is rude")
    assert people[1:] == [("alice", "reviewed"), carol, ("bob", "not that rude"), carol]


def test_a_reason_counts_once(doubtful, progress):
    reason = {"version": 2, "reason": "reviewed", "by": "alice", "run_id": "run 1"}
    released(doubtful, progress, **reason)
    released(doubtful, progress, version=1, reason="the second is rude", by="carol", run_id="run 2")
    # Somebody clears the first run, from its beginning.
    with pytest.raises(BadInput, match=r"no release of version 2 .* that still counts"):
        released(doubtful, progress, **reason)
    assert champion(doubtful) == "1"


def test_a_reason_is_one_decision_however_often_its_job_is_tried(doubtful, progress):
    common = {"application": doubtful.application, "storage": doubtful.storage}
    spec = release.Spec(**common, reason="reviewed", by="alice", run_id="run 1")
    first, second = release.run(spec, progress), release.run(spec, progress)
    assert first == second
    people = [kept.person for kept in Ledger(doubtful.storage, doubtful.application.name).gate_records() if kept.person]
    assert people == ["alice", "alice"]  # that of the fixture, and this one


def test_the_gate_decides_anew_after_another_release(judged, progress):
    """What it decided before was never carried out, and is about a champion that has gone and come back since."""
    spec = judged()
    register.run(spec, progress)
    released(spec, progress)
    for seed in (2, 3):
        register.run(judged(seed=seed), progress)
    common = {"application": spec.application, "storage": spec.storage}
    assert release.run(release.Spec(**common, version=2), progress).released
    released(spec, progress, version=3)
    released(spec, progress, version=1, reason="the third is rude")
    assert champion(spec) == "1"
    released(spec, progress, version=2)
    assert champion(spec) == "2"


def test_a_version_that_does_not_exist_is_named(judged, progress):
    spec = judged()
    with pytest.raises(BadInput, match="has no version 7"):
        released(spec, progress, version=7)
