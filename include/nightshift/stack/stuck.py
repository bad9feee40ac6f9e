"""Finds tasks that wait in a queue which nobody can read any more, and ends the scheduler that they wait for.

The workers of Airflow's LocalExecutor read one pipe, one after the other: whoever waits for the next task holds a lock. An
idle worker that is killed (SIGKILL, out of memory) takes the lock with it. The scheduler starts new workers, which wait for
the lock for ever, and is healthy in every other respect. A new scheduler makes a new queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psutil

from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.processes import Component, runs, stop

PATIENCE = timedelta(seconds=20)
# A new scheduler first takes over what the one before had queued.
STARTING = timedelta(seconds=30)
CONFIRM_SECONDS = 3.0
DRAIN_SECONDS = 20.0
WORKER = "airflow worker -- LocalExecutor:"  # followed by the id of the task instance, or
IDLE = "<idle>"


@dataclass(frozen=True)
class Task:
    """A task instance that is queued or runs."""

    id: str
    name: str
    run: str
    queued: bool
    since: datetime


@dataclass(frozen=True)
class Seen:
    """What a look at Airflow showed."""

    tasks: list[Task]
    workers: list[str]  # of each, the id of the task instance that it is at, or IDLE
    heartbeat: datetime | None
    scheduler_started: datetime


def stuck(seen: Seen) -> list[Task]:
    """Return the tasks that no worker takes although one is free.

    The scheduler's heartbeat is the clock: it comes after the executor was handed what is queued, so that a scheduler that
    is slow, hangs or was suspended with the machine makes no task look stuck.
    """
    at_work = set(seen.workers) & {task.id for task in seen.tasks}
    if seen.heartbeat is None or len(at_work) >= len(seen.workers):
        return []
    ready = seen.scheduler_started + STARTING
    return [
        task
        for task in seen.tasks
        if task.queued and task.id not in at_work and seen.heartbeat - max(task.since, ready) > PATIENCE
    ]


def stuck_tasks(api: AirflowApi, scheduler: Component) -> list[Task]:
    """Ask Airflow, and look at the scheduler's workers.

    :raises BadEnvironment: Airflow does not answer, or refuses.
    """
    if (leader := scheduler.leader()) is None:
        return []
    tasks = [
        Task(
            id=item["id"],
            name=f"{item['dag_id']}.{item['task_id']}" + (f"[{item['map_index']}]" if item["map_index"] >= 0 else ""),
            run=item["dag_run_id"],
            queued=item["state"] == "queued",
            since=datetime.fromisoformat(item["queued_when"]),
        )
        for item in api.tasks_in("queued", "running")
        if item["queued_when"]
    ]
    if not any(task.queued for task in tasks):
        return []
    started = datetime.fromtimestamp(leader.create_time(), UTC)
    seen = Seen(tasks, list(_workers(leader).values()), api.scheduler_heartbeat(), started)
    return stuck(seen)


def still_stuck_tasks(api: AirflowApi, scheduler: Component) -> list[Task]:
    """Return the tasks that are stuck in two looks, a moment apart: a worker may have been about to take one."""
    if not (first := stuck_tasks(api, scheduler)):
        return []
    time.sleep(CONFIRM_SECONDS)
    return [task for task in stuck_tasks(api, scheduler) if task in first]


def end_scheduler(scheduler: Component, go_on: Callable[[], bool]) -> None:
    """Let the scheduler leave in good order while tasks that run get a moment to finish; then end what is left.

    It waits for its workers, which would wait for the lock. A scheduler that left in good order says so in the database, and
    the next one takes its tasks over at once; of one that was killed it would not know for up to five minutes.
    """
    if leader := scheduler.leader():
        leader.terminate()
        deadline = time.monotonic() + DRAIN_SECONDS
        while runs(leader) and go_on() and time.monotonic() < deadline:
            for worker, task in _workers(leader).items():
                if task == IDLE:
                    with suppress(psutil.Error):
                        worker.kill()
            time.sleep(0.2)
    stop([scheduler])


def as_text(tasks: list[Task]) -> str:
    """Say what waits, since when."""
    first = min(tasks, key=lambda task: task.since)
    more = f" and {len(tasks) - 1} more" if len(tasks) > 1 else ""
    since = first.since.astimezone().strftime("%H:%M:%S")
    return f"{first.name} of run {first.run}{more} queued since {since}, and no worker takes it although one is free"


def _workers(leader: psutil.Process) -> dict[psutil.Process, str]:
    """The executor's worker processes, and what each is at."""
    found = {}
    with suppress(psutil.Error):
        for process in leader.children():
            with suppress(psutil.Error):
                title = " ".join(process.cmdline()).strip()
                if title.startswith(WORKER):
                    found[process] = title.removeprefix(WORKER).strip()
    return found
