"""The full sample, with all layers of the base model and all rows, as `make run SAMPLE=full` runs it."""

import os

import pytest

from nightshift.settings.project import PACKAGE
from nightshift.stack.airflow_api import AirflowApi
from nightshift.stack.place import this_place

TWO_HOURS = 7200
pytestmark = [pytest.mark.e2e, pytest.mark.nightly, pytest.mark.timeout(TWO_HOURS)]
FINETUNE, RELEASE = "banking_assistant_finetune", "banking_assistant_release"


@pytest.fixture(scope="module")
def full(tmp_path_factory, nightshift, unused_port):
    """The story of the full sample, run to its end in a stack of its own: Airflow's REST API, and what was said."""
    environment = {
        **os.environ,
        "NIGHTSHIFT_HOME": str(tmp_path_factory.mktemp("full")),
        "NIGHTSHIFT_PROJECT": str(PACKAGE / "samples" / "full"),
        "NIGHTSHIFT_AIRFLOW_PORT": str(unused_port()),
        "NIGHTSHIFT_MLFLOW_PORT": str(unused_port()),
    }
    try:
        run = nightshift("run --sample full", environment, timeout=TWO_HOURS)
        assert run.returncode == 0, run.stdout + run.stderr
        with AirflowApi(this_place(environment)) as api:
            yield api, run.stdout
    finally:
        nightshift("down --sample full", environment)


def test_the_first_champion_of_the_full_sample_is_as_good_as_its_page_says(full):
    scores = full[0].result(FINETUNE, "make-run-2026-11-05", "evaluate")["scores"]
    assert scores["base"]["exact_match"]["value"] <= 0.05
    assert scores["candidate"]["exact_match"]["value"] >= 0.85


def test_its_changed_nights_fail_and_one_retraining_recovers_what_is_new(full):
    api, said = full
    replays = [api.result(RELEASE, run["dag_run_id"], "replay") for run in api.runs(RELEASE)]
    (replay,) = [found for found in replays if found.get("night")]
    assert replay["verdict"] == "PASS", replay["reasons"]
    assert replay["parts"]["new"]["before"] < 0.1
    assert replay["parts"]["new"]["after"] > 0.7
    assert replay["parts"]["known"]["gain"] > -0.05
    dues = [api.result(FINETUNE, run["dag_run_id"], "due") for run in api.runs(FINETUNE)]
    assert [due["order"] for due in dues if due.get("order") is not None] == [1]
    assert "Where the time went" in said
