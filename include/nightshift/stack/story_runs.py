"""The runs of an application's DAGs that a story waits for: those it starts, once each, and those that events start."""

from __future__ import annotations

from typing import Any

from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.follow import ENDED, Follower, RunFailed, succeeded

DATA_SECONDS, TRAINING_SECONDS = 1200, 1800
# What ends with skipped tasks where there is nothing to propose: an ordinary ending.
MAY_END_EARLY = {"search"}
FINETUNE_STEPS = ("snapshot", "train", "evaluate", "register")

Results = dict[str, dict[str, Any]]


class StoryRuns:
    """The DAGs of one application, by their names without the application's.

    :raises RunFailed: a task failed (every method that waits).
    :raises BadEnvironment: Airflow does not answer (every method).
    """

    def __init__(self, follower: Follower, application: str) -> None:
        self._follower, self._application = follower, application
        self.api: AirflowApi = follower.api
        self.say = follower.say

    def dag(self, name: str) -> str:
        """Return the id of a DAG."""
        return f"{self._application}_{name}"

    def unpause(self, *names: str) -> None:
        """Let DAGs hear the events that wake them; a paused one would not."""
        for name in names:
            self.api.unpause(self.dag(name))

    def done(
        self, name: str, days: list[str], tasks: tuple[str, ...], key: str | None = "day", seconds: float = DATA_SECONDS
    ) -> dict[str, Results]:
        """Have the runs of a DAG for these days done, and return the results by day and task."""
        if undone := self.begin(name, days, key):
            self._follower.runs(self.dag(name), {run_of(day): day for day in undone}, seconds, name in MAY_END_EARLY)
        else:
            self.say(f"{self.dag(name)}: {days[0]} to {days[-1]} are done already")
        return {day: {task: self.api.result(self.dag(name), run_of(day), task) for task in tasks} for day in days}

    def begin(self, name: str, days: list[str], key: str | None = "day") -> list[str]:
        """Start the runs of a DAG for the days that are not done, and return these days.

        Each is started as with the form: SQLite takes no backfill while other runs write.

        :param key: the field of the form that the day is; None: it has none.
        """
        dag = self.dag(name)
        known = {run["dag_run_id"]: run for run in self.api.runs(dag)}
        undone = [day for day in days if not (run := known.get(run_of(day))) or not self._succeeded(name, run)]
        begun = [day for day in undone if known.get(run_of(day), {"state": "failed"})["state"] in ENDED]
        if begun:
            self.say(f"{dag}: {', '.join(begun)}")
            self.api.unpause(dag)
        for day in begun:
            if run_of(day) in known:
                self.api.clear(dag, run_of(day))
            else:
                self.api.trigger(dag, run_of(day), {key: day} if key else {})
        return undone

    def is_done(self, name: str, day: str) -> bool:
        """Whether every task of the run of a day succeeded."""
        runs = self.api.runs(self.dag(name))
        return any(run["dag_run_id"] == run_of(day) and self._succeeded(name, run) for run in runs)

    def promoted(self, version: str) -> None:
        """Wait until a version is the champion.

        :raises RunFailed: its gate or its shadow holds it back.
        """

        def reached() -> dict[str, Any] | None:
            if (run := self._release_of(version)) is None:
                self._require_not_held_back(version)
            return run

        self._follower.events(self.dag("release"), "release    ", reached, DATA_SECONDS)

    def released(self, version: str) -> Results:
        """Wait for the end of the release of a version, and return its shadow and its replay."""

        def ended() -> Results | None:
            run = self._release_of(version)
            if run is None or run["state"] not in ENDED:
                return None
            return {
                task: self.api.result(self.dag("release"), run["dag_run_id"], task) for task in ("shadow", "replay")
            }

        return self._follower.events(self.dag("release"), "release    ", ended, DATA_SECONDS)

    def decided(self, version: str) -> Results:
        """Wait until the release of a version is decided, and return the decision and its shadow."""
        dag = self.dag("release")

        def reached() -> Results | None:
            for run in self.api.runs(dag):
                said = self.api.result(dag, run["dag_run_id"], "release") if run["state"] in ENDED else {}
                if said.get("version") == version:
                    return {"release": said, "shadow": self.api.result(dag, run["dag_run_id"], "shadow")}
            return None

        return self._follower.events(dag, "release    ", reached, DATA_SECONDS)

    def judged(self, intervals: list[str]) -> Results:
        """Wait until every night has a verdict of drift, and return them."""
        dag = self.dag("nightly_drift")

        def reached() -> Results | None:
            found: Results = {}
            for run in reversed(self.api.runs(dag)):
                if run["state"] in ENDED:
                    for interval in self.api.result(dag, run["dag_run_id"], "drift").get("nights", []):
                        found.setdefault(interval["night"], interval)
            return {interval: found[interval] for interval in intervals} if set(intervals) <= set(found) else None

        return self._follower.events(dag, "drift      ", reached, DATA_SECONDS)

    def ordered_training(self) -> Results:
        """Wait for the run that trains for an order of the ledger, and return its results."""
        dag = self.dag("finetune")

        def reached() -> Results | None:
            for run in self.api.runs(dag):
                due = self.api.result(dag, run["dag_run_id"], "due")
                if due.get("order") is not None and run["state"] == "success":
                    return {
                        "due": due,
                        **{task: self.api.result(dag, run["dag_run_id"], task) for task in FINETUNE_STEPS},
                    }
            return None

        return self._follower.events(dag, "retraining", reached, TRAINING_SECONDS)

    def _succeeded(self, name: str, run: dict[str, Any]) -> bool:
        if name in MAY_END_EARLY:
            return bool(run["state"] == "success")
        return succeeded(self.api, self.dag(name), run)

    def _release_of(self, version: str) -> dict[str, Any] | None:
        """The run that made a version the champion."""
        dag = self.dag("release")
        runs = (
            run
            for run in self.api.runs(dag)
            if self.api.result(dag, run["dag_run_id"], "promote").get("version") == version
        )
        return next(runs, None)

    def _require_not_held_back(self, version: str) -> None:
        dag = self.dag("release")
        for run in self.api.runs(dag):
            said = self.api.result(dag, run["dag_run_id"], "release") if run["state"] in ENDED else {}
            if said.get("version") == version and not said["released"] and said["request"] is None:
                reasons = "".join(f"\n    {reason}" for reason in said["reasons"])
                todo = (
                    f"trigger {dag} with this version and a reason to release it all the same"
                    if said["verdict"] == "WARN"  # the only verdict that a reason overrides
                    else f"correct the gate or the training in the application's file and trigger {dag}, or "
                    f"{self.dag('finetune')} for another candidate"
                )
                raise RunFailed(
                    f"{dag}: version {version} is not released, gate and shadow say {said['verdict']}:{reasons}\n"
                    f"  What to do: look at its page, {self.api.page(dag, run['dag_run_id'])}; {todo}; then `make run` again."
                )


def run_of(day: str) -> str:
    """Return the id of the run that a story starts for a day."""
    return f"make-run-{day}"
