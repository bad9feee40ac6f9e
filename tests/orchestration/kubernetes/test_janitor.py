"""What the janitor does with what it finds, and whose it never touches."""

from datetime import UTC, datetime, timedelta

import pytest

from nightshift.orchestration.kubernetes.janitor import LIVE, Leftover, judged
from nightshift.orchestration.kubernetes.suspects import Suspects

NOW = datetime(2026, 11, 25, 3, tzinfo=UTC)
TASK = ("pod_ingest", "run", "ingest", -1)


def thing(minutes: float = 60, ended_hours: float | None = None, uid: str = "1") -> Leftover:
    ended = None if ended_hours is None else NOW - timedelta(hours=ended_hours)
    return Leftover("Pod", f"ingest-{uid}", uid, NOW - timedelta(minutes=minutes), ended, TASK)


@pytest.fixture
def look(tmp_path):
    """A function that looks at things as a run of the janitor does, and returns what is to happen to each."""
    suspects = Suspects(tmp_path.as_uri(), "gpus")

    def look(state, *things, minutes: float = 0) -> list[str]:
        found, suspected = judged(things, lambda *_: state, suspects.read(), NOW + timedelta(minutes=minutes))
        suspects.keep(suspected)
        return [fate for _, fate, _ in found]

    return look


@pytest.mark.parametrize("state", sorted(LIVE))
def test_what_a_live_task_waits_for_is_kept_however_old(look, state):
    assert look(state, thing(minutes=10_000)) == ["keep"]
    assert look(state, thing(minutes=10_000), minutes=10) == ["keep"]


@pytest.mark.parametrize("state", ["success", "failed", "skipped", "upstream_failed", "removed", None])
def test_what_nobody_waits_for_is_told_first_and_deleted_by_a_later_look(look, state):
    assert look(state, thing()) == ["report"]
    assert look(state, thing(), minutes=1) == ["report"]
    assert look(state, thing(), minutes=10) == ["delete"]


def test_one_wrong_answer_about_a_task_never_costs_a_pod_that_worked_for_hours(look):
    eight_hours = thing(minutes=480)
    assert look("deferred", eight_hours) == ["keep"]
    for minutes, state, fate in [(10, None, "report"), (20, "deferred", "keep"), (30, None, "report")]:
        assert look(state, eight_hours, minutes=minutes) == [fate]
    assert look(None, eight_hours, minutes=40) == ["delete"]


def test_another_pod_of_the_same_name_is_looked_at_anew(look):
    assert look("failed", thing(uid="1")) == ["report"]
    assert look("failed", thing(uid="2"), minutes=10) == ["report"]


def test_something_just_made_is_told_whatever_was_read_twice(look):
    assert look(None, thing(minutes=0)) == ["report"]
    assert look(None, thing(minutes=0), minutes=9) == ["report"]
    assert look(None, thing(minutes=0), minutes=19) == ["delete"]


@pytest.mark.parametrize("state", ["failed", "running"])
def test_a_pod_that_ended_stays_a_day_for_people_to_look_at(look, state):
    assert look(state, thing(ended_hours=23)) == ["keep"]
    assert look(state, thing(ended_hours=25)) == ["delete"]


def test_what_earlier_looks_kept_and_nobody_can_read_is_asked_for_anew(tmp_path, look):
    look("failed", thing())
    (file,) = (tmp_path / "janitor").rglob("*.json")
    file.write_text("{")
    assert look("failed", thing(), minutes=10) == ["report"]
