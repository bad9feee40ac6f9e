"""A task is stuck when a worker is free and, a while of the scheduler's own time later, none has taken it."""

from datetime import UTC, datetime, timedelta

import pytest

from nightshift.stack.stuck import IDLE, PATIENCE, STARTING, Seen, Task, as_text, stuck

NIGHT = datetime(2026, 11, 4, 2, 0, tzinfo=UTC)
BOOT = NIGHT - timedelta(hours=5)
LONG = PATIENCE + timedelta(seconds=1)
FOUR_IDLE = [IDLE] * 4


def task(name: str, queued: bool = True, since: datetime = NIGHT) -> Task:
    return Task(id=f"id-of-{name}", name=name, run="night", queued=queued, since=since)


def seen(
    *tasks: Task, workers: list[str] = FOUR_IDLE, heartbeat: datetime | None = NIGHT + LONG, started: datetime = BOOT
) -> Seen:
    return Seen(tasks=list(tasks), workers=workers, heartbeat=heartbeat, scheduler_started=started)


def test_what_no_idle_worker_takes_is_stuck() -> None:
    alerts, audit = task("alerts"), task("audit")

    assert stuck(seen(alerts, audit)) == [alerts, audit]


def test_the_refilled_pool_does_not_hide_what_is_stuck_while_others_run() -> None:
    alerts, training = task("alerts"), task("training", queued=False)

    assert stuck(seen(alerts, training, workers=[training.id, IDLE, IDLE, IDLE])) == [alerts]


def test_what_was_queued_just_now_is_not_stuck() -> None:
    assert stuck(seen(task("alerts"), heartbeat=NIGHT + PATIENCE)) == []


def test_four_long_tasks_keep_the_fifth_waiting_and_that_is_right() -> None:
    busy = [task(f"training-{n}", queued=False) for n in range(4)]

    assert stuck(seen(task("alerts"), *busy, workers=[item.id for item in busy])) == []


def test_a_task_that_starts_slowly_is_not_stuck_as_a_worker_is_at_it() -> None:
    slow = task("slow")

    assert stuck(seen(slow, workers=[slow.id, IDLE, IDLE, IDLE])) == []


def test_workers_that_cannot_hand_in_the_result_of_what_ended_are_free_and_take_nothing() -> None:
    alerts = task("alerts")

    assert stuck(seen(alerts, workers=["ended-1", "ended-2", "ended-3", "ended-4"])) == [alerts]


def test_a_task_that_runs_is_never_stuck() -> None:
    assert stuck(seen(task("orphan", queued=False))) == []


@pytest.mark.parametrize("heartbeat", [None, NIGHT - timedelta(minutes=1), NIGHT + timedelta(seconds=2)])
def test_a_scheduler_that_does_not_beat_is_not_judged(heartbeat: datetime | None) -> None:
    assert stuck(seen(task("alerts"), heartbeat=heartbeat)) == []


def test_a_scheduler_that_has_just_started_first_takes_over_what_the_old_one_queued() -> None:
    left_over = task("left over", since=NIGHT - timedelta(hours=1))
    started = NIGHT

    assert stuck(seen(left_over, heartbeat=started + STARTING + PATIENCE, started=started)) == []
    assert stuck(seen(left_over, heartbeat=started + STARTING + LONG, started=started)) == [left_over]


def test_without_a_worker_in_sight_nothing_is_judged() -> None:
    assert stuck(seen(task("alerts"), workers=[])) == []


def test_a_person_reads_what_waits_longest_and_how_many_more() -> None:
    text = as_text([task("alerts.look", since=NIGHT + timedelta(minutes=1)), task("audit.collect")])

    assert text.startswith("audit.collect of run night and 1 more queued since ")
    assert text.endswith("and no worker takes it although one is free")
