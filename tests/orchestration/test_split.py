"""A split of the traffic: a released candidate answers more and more of it, becomes the champion, or is stopped."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise

import pytest
import split_tasks
from airflow.sdk.exceptions import AirflowFailException
from ledger_intervals import planted
from release_tasks import registered
from split_tasks import NEW, OLD, SPLIT
from upath import UPath

from nightshift.alerts.alert import ResultAlerts
from nightshift.alerts.of_jobs import alerts_of
from nightshift.inference.prompts import Prompts, numbers_in_arm
from nightshift.jobs import register
from nightshift.ledger import orders, store
from nightshift.orchestration import promote, ramp, rollback
from nightshift.registry.rest import Mlflow
from nightshift.registry.versions import SPLIT_TAG, STATE_TAG
from nightshift.settings.applications import load_application
from nightshift.settings.split import Arm, Split
from nightshift.storage import partition
from nightshift.storage.manifest import require_manifest

pytestmark = pytest.mark.slow  # MLflow's server
split_run = split_tasks.split_run
# What writes, by what it is called: after each write of this name to this place a task is killed once.
WRITES = [
    (store, "create", lambda path, *_: path), (store, "announce", lambda _, path, *_more: path),
    (partition, "put", lambda *given: str(given[-1]).rpartition("/")[2]), (partition, "create", lambda path, *_: path),
    (Mlflow, "_post", lambda _, path, asked: f"{path} {asked.get('key')} {asked.get('value')}"),
]  # fmt: skip


class Killed(BaseException):
    """The end of a process: nothing catches it."""


def test_a_released_candidate_answers_more_and_more_of_the_traffic_and_then_becomes_the_champion(split_run, progress):
    assert split_run.promote()["version"] is None
    assert (split_run.champion, len(split_run.ledger.releases())) == ("1", 1)
    first = split_run.interval(progress)
    actions = [first[1]["action"]]
    while actions[-1] != "pass" and len(actions) < 9:
        actions.append(split_run.interval(progress)[1]["action"])
    assert actions.count("step") == 1
    assert actions[-1] == "pass"
    between, said = split_run.interval(progress)
    assert (between["challenger_rows"]["share"], said["action"]) == (0.5, "pass")  # nobody is sent back in between
    assert split_run.champion == "1"  # the release moves the alias, by the same code as ever
    assert split_run.release()["version"] == "2"
    assert split_run.champion == "2"
    assert [one.version for one in split_run.ledger.releases()] == ["1", "2"]

    by_new, by_old = split_run.told_of(NEW), split_run.told_of(OLD)
    assert all(earlier <= later for earlier, later in pairwise(by_new))  # whoever it answers stays
    assert all(not (new & old) and len(new | old) == split_tasks.USERS for new, old in zip(by_new, by_old, strict=True))
    assert json.loads(split_run.tag(SPLIT_TAG)) == {"share": 1.0}
    assert split_run.interval(progress)[0] == {}  # no split runs any more


def test_one_that_is_worse_is_stopped_and_returns_only_for_a_reason(split_run, progress):
    split_run.promote()
    _, said = split_run.interval(progress, champion=0.9, challenger=0.2)
    assert said["action"] == "stop"
    assert "exact match -" in said["reasons"][0]
    assert split_run.interval(progress)[0] == {}  # the champion answers alone from the next interval on
    assert "stopped in split 1" in split_run.decide().reasons[0]
    assert "was stopped" in split_run.promote()["reasons"][0]  # nor by the task of the run that released it
    assert (split_run.champion, split_run.tag(STATE_TAG)) == ("1", "stopped")


@pytest.mark.parametrize(
    ("rail", "column", "values"),
    [
        ("latency_ms: 500", "latency_ms", {OLD: 300.0, NEW: 900.0}),
        ("guard_rails: [polite]", "polite", {OLD: 1.0, NEW: 0.0}),
        ("cost_limit: 0.01", "cost", {OLD: 0.002, NEW: 0.008}),
        ("token_limit: 100", "generated_tokens", {OLD: 20.0, NEW: 80.0}),
    ],
)
def test_one_that_answers_late_costs_more_or_falls_in_an_own_scorer_is_stopped_however_right_it_is(
    split_run, progress, rail, column, values
):
    (split_run.file.parents[1] / "tone.py").write_text("def polite(rows):\n    return [1.0 for _ in rows]\n")
    scorers = "scorers: {polite: {function: 'tone:polite', kind: share}}\n"
    priced = "inference: {endpoint: {url: 'http://models/v1', model: m, price: {output: 2}}}\n"
    split_run.write(scorers + priced + SPLIT.replace("level: 0.2", f"level: 0.2, {rail}"))
    split_run.planted = {column: values}
    split_run.promote()
    _, said = split_run.interval(progress)
    assert said["action"] == "stop"
    assert split_run.ledger.split_end(1).result == "stopped"


def test_without_evidence_the_share_stays_and_people_are_told_after_the_intervals_that_they_chose(split_run, progress):
    split_run.write(SPLIT.replace("min_units: 20", "min_units: 200"))
    split_run.promote()
    said = [split_run.interval(progress)[1] for _ in range(3)]
    assert [(one["action"], one["share"], one["waited"]) for one in said] == [("hold", 0.3, day) for day in (1, 2, 3)]
    assert "too few answers" in said[-1]["reasons"][0]
    app = load_application("app")
    about = ResultAlerts(app, "here", {}, lambda _: "", "f", split_tasks.FIRST)
    assert [alerts_of("ramp", None, one, about) != [] for one in said] == [False, False, True]


def test_while_it_runs_nothing_is_retrained_and_no_second_candidate_is_released(split_run, progress):
    split_run.promote()
    night = planted(2, "FAIL").model_copy(update={"model_digest": OLD, "created": datetime.now(UTC)})
    decision = orders.evaluate(load_application("app"), split_run.ledger, night, datetime.now(UTC))
    assert (decision.action, decision.code) == ("none", "split")
    assert "version 2 answers 30% of the traffic beside version 1" in decision.reason
    told = split_run.decide()
    assert not told.released
    assert "there is one release at a time" in told.reasons[0]


def test_a_person_stops_it_by_a_rollback_and_the_champion_stays(split_run, progress):
    split_run.promote()
    split_run.interval(progress)
    for _ in range(2):  # cleared, it stops nothing twice
        assert split_run.roll_back()["version"] is None
    end = split_run.ledger.split_end(1)
    assert (end.result, end.by, end.explanation) == ("stopped", "olga", "olga stopped it: users complain")
    assert (split_run.champion, len(split_run.ledger.releases())) == ("1", 1)
    assert split_run.interval(progress)[0] == {}


def test_an_interval_that_is_answered_again_has_the_same_arms(split_run, progress):
    split_run.interval(progress)  # answered before the split
    split_run.promote()
    assert split_run.interval(progress, day=0)[0] == {}
    before, said = split_run.interval(progress)
    while said["action"] == "hold":
        said = split_run.interval(progress)[1]
    assert said["action"] == "step"
    again, said = split_run.interval(progress, day=1)
    assert again == before
    assert said["share"] == 0.5
    looks = split_run.ledger.looks(1)
    assert len({look.interval for look in looks}) == len(looks)


@pytest.mark.parametrize(("challenger", "ends"), [(0.2, "stopped"), (0.8, "passed")])
def test_a_decision_whose_task_never_came_back_is_carried_out_by_the_next_interval(
    split_run, progress, challenger, ends
):
    split_run.write(SPLIT.replace("[0.3, 0.5]", "[0.5]"))
    split_run.promote()
    followed = ramp._followed

    def killed(*given):
        if given[-1].action != "hold":
            raise Killed
        return followed(*given)

    with pytest.MonkeyPatch.context() as kill:
        kill.setattr(ramp, "_followed", killed)
        with suppress(Killed):
            for _ in range(9):
                split_run.interval(progress, champion=0.8, challenger=challenger)
    assert split_run.ledger.split_end(1) is None
    split_run.days += 1
    split_run.interval(progress)
    assert split_run.ledger.split_end(1).result == ends


def test_a_champion_that_somebody_changed_by_hand_ends_it(split_run, progress):
    split_run.promote()
    split_run.champion = "2"
    assert split_run.interval(progress)[0] == {}
    assert split_run.ledger.split_end(1).result == "withdrawn"
    assert json.loads(split_run.tag(SPLIT_TAG))["share"] == 0


def test_without_the_setting_it_ends_and_the_candidate_is_decided_about_as_before(split_run, progress):
    split_run.promote()
    split_run.write("")
    with pytest.raises(AirflowFailException):  # there is no evaluation here: it went on to that
        split_run.decide()
    assert split_run.ledger.split_end(1).result == "withdrawn"
    assert split_run.promote()["version"] == "2"


def test_killed_after_each_of_its_writes_it_goes_on_as_if_it_had_not_been(split_run, progress, monkeypatch):
    split_run.write(SPLIT.replace("[0.3, 0.5]", "[0.5]"))
    killed = set()

    def around(place, name, about):
        write = getattr(place, name)

        def written(*given, **named):
            done = write(*given, **named)
            if (what := f"{name} {about(*given)}") not in killed:
                killed.add(what)
                raise Killed
            return done

        monkeypatch.setattr(place, name, written)

    def insist(run, *given):
        for _ in range(20):
            with suppress(Killed):
                return run(*given)
        raise AssertionError("it does not come to an end")

    days = [split_run.prompts(day) for day in range(9)]
    for place, name, about in WRITES:
        around(place, name, about)
    insist(split_run.promote)
    for prompts in days:
        assigned = insist(split_tasks.called, ramp.assign, prompts)
        insist(split_run.answer, prompts, assigned, {"champion": 0.8, "challenger": 0.8})
        insist(split_run.compare, progress)
        if insist(split_tasks.called, ramp.ramp, assigned)["action"] == "pass":
            break
    decided = insist(split_run.decide).model_dump(mode="json")
    assert insist(split_tasks.called, promote.promote, decided)["version"] == "2"
    assert len(killed) > 15
    ledger = split_run.ledger
    assert [one.version for one in ledger.releases()] == ["1", "2"]
    assert len(ledger.splits()) == 1
    assert [look.waited for look in ledger.looks(1)] == list(range(1, days.index(prompts) + 2))
    assert split_run.tag(STATE_TAG) == "released"


def test_rows_that_are_to_be_erased_are_found_among_those_of_the_arm_that_answered_them(split_run):
    split_run.promote()
    prompts = split_run.prompts(0)
    assigned = split_tasks.called(ramp.assign, prompts)
    at = UPath(prompts["examples"])
    every = Prompts(at, require_manifest(at), split_run.file.parent)
    digests = every.read(0, every.rows - 1, ["digest"])["digest"].to_pylist()
    found = []
    for side in ("champion_rows", "challenger_rows"):
        arm = Prompts(at, require_manifest(at), split_run.file.parent, Arm(**assigned[side]))
        answered = arm.read(0, arm.rows - 1, ["digest"])["digest"].to_pylist()
        found += [answered[number] for number in numbers_in_arm(at, assigned[side], {3, 70, 141})]
    assert sorted(found) == sorted(digests[row] for row in (3, 70, 141))


def test_what_a_person_stopped_is_split_again_by_a_reason_alone_and_as_a_new_split(judged, progress, shown):
    app = registered(judged(seed=1, split=Split()), progress)
    assert app.run()[1]["version"] == "1"  # the first champion has nobody to share with
    register.run(judged(seed=2, split=Split()), progress)
    assert "version 2 answers 5% of the traffic beside version 1" in app.run()[1]["reasons"][0]
    given = {"reason": "users complain", "version": None}
    rollback.rollback.function(app.name, **split_tasks.context("back", user="olga", params=given))
    decision, moved = app.run()
    assert "version 2 was stopped in split 1" in decision.reasons[0]
    assert moved["version"] is None
    _, moved = app.run(version=2, reason="they were wrong", by="olga")
    assert "(split 2)" in moved["reasons"][0]
    assert (app.champion, app.released, app.tags("2")["release"]) == ("1", ["1"], "split")
    assert app.gate_records()[-1].person == "olga"
