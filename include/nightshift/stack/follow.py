"""Follows DAG runs to their end, and prints a line for each change."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from nightshift.errors import JobError
from nightshift.stack.airflow_api import AirflowApi

POLL_SECONDS = 2.0
NEWS_SECONDS = 15.0
LOG_LINES = 15
QUIET = {None, "scheduled", "queued"}
ENDED = {"success", "failed"}
Say = Callable[[str], None]
Found = TypeVar("Found")


class RunFailed(JobError):
    """A task of a followed run did not succeed; the text holds the end of its log and what to do."""


class Follower:
    """Says each change of a task once and, now and then, how far a job is."""

    def __init__(self, api: AirflowApi, say: Say) -> None:
        self.api, self.say = api, say
        self._seen: dict[tuple[str, str, str, int], tuple[str | None, int]] = {}
        self._next_news = time.monotonic() + NEWS_SECONDS
        self._ended: set[tuple[str, str]] = set()

    def runs(self, dag: str, runs: Mapping[str, str], timeout_seconds: float, may_end_early: bool = False) -> None:
        """Wait until every run ended well.

        :param runs: how to call each run, by run id.
        :param may_end_early: a run that ends with skipped tasks ends well, too.
        :raises RunFailed: a task failed, or was skipped because of a verdict.
        """
        waiting = list(runs)
        deadline = time.monotonic() + timeout_seconds
        while True:
            states = {run["dag_run_id"]: run["state"] for run in self.api.runs(dag)}
            tell_news = self._time_for_news()
            for run in list(waiting):
                tasks = self._tell(dag, run, runs[run], tell_news)
                if states.get(run) in ENDED:
                    waiting.remove(run)
                    if not may_end_early or states[run] == "failed":
                        _require_success(self.api, dag, run, tasks)
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise _late(self.api, dag, waiting[0], timeout_seconds)
            time.sleep(POLL_SECONDS)

    def events(self, dag: str, name: str, reached: Callable[[], Found | None], timeout_seconds: float) -> Found:
        """Watch the runs that events start until `reached` finds what is waited for, and return it.

        A newest run that had failed before is started over: whatever was in its way is put right by now, or shows again.

        :param name: how to call these runs.
        :raises RunFailed: one of them failed.
        """
        deadline = time.monotonic() + timeout_seconds
        before = [run for run in self.api.runs(dag) if run["state"] in ENDED]
        self._ended.update((dag, run["dag_run_id"]) for run in before)
        if reached() is None and before and before[0]["state"] == "failed":
            self.api.clear(dag, before[0]["dag_run_id"])
            self._ended.discard((dag, before[0]["dag_run_id"]))
        while True:
            tell_news = self._time_for_news()
            run = ""
            for run, state in sorted((run["dag_run_id"], run["state"]) for run in self.api.runs(dag)):
                if (dag, run) in self._ended:
                    continue
                tasks = self._tell(dag, run, name, tell_news)
                if state in ENDED:
                    self._ended.add((dag, run))
                if state == "failed":
                    _require_success(self.api, dag, run, tasks)
            if (found := reached()) is not None:
                return found
            if time.monotonic() > deadline:
                raise _late(self.api, dag, run, timeout_seconds)
            time.sleep(POLL_SECONDS)

    def _time_for_news(self) -> bool:
        if time.monotonic() <= self._next_news:
            return False
        self._next_news = time.monotonic() + NEWS_SECONDS
        return True

    def _tell(self, dag: str, run: str, name: str, tell_news: bool) -> list[dict[str, Any]]:
        tasks = self.api.tasks(dag, run)
        for task in sorted(tasks, key=lambda task: task["start_date"] or "9"):
            key = (dag, run, task["task_id"], task["map_index"])
            now = (task["state"], task["try_number"])
            if self._seen.get(key) != now and task["state"] not in QUIET:
                self.say(f"{name} {task['task_id']:<10} {_in_words(task)}")
            elif tell_news and task["state"] == "running" and (news := _news(self.api, dag, run, task)):
                self.say(f"{name} {news}")
            self._seen[key] = now
        return tasks


def _late(api: AirflowApi, dag: str, run: str, seconds: float) -> RunFailed:
    where = api.page(dag, run) if run else f"the page of {dag}"
    return RunFailed(
        f"{dag} is not done after {seconds:.0f} s; it goes on. Look at {where}, or `make run` again to go on waiting"
    )


def _in_words(task: Mapping[str, Any]) -> str:
    state = str(task["state"]).replace("_", " ")
    if task["state"] == "success" and task["duration"] is not None:
        return f"success in {task['duration']:.1f} s"
    return f"{state} (try {task['try_number']})" if task["try_number"] > 1 else state


def _news(api: AirflowApi, dag: str, run: str, task: Mapping[str, Any]) -> str:
    """The last progress line of a job (`train: 40 of 117 steps · loss 0.82 · …`)."""
    lines = api.log_lines(dag, run, task["task_id"], task["try_number"], task["map_index"])
    name = f"{task['task_id']}: "
    return next((line for line in reversed(lines) if line.startswith(name) and " of " in line), "")


def succeeded(api: AirflowApi, dag: str, run: Mapping[str, Any]) -> bool:
    """Whether every task of a run succeeded; Airflow also calls a run a success whose tasks were skipped."""
    return run["state"] == "success" and all(task["state"] == "success" for task in api.tasks(dag, run["dag_run_id"]))


def _require_success(api: AirflowApi, dag: str, run: str, tasks: list[dict[str, Any]]) -> None:
    culprits = [task for task in tasks if task["state"] in {"failed", "skipped"}]
    if all(task["state"] == "success" for task in tasks):
        return
    task = min(culprits or tasks, key=lambda task: task["start_date"] or "9")
    lines = api.log_lines(dag, run, task["task_id"], max(task["try_number"], 1), task["map_index"])
    tail = "\n".join(f"    {line}" for line in lines[-LOG_LINES:])
    raise RunFailed(
        f"{dag}: the task {task['task_id']} of run {run} is {task['state'] or 'not started'}. The end of its log:\n"
        f"{tail}\n  the whole log: {api.page(dag, run, task['task_id'])}\n"
        "  What to do: put right what the log names, then `make run` again; it goes on where it stopped."
    )
