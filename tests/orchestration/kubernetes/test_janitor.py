"""What the janitor does with what it finds, and whose it never touches."""

from datetime import UTC, datetime, timedelta

import pytest

from nightshift.orchestration.kubernetes.janitor import LIVE, Leftover, fate_of

NOW = datetime(2026, 11, 25, 3, tzinfo=UTC)
TASK = ("pod_ingest", "run", "ingest", -1)


def thing(minutes: float = 60, ended_hours: float | None = None) -> Leftover:
    ended = None if ended_hours is None else NOW - timedelta(hours=ended_hours)
    return Leftover("Pod", "ingest-1", NOW - timedelta(minutes=minutes), ended, TASK)


@pytest.mark.parametrize("state", sorted(LIVE))
def test_what_a_live_task_waits_for_is_kept_however_old(state):
    assert fate_of(thing(minutes=10_000), state, NOW) == "keep"


@pytest.mark.parametrize("state", ["success", "failed", "skipped", "upstream_failed", "removed", None])
def test_what_nobody_waits_for_is_told_first_and_deleted_after_a_grace(state):
    assert fate_of(thing(minutes=9), state, NOW) == "report"
    assert fate_of(thing(minutes=11), state, NOW) == "delete"


@pytest.mark.parametrize("state", ["failed", "running"])
def test_a_pod_that_ended_stays_a_day_for_people_to_look_at(state):
    assert fate_of(thing(ended_hours=23), state, NOW) == "keep"
    assert fate_of(thing(ended_hours=25), state, NOW) == "delete"
