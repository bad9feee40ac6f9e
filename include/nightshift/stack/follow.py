"""Follows DAG runs to their end, with a line for whatever changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from nightshift.errors import JobError
from nightshift.stack.airflow_api import AirflowApi

POLL_SECONDS = 2.0
NEWS_SECONDS = 15.0
LOG_LINES = 15
QUIET = {None, "scheduled", "queued"}
ENDED = {"success", "failed"}
Say = Callable[[str], None]


class RunFailed(JobError):
    """A task of a followed run did not succeed; the text holds the end of its log and what to do."""


def follow(api: AirflowApi, dag: str, runs: Mapping[str, str], say: Say, timeout_seconds: float) -> None:
    """Wait until every run ended, saying each change of a task and, now and then, how far a job is.

    :param runs: how to call each run, by run id.
    :raises RunFailed: a task failed, or was skipped because of a verdict.
    """
    seen: dict[tuple[str, str], tuple[str | None, int]] = {}
    waiting = list(runs)
    deadline = time.monotonic() + timeout_seconds
    next_news = time.monotonic() + NEWS_SECONDS
    while waiting:
        states = {run["dag_run_id"]: run["state"] for run in api.runs(dag)}
        tell_news = time.monotonic() > next_news
        if tell_news:
            next_news = time.monotonic() + NEWS_SECONDS
        for run in list(waiting):
            tasks = api.tasks(dag, run)
            for task in sorted(tasks, key=lambda task: task["start_date"] or "9"):
                key, now = (run, task["task_id"]), (task["state"], task["try_number"])
                if seen.get(key) != now and task["state"] not in QUIET:
                    say(f"{runs[run]} {task['task_id']:<9} {_in_words(task)}")
                elif tell_news and task["state"] == "running" and (news := _news(api, dag, run, task)):
                    say(f"{runs[run]} {news}")
                seen[key] = now
            if states.get(run) in ENDED:
                waiting.remove(run)
                _require_success(api, dag, run, tasks)
        if waiting and time.monotonic() > deadline:
            raise RunFailed(
                f"{dag} is not done after {timeout_seconds:.0f} s; it goes on. Look at {api.page(dag, waiting[0])}, "
                "or `make run` again to go on waiting"
            )
        if waiting:
            time.sleep(POLL_SECONDS)


def _in_words(task: Mapping[str, Any]) -> str:
    state = str(task["state"]).replace("_", " ")
    if task["state"] == "success" and task["duration"] is not None:
        return f"success in {task['duration']:.1f} s"
    return f"{state} (try {task['try_number']})" if task["try_number"] > 1 else state


def _news(api: AirflowApi, dag: str, run: str, task: Mapping[str, Any]) -> str:
    """The last progress line of a job (`train: 40 of 117 steps · loss 0.82 · …`)."""
    lines = api.log_lines(dag, run, task["task_id"], task["try_number"])
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
    lines = api.log_lines(dag, run, task["task_id"], max(task["try_number"], 1))
    tail = "\n".join(f"    {line}" for line in lines[-LOG_LINES:])
    raise RunFailed(
        f"{dag}: the task {task['task_id']} of run {run} is {task['state'] or 'not started'}. The end of its log:\n"
        f"{tail}\n  the whole log: {api.page(dag, run, task['task_id'])}\n"
        "  What to do: put right what the log names, then `make run` again; it goes on where it stopped."
    )


def seconds_of(run: Mapping[str, Any]) -> float:
    """Return how long a DAG run took."""
    start, end = (datetime.fromisoformat(run[key].replace("Z", "+00:00")) for key in ("start_date", "end_date"))
    return (end - start).total_seconds()
