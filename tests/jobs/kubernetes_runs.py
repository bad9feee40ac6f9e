"""Runs of DAGs whose jobs are pods, as a person follows them."""

import pytest
from patience import wait_for


def state(api, dag: str, run: str) -> str:
    return next(row["state"] for row in api.runs(dag) if row["dag_run_id"] == run)


def ended(api, dag: str, run: str, seconds: float = 600) -> dict[str, dict]:
    """The task instances of a run, when it ended."""
    wait_for(lambda: state(api, dag, run) in {"success", "failed"}, seconds, f"{dag} {run} to end", every=1)
    return {task["task_id"]: task for task in api.tasks(dag, run)}


def log(api, dag: str, run: str, task: str, attempt: int = 1) -> str:
    """The log of one try of a task."""
    return "\n".join(api.log_lines(dag, run, task, attempt))


def said(api, dag: str, run: str, task: str, *, words: str, seconds: float, attempt: int = 1) -> str:
    """The log of a task, as soon as it says something."""

    def look() -> str:
        text = log(api, dag, run, task, attempt)
        return text if words in text else ""

    try:
        return wait_for(look, seconds, f"{words!r} in the log of {task}", every=1)
    except AssertionError:
        pytest.fail(f"{words!r} is not in the log after {seconds} s:\n{log(api, dag, run, task, attempt)}")
