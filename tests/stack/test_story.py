"""The stories of the samples do not wait for what will not come."""

from typing import Any, cast

import pytest

from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.follow import Follower, RunFailed
from nightshift.stack.story_runs import StoryRuns

RELEASE = "banking_assistant_release"

HELD = {
    "release": {
        "version": "2",
        "released": False,
        "request": None,
        "verdict": "WARN",
        "reasons": ["it lost 7.4 points"],
    }
}
RELEASED = {"release": {"version": "2", "released": True, "request": None}, "promote": {"version": "2"}}


class Releases:
    """What Airflow would say of the ended runs of the release DAG, newest first."""

    def __init__(self, *runs: dict[str, dict[str, Any]]) -> None:
        self._results = {f"run-{number}": results for number, results in enumerate(runs)}

    def runs(self, dag: str) -> list[dict[str, Any]]:
        assert dag == RELEASE
        return [{"dag_run_id": run, "state": "success"} for run in self._results]

    def result(self, _dag: str, run: str, task: str) -> dict[str, Any]:
        return self._results[run].get(task, {})

    def tasks(self, _dag: str, _run: str) -> list[dict[str, Any]]:
        return []

    def page(self, dag: str, run: str) -> str:
        return f"http://airflow/dags/{dag}/runs/{run}"


def story_runs(*runs: dict[str, dict[str, Any]]) -> StoryRuns:
    return StoryRuns(Follower(cast(AirflowApi, Releases(*runs)), lambda _text: None), "banking_assistant")


def test_a_candidate_that_the_gate_holds_back_ends_the_story_with_its_reasons_and_what_to_do() -> None:
    with pytest.raises(
        RunFailed, match=r"version 2 is not released, gate and shadow say WARN:\n    it lost 7.4 points"
    ) as held:
        story_runs(HELD).promoted("2")
    assert f"trigger {RELEASE} with this version and a reason" in str(held.value)


def test_a_candidate_that_no_reason_can_release_is_told_so() -> None:
    failed = {"release": {**HELD["release"], "verdict": "FAIL"}}
    with pytest.raises(RunFailed, match=r"gate and shadow say FAIL:\n    it lost 7.4 points") as held:
        story_runs(failed).promoted("2")
    assert "a reason" not in str(held.value)
    assert "correct the gate or the training in the application's file" in str(held.value)


def test_a_candidate_that_somebody_released_after_all_is_the_champion() -> None:
    story_runs(RELEASED, HELD).promoted("2")
