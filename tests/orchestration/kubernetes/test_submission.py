"""What a task remembers of its pods over retries, clears and waits."""

import re
from types import SimpleNamespace

import pytest
from upath import UPath

from nightshift.jobs.contract import JobSpec
from nightshift.orchestration.attempt import Attempt
from nightshift.orchestration.kubernetes.submission import name_of, recorded, submit, waiting
from nightshift.settings.applications import load_application
from nightshift.settings.job_names import JOBS


class Store(dict):
    def set(self, key, value, retention=None):
        self[key] = value


@pytest.fixture
def attempt(tmp_path):
    spec = JobSpec(application=load_application("banking_assistant"), storage=tmp_path.as_uri())
    return Attempt("train", spec, UPath(tmp_path.as_uri()) / "try-1")


def context(store: Store, *, tries: int = 2, run: str = "r") -> dict:
    ti = SimpleNamespace(dag_id="d", run_id=run, task_id="train", map_index=-1, try_number=1, max_tries=tries)
    return {"ti": ti, "task_state_store": store}


def test_a_task_that_asked_for_nothing_remembers_nothing():
    assert recorded(context(Store())) is None


def test_a_submission_is_remembered_under_a_name_that_no_try_changes(attempt):
    store = Store()
    submission = submit(attempt, None, context(store))
    assert recorded(context(store)) == submission
    assert submission.name == name_of("train", "banking_assistant", context(store)["ti"], 1)
    assert submission.result_uri == attempt.result_uri


def test_the_next_submission_has_another_name_and_keeps_count_of_interruptions(attempt):
    store = Store()
    first = submit(attempt, None, context(store)).model_copy(update={"interruptions": 3})
    second = submit(attempt, first, context(store))
    assert (second.number, second.interruptions) == (2, 3)
    assert second.name != first.name
    assert submit(attempt, second, context(store, tries=5)).interruptions == 0


def test_a_wait_counts_from_its_beginning(attempt):
    store = Store()
    first = waiting(submit(attempt, None, context(store)), context(store))
    assert waiting(first, context(store)).waits_since == first.waits_since == recorded(context(store)).waits_since


@pytest.mark.parametrize("application", ["a", "banking_assistant", "x" * 63, "a_very_long_name_that_ends_with_"])
def test_every_name_is_a_dns_label_with_room_for_the_index_of_a_node(application):
    name = name_of(max(JOBS, key=len), application, context(Store())["ti"], 999)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name)
    assert len(name) <= 52


def test_tasks_of_two_runs_never_share_a_name(attempt):
    store = Store()
    names = {name_of("train", "app", context(store, run=run)["ti"], 1) for run in ("a", "b", "a|b")}
    assert len(names) == 3
